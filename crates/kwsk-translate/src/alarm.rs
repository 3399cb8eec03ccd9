//! Alarms: a schedule that fires a trigger, as a `sources.knative.dev/v1 PingSource`.
//!
//! It covers `cron`, `timezone` and `trigger_payload` of upstream's alarms package. Start and stop dates and one-shot
//! alarms have no counterpart in Knative.

use kwsk_model::json::RawJson;
use kwsk_model::name::FullyQualifiedEntityName;

use crate::document::ResourceKind;
use crate::keys::{self, EntityKind};
use crate::manifest::destination::{Destination, KReference};
use crate::manifest::pingsource::{PingSource, PingSourceSpec};
use crate::names;

/// When a trigger fires by itself, and with what.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Five fields, or six with leading seconds; the webhook refuses others, so does LocalCluster.
    pub cron: String,
    /// IANA name; UTC when absent.
    pub timezone: Option<String>,
    /// A JSON object; `{}` when absent.
    pub payload: Option<RawJson>,
}

/// The source that fires `trigger`. It has the trigger's object name: a trigger has one alarm at most.
#[must_use]
pub fn to_pingsource(trigger: &FullyQualifiedEntityName, alarm: &Alarm) -> PingSource {
    let key = names::key(ResourceKind::PingSource, trigger);
    let channel = KReference::to_key(&names::key(ResourceKind::Channel, trigger), &key.namespace);
    let metadata = keys::metadata(key, EntityKind::Alarm, &trigger.local_name());
    let payload = alarm.payload.as_ref().map_or("{}", RawJson::get);
    let spec = PingSourceSpec {
        schedule: Some(alarm.cron.clone()),
        timezone: alarm.timezone.clone(),
        content_type: Some("application/json".to_owned()),
        data: Some(payload.to_owned()),
        sink: Destination::to(channel),
    };
    PingSource { metadata, spec, status: None }
}
