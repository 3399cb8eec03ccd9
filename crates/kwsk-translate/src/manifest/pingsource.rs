//! `sources.knative.dev/v1 PingSource`: an alarm.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::condition::Conditions;
use super::destination::Destination;
use crate::document::{Resource, ResourceKind};

/// A source that sends the same event on a schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PingSource {
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: PingSourceSpec,
    /// What there is; the controller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PingSourceStatus>,
}

impl Resource for PingSource {
    const KIND: ResourceKind = ResourceKind::PingSource;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PingSourceSpec {
    /// Cron: five fields, or six with leading seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// IANA name; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Of `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The event's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Who gets the events.
    #[serde(default)]
    pub sink: Destination,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PingSourceStatus {
    /// Generation and conditions.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// The resolved address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_uri: Option<String>,
}
