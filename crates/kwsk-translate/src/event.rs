//! CloudEvents 1.0 over HTTP (binary, structured and in batches), the event that a trigger's fire is, and the one that
//! brings an activation home.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kwsk_model::activation::ActivationId;
use kwsk_model::json::RawJson;
use kwsk_model::name::FullyQualifiedEntityName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

mod activation;
mod http;

pub use activation::{ActivationNotice, NotAnActivation, activation_event, activation_of};
pub use http::{Mode, NotABatch, NotAnEvent};

/// The type of a fire.
pub const TRIGGER_TYPE: &str = "org.apache.openwhisk.trigger";
/// The type of an activation that is over.
pub const ACTIVATION_TYPE: &str = "dev.kwsk.activation";
/// Extension: the transaction the event belongs to.
pub const TRANSACTION: &str = "owtransid";
/// Extension: the subject whose key fired.
pub const USER: &str = "owuser";
/// Extension: the activation of the trigger that caused this one.
pub const CAUSE: &str = "owcause";
/// Extension: the rule that was fired, `ns/rule`, both percent-encoded.
pub const RULE: &str = "kwskrule";
/// The media type of one event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The media type of a batch.
pub const BATCH: &str = "application/cloudevents-batch+json";

const JSON: &str = "application/json";
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What an event carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing.
    None,
    /// JSON.
    Json(RawJson),
    /// Text.
    Text(String),
    /// Anything else.
    Binary(Vec<u8>),
}

/// One event. The specification version is always 1.0.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    /// Unique within the source.
    pub id: String,
    /// A URI reference.
    pub source: String,
    /// The type.
    pub ty: String,
    /// RFC 3339.
    pub time: Option<String>,
    /// Media type of the data.
    pub content_type: Option<String>,
    /// Every other attribute (`subject`, `dataschema`) and the extensions.
    pub extensions: BTreeMap<String, String>,
    /// The data.
    pub data: Data,
}

/// `/namespaces/<ns>/triggers/<name>`, both percent-encoded.
#[must_use]
pub fn source_of(trigger: &FullyQualifiedEntityName) -> String {
    let (namespace, name) = (encoded(trigger.namespace().as_str()), encoded(trigger.name.as_str()));
    ["/namespaces/", &namespace, "/triggers/", &name].concat()
}

fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// The event of a fire: `id` is the trigger's activation, `data` its parameters overlaid by the payload.
#[must_use]
pub fn trigger_event(
    trigger: &FullyQualifiedEntityName,
    id: &ActivationId,
    time_rfc3339: String,
    user: &str,
    transaction: &str,
    data: RawJson,
) -> CloudEvent {
    let extension = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    CloudEvent {
        id: id.as_str().to_owned(),
        source: source_of(trigger),
        ty: TRIGGER_TYPE.to_owned(),
        time: Some(time_rfc3339),
        content_type: Some(JSON.to_owned()),
        extensions: [extension(TRANSACTION, transaction), extension(USER, user)].into(),
        data: Data::Json(data),
    }
}

/// True when a request with these headers is an event or a batch of them. Names in any case.
pub fn is_event<'a>(mut headers: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    headers.any(|(name, value)| {
        name.eq_ignore_ascii_case("ce-specversion")
            || (name.eq_ignore_ascii_case("content-type") && Mode::of(Some(value), false).is_some())
    })
}

impl CloudEvent {
    /// The arguments an action gets: the data when it is a JSON object, otherwise `{"data": …, "ce": {…}}` with binary
    /// data as base64 and all attributes.
    #[must_use]
    pub fn arguments(&self) -> RawJson {
        let text;
        let data = match &self.data {
            Data::Json(json) if json.is_object() => return json.clone(),
            Data::None => return RawJson::empty_object(),
            Data::Json(json) => json.get(),
            Data::Text(plain) => {
                text = Value::from(plain.as_str()).to_string();
                &text
            }
            Data::Binary(bytes) => {
                text = Value::from(BASE64.encode(bytes)).to_string();
                &text
            }
        };
        let arguments = [r#"{"data":"#, data, r#","ce":"#, &self.attributes().to_string(), "}"].concat();
        RawJson::parse(arguments).unwrap_or_else(|_| RawJson::empty_object())
    }

    fn attributes(&self) -> Value {
        let mut attributes: Map<String, Value> =
            self.extensions.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let mut set = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                attributes.insert(name.to_owned(), value.into());
            }
        };
        set("id", Some(&self.id));
        set("source", Some(&self.source));
        set("type", Some(&self.ty));
        set("time", self.time.as_deref());
        set("datacontenttype", self.content_type.as_deref());
        Value::Object(attributes)
    }
}

#[cfg(test)]
mod tests;
