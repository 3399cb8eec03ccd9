//! `messaging.knative.dev/v1 Channel`: a trigger.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::condition::Conditions;
use super::destination::{Addressable, KReference};
use super::subscription::DeliverySpec;
use crate::document::{Resource, ResourceKind};

/// A channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted. Immutable once created, but for what Knative itself writes.
    #[serde(default)]
    pub spec: ChannelSpec,
    /// What there is; the controller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ChannelStatus>,
}

impl Resource for Channel {
    const KIND: ResourceKind = ResourceKind::Channel;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelSpec {
    /// Which implementation. kwsk never writes it: the cluster's default fills it, and it is immutable afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_template: Option<Map<String, Value>>,
    /// Inherited by subscriptions that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Generation and conditions.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// Where events are posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The backing channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<KReference>,
}
