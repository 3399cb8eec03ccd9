//! `serving.knative.dev/v1 Service`. The bare word belongs to Kubernetes' own kind, hence the K.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::condition::Conditions;
use super::destination::Addressable;
use crate::document::{Resource, ResourceKind};

/// A Knative Service: an action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KService {
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: ServiceSpec,
    /// What there is; the controller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<KServiceStatus>,
}

impl Resource for KService {
    const KIND: ResourceKind = ResourceKind::KService;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Each change of it makes a new revision.
    #[serde(default)]
    pub template: RevisionTemplate,
    /// All to the latest revision when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

/// `spec.template`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RevisionTemplate {
    /// Labels and annotations of the revisions.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What runs.
    #[serde(default)]
    pub spec: RevisionSpec,
}

/// `spec.template.spec`: a pod's spec and four fields of Knative's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSpec {
    /// Containers, volumes, …
    #[serde(flatten)]
    pub pod: PodSpec,
    /// Requests at a time in one pod; 0 is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_concurrency: Option<i64>,
    /// Seconds, the whole request, cold start included; also the pod's grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// Seconds to the first byte of the answer; filled with 300 by Knative unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_start_timeout_seconds: Option<i64>,
    /// Seconds without a byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<i64>,
}

/// One entry of `spec.traffic` and `status.traffic`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficTarget {
    /// Follow the latest ready revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_revision: Option<bool>,
    /// A fixed revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_name: Option<String>,
    /// 0–100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// An address of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// That address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KServiceStatus {
    /// Generation and conditions.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// The public (or cluster-local) URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The in-cluster URL: what kwsk posts to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_created_revision_name: Option<String>,
    /// The newest usable revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ready_revision_name: Option<String>,
    /// Where requests go now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}
