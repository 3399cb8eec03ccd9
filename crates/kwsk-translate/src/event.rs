//! CloudEvents 1.0 over HTTP, binary and structured, and the event that a trigger's fire is.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kwsk_model::activation::ActivationId;
use kwsk_model::json::RawJson;
use kwsk_model::name::FullyQualifiedEntityName;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

/// The type of a fire.
pub const TRIGGER_TYPE: &str = "org.apache.openwhisk.trigger";
/// Extension: the transaction the fire belongs to.
pub const TRANSACTION: &str = "owtransid";
/// Extension: the subject whose key fired.
pub const USER: &str = "owuser";
/// The media type of one event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";

const JSON: &str = "application/json";
/// What the HTTP binding escapes in header values: space, quote, percent, everything outside printable ASCII.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
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

/// A request that is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEvent {
    /// An obligatory attribute is missing.
    #[error("the CloudEvent has no '{0}'")]
    Missing(&'static str),
    /// A version other than 1.x.
    #[error("CloudEvents version '{0}' is not supported")]
    Version(String),
    /// Structured mode without a JSON object, or with a broken member.
    #[error("the CloudEvent cannot be read: {0}")]
    Malformed(String),
    /// A batch.
    #[error("batches of CloudEvents are not supported")]
    Batch,
}

/// `/namespaces/<ns>/triggers/<name>`, both percent-encoded.
#[must_use]
pub fn source_of(trigger: &FullyQualifiedEntityName) -> String {
    let encode = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
    ["/namespaces/", &encode(trigger.namespace().as_str()), "/triggers/", &encode(trigger.name.as_str())]
        .concat()
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

/// True when a request with these headers is an event, in either mode. Names in any case.
pub fn is_event<'a>(mut headers: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    headers.any(|(name, value)| {
        name.eq_ignore_ascii_case("ce-specversion")
            || (name.eq_ignore_ascii_case("content-type") && is_cloudevents(value))
    })
}

fn is_cloudevents(media_type: &str) -> bool {
    media_type.trim_start().to_ascii_lowercase().starts_with("application/cloudevents")
}

impl CloudEvent {
    /// Binary mode: the headers, names in lower case, and the body.
    #[must_use]
    pub fn to_binary(&self) -> (Vec<(String, String)>, Vec<u8>) {
        let header = |name: &str, value: &str| {
            (["ce-", name].concat(), utf8_percent_encode(value, HEADER).to_string())
        };
        let mut headers = vec![
            header("specversion", "1.0"),
            header("id", &self.id),
            header("source", &self.source),
            header("type", &self.ty),
        ];
        headers.extend(self.time.iter().map(|time| header("time", time)));
        headers.extend(self.extensions.iter().map(|(name, value)| header(name, value)));
        headers.extend(self.content_type.iter().map(|value| ("content-type".to_owned(), value.clone())));
        let body = match &self.data {
            Data::None => Vec::new(),
            Data::Json(json) => json.get().as_bytes().to_vec(),
            Data::Text(text) => text.as_bytes().to_vec(),
            Data::Binary(bytes) => bytes.clone(),
        };
        (headers, body)
    }

    /// Structured mode: the JSON body of a request whose content type is [`STRUCTURED`].
    #[must_use]
    pub fn to_structured(&self) -> String {
        let mut map = Map::new();
        let mut set = |key: &str, value: Value| map.insert(key.to_owned(), value);
        set("specversion", "1.0".into());
        set("id", self.id.as_str().into());
        set("source", self.source.as_str().into());
        set("type", self.ty.as_str().into());
        if let Some(time) = &self.time {
            set("time", time.as_str().into());
        }
        for (name, value) in &self.extensions {
            set(name, value.as_str().into());
        }
        if let Some(content_type) = &self.content_type {
            set("datacontenttype", content_type.as_str().into());
        }
        match &self.data {
            Data::None => None,
            Data::Json(json) => set("data", json.to_value()),
            Data::Text(text) => set("data", text.as_str().into()),
            Data::Binary(bytes) => set("data_base64", BASE64.encode(bytes).into()),
        };
        Value::Object(map).to_string()
    }

    /// The event of a request, in either mode. Header names in any case; a repeated header counts once.
    ///
    /// # Errors
    /// [`NotAnEvent`] says what is missing or wrong.
    pub fn from_http<'a>(
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> Result<Self, NotAnEvent> {
        let mut attributes = BTreeMap::new();
        let mut content_type = None;
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if name == "content-type" {
                content_type = Some(value.to_owned());
            } else if let Some(attribute) = name.strip_prefix("ce-") {
                attributes.insert(attribute.to_owned(), header_text(value));
            }
        }
        if content_type.as_deref().is_some_and(is_cloudevents) {
            return Self::from_structured(content_type.as_deref().unwrap_or_default(), body);
        }
        let data = data_of(content_type.as_deref(), body);
        Self::from_attributes(attributes, content_type, data)
    }

    fn from_structured(media_type: &str, body: &[u8]) -> Result<Self, NotAnEvent> {
        if media_type.to_ascii_lowercase().contains("cloudevents-batch") {
            return Err(NotAnEvent::Batch);
        }
        let malformed = |why: &dyn std::fmt::Display| NotAnEvent::Malformed(why.to_string());
        let mut map: BTreeMap<String, RawJson> =
            serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        let data = map.remove("data");
        let base64 = map.remove("data_base64");
        let mut attributes = BTreeMap::new();
        for (name, value) in map {
            let text = match value.to_value() {
                Value::Null => continue,
                Value::String(text) => text,
                other @ (Value::Bool(_) | Value::Number(_)) => other.to_string(),
                Value::Array(_) | Value::Object(_) => {
                    return Err(NotAnEvent::Malformed(format!("'{name}' is neither text nor a number")));
                }
            };
            attributes.insert(name, text);
        }
        let content_type = attributes.remove("datacontenttype");
        let data = match (data, base64.map(|text| text.to_value())) {
            (_, Some(Value::String(text))) => {
                Data::Binary(BASE64.decode(text).map_err(|error| malformed(&error))?)
            }
            (_, Some(_)) => return Err(malformed(&"'data_base64' is not text")),
            (None, None) => Data::None,
            (Some(data), None) => match data.to_value() {
                // JSON's media types make a string a JSON string; any other media type makes it the text.
                Value::String(text) if !is_json(content_type.as_deref()) => Data::Text(text),
                _ => Data::Json(data),
            },
        };
        Self::from_attributes(attributes, content_type, data)
    }

    fn from_attributes(
        mut attributes: BTreeMap<String, String>,
        content_type: Option<String>,
        data: Data,
    ) -> Result<Self, NotAnEvent> {
        let mut take = |name: &'static str| {
            attributes.remove(name).filter(|value| !value.is_empty()).ok_or(NotAnEvent::Missing(name))
        };
        let version = take("specversion")?;
        if !version.starts_with("1.") {
            return Err(NotAnEvent::Version(version));
        }
        let (id, source, ty) = (take("id")?, take("source")?, take("type")?);
        let time = attributes.remove("time");
        Ok(Self { id, source, ty, time, content_type, extensions: attributes, data })
    }

    /// The arguments an action gets: the data when it is a JSON object, otherwise `{"data": …, "ce": {…}}` with binary
    /// data as base64 and all attributes.
    #[must_use]
    pub fn arguments(&self) -> RawJson {
        let data = match &self.data {
            Data::Json(json) if json.is_object() => return json.clone(),
            Data::None => return RawJson::empty_object(),
            Data::Json(json) => json.to_value(),
            Data::Text(text) => Value::from(text.as_str()),
            Data::Binary(bytes) => Value::from(BASE64.encode(bytes)),
        };
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
        let mut map = Map::new();
        map.insert("data".to_owned(), data);
        map.insert("ce".to_owned(), Value::Object(attributes));
        Value::Object(map).into()
    }
}

/// A missing media type is JSON, as the specification says of structured mode.
fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|text| {
        let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        media_type == JSON || media_type == "text/json" || media_type.ends_with("+json")
    })
}

fn data_of(content_type: Option<&str>, body: &[u8]) -> Data {
    if body.is_empty() {
        return Data::None;
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Data::Binary(body.to_vec());
    };
    match RawJson::parse(text.to_owned()) {
        Ok(json) if is_json(content_type) => Data::Json(json),
        _ if content_type.is_some_and(|t| t.trim_start().to_ascii_lowercase().starts_with("text/")) => {
            Data::Text(text.to_owned())
        }
        _ => Data::Binary(body.to_vec()),
    }
}

/// A header's value without quotes and percent-encoding, in that order.
fn header_text(value: &str) -> String {
    let value = value.trim();
    let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let plain = match quoted {
        Some(inner) => unescaped(inner),
        None => value.to_owned(),
    };
    percent_decode_str(&plain).decode_utf8_lossy().into_owned()
}

fn unescaped(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests;
