//! The HTTP binding and the JSON format: requests → events, events → requests.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kwsk_model::json::RawJson;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{CloudEvent, Data, JSON};

/// What the HTTP binding escapes in header values: space, quote, percent, everything outside printable ASCII.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// What the media types of structured mode and of batches begin with.
const FAMILY: &str = "application/cloudevents";
/// Attributes that the specification itself defines; their values are text.
const DEFINED: [&str; 8] =
    ["specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype"];

/// How a request carries events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in headers, data as the body.
    Binary,
    /// One event as the body.
    Structured,
    /// Any number of events as the body.
    Batch,
}

impl Mode {
    /// The mode of a request with this content type, and with a header `ce-specversion` or not; `None` when it is no
    /// event.
    #[must_use]
    pub fn of(content_type: Option<&str>, has_version: bool) -> Option<Self> {
        match content_type.and_then(format_of) {
            Some(format) if begins_with(format, "-batch") => Some(Self::Batch),
            Some(_) => Some(Self::Structured),
            None => has_version.then_some(Self::Binary),
        }
    }
}

/// A request that is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEvent {
    /// An obligatory attribute is missing.
    #[error("the CloudEvent has no '{0}'")]
    Missing(&'static str),
    /// A version other than 1.0.
    #[error("CloudEvents version '{0}' is not supported, only 1.0 is")]
    Version(String),
    /// The header of an attribute came more than once.
    #[error("the CloudEvent has more than one header '{0}'")]
    Repeated(String),
    /// An event format other than JSON.
    #[error("the CloudEvents format '{0}' is not supported, only JSON is")]
    Format(String),
    /// Structured mode without a JSON object, or with a broken member.
    #[error("the CloudEvent cannot be read: {0}")]
    Malformed(String),
    /// A batch.
    #[error("one CloudEvent is expected here, not a batch")]
    Batch,
}

/// A request that is no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotABatch {
    /// No JSON array.
    #[error("the batch of CloudEvents cannot be read: {0}")]
    Malformed(String),
    /// An event format other than JSON.
    #[error("the CloudEvents format '{0}' is not supported, only JSON is")]
    Format(String),
    /// More events than allowed.
    #[error("a batch may have {0} CloudEvents at most")]
    TooMany(usize),
    /// One of its events is none.
    #[error("event {index} of the batch: {cause}")]
    Event {
        /// Its place, counted from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        cause: NotAnEvent,
    },
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

    /// Structured mode: the JSON body of a request whose content type is [`STRUCTURED`](super::STRUCTURED). JSON data is
    /// copied as text.
    #[must_use]
    pub fn to_structured(&self) -> String {
        let mut text = String::with_capacity(256);
        text.push_str(r#"{"specversion":"1.0""#);
        let mut set = |name: &str, json: &str| {
            text.extend([",", &Value::from(name).to_string(), ":", json]);
        };
        let string = |value: &str| Value::from(value).to_string();
        set("id", &string(&self.id));
        set("source", &string(&self.source));
        set("type", &string(&self.ty));
        if let Some(time) = &self.time {
            set("time", &string(time));
        }
        for (name, value) in &self.extensions {
            set(name, &string(value));
        }
        if let Some(content_type) = &self.content_type {
            set("datacontenttype", &string(content_type));
        }
        match &self.data {
            Data::None => {}
            Data::Json(json) => set("data", json.get()),
            Data::Text(plain) => set("data", &string(plain)),
            Data::Binary(bytes) => set("data_base64", &string(&BASE64.encode(bytes))),
        }
        text.push('}');
        text
    }

    /// The JSON body of a request whose content type is [`BATCH`](super::BATCH).
    #[must_use]
    pub fn to_batch(events: &[Self]) -> String {
        let events: Vec<String> = events.iter().map(Self::to_structured).collect();
        ["[", &events.join(","), "]"].concat()
    }

    /// The event of a request in binary or structured mode. Header names in any case.
    ///
    /// # Errors
    /// [`NotAnEvent`] says what is missing or wrong.
    pub fn from_http<'a>(
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> Result<Self, NotAnEvent> {
        let (mut content_type, mut carried) = (None, Vec::new());
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("content-type") {
                if content_type.replace(value).is_some() {
                    return Err(NotAnEvent::Repeated("content-type".to_owned()));
                }
            } else if begins_with(name, "ce-") {
                carried.push((&name["ce-".len()..], value));
            }
        }
        match content_type.and_then(format_of) {
            Some(format) if begins_with(format, "-batch") => Err(NotAnEvent::Batch),
            Some(format) if is_json_format(format) => Self::from_structured(body),
            Some(_) => Err(NotAnEvent::Format(content_type.unwrap_or_default().to_owned())),
            None => Self::from_binary(&carried, content_type, body),
        }
    }

    /// The events of a batch, all of them good and at most `most`. `content_type` is the request's.
    ///
    /// # Errors
    /// [`NotABatch`] says what is wrong, and with which event.
    pub fn from_batch(content_type: &str, body: &[u8], most: usize) -> Result<Vec<Self>, NotABatch> {
        let of_batch = |format: &&str| begins_with(format, "-batch");
        let format = format_of(content_type).filter(of_batch).map(|format| &format["-batch".len()..]);
        if !format.is_some_and(is_json_format) {
            return Err(NotABatch::Format(content_type.to_owned()));
        }
        let malformed = |error: serde_json::Error| NotABatch::Malformed(error.to_string());
        let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(malformed)?;
        if events.len() > most {
            return Err(NotABatch::TooMany(most));
        }
        let event = |(index, event): (usize, &&RawValue)| {
            Self::from_structured(event.get().as_bytes()).map_err(|cause| NotABatch::Event { index, cause })
        };
        events.iter().enumerate().map(event).collect()
    }

    fn from_binary(
        carried: &[(&str, &str)],
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Self, NotAnEvent> {
        let mut attributes = BTreeMap::new();
        for (name, value) in carried {
            let name = name.to_ascii_lowercase();
            let value = header_text(value)
                .ok_or_else(|| NotAnEvent::Malformed(format!("the header 'ce-{name}' is no UTF-8")))?;
            if attributes.contains_key(&name) {
                return Err(NotAnEvent::Repeated(["ce-", &name].concat()));
            }
            attributes.insert(name, value);
        }
        let carried = attributes.remove("datacontenttype");
        let content_type = content_type.map(str::to_owned).or(carried);
        let data = data_of(content_type.as_deref(), body);
        Self::from_attributes(attributes, content_type, data)
    }

    fn from_structured(body: &[u8]) -> Result<Self, NotAnEvent> {
        let malformed = |why: &dyn std::fmt::Display| NotAnEvent::Malformed(why.to_string());
        let mut map: BTreeMap<String, RawJson> =
            serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        let data = map.remove("data");
        let base64 = map.remove("data_base64").filter(|text| text.get() != "null");
        let mut attributes = BTreeMap::new();
        for (name, value) in map {
            if let Some(text) = attribute_text(&name, &value)? {
                attributes.insert(name, text);
            }
        }
        let content_type = attributes.remove("datacontenttype");
        let data = match (data, base64.map(|text| text.to_value())) {
            (Some(_), Some(_)) => return Err(malformed(&"it has both 'data' and 'data_base64'")),
            (None, Some(Value::String(text))) => {
                let bytes = BASE64.decode(text).map_err(|error| malformed(&error))?;
                data_of(content_type.as_deref(), &bytes)
            }
            (None, Some(_)) => return Err(malformed(&"'data_base64' is not text")),
            (None, None) => Data::None,
            // JSON's media types make a string a JSON string; any other media type makes it the text.
            (Some(data), None) => match (is_json(content_type.as_deref()), text_of(&data)) {
                (false, Some(text)) => Data::Text(text),
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
        if version != "1.0" {
            return Err(NotAnEvent::Version(version));
        }
        let (id, source, ty) = (take("id")?, take("source")?, take("type")?);
        let time = attributes.remove("time");
        if let Some(name) = attributes.keys().find(|name| !is_attribute_name(name)) {
            return Err(NotAnEvent::Malformed(format!("no attribute can be named '{name}'")));
        }
        Ok(Self { id, source, ty, time, content_type, extensions: attributes, data })
    }
}

/// What follows [`FAMILY`], without parameters.
fn format_of(content_type: &str) -> Option<&str> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    begins_with(media_type, FAMILY).then(|| &media_type[FAMILY.len()..])
}

fn begins_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}

/// JSON is also the format when none is named.
fn is_json_format(format: &str) -> bool {
    format.is_empty() || format.eq_ignore_ascii_case("+json")
}

/// Lower-case letters and digits; `data` is not for attributes.
fn is_attribute_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    plain && !name.is_empty() && name != "data"
}

/// The value of an attribute in the JSON format as text; `null` is no value.
fn attribute_text(name: &str, value: &RawJson) -> Result<Option<String>, NotAnEvent> {
    let wrong = |what: &str| Err(NotAnEvent::Malformed(format!("'{name}' is not {what}")));
    match value.to_value() {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ if DEFINED.contains(&name) => wrong("text"),
        Value::Bool(truth) => Ok(Some(truth.to_string())),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => wrong("text, a whole number, true or false"),
    }
}

/// A missing media type is JSON, as the specification says of structured mode.
fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|text| {
        let media_type = text.split(';').next().unwrap_or_default().trim();
        let suffix = media_type.len().checked_sub("+json".len()).and_then(|at| media_type.get(at..));
        media_type.eq_ignore_ascii_case(JSON)
            || media_type.eq_ignore_ascii_case("text/json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
    })
}

fn data_of(content_type: Option<&str>, body: &[u8]) -> Data {
    if body.is_empty() {
        return Data::None;
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Data::Binary(body.to_vec());
    };
    if is_json(content_type) {
        // What calls itself JSON and is none is no text either: as text it would be read back as a JSON string.
        return RawJson::parse(text.to_owned()).map_or_else(|_| Data::Binary(body.to_vec()), Data::Json);
    }
    if is_text(content_type) { Data::Text(text.to_owned()) } else { Data::Binary(body.to_vec()) }
}

fn is_text(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|text| begins_with(text.trim_start(), "text/"))
}

/// The text of a JSON string.
fn text_of(json: &RawJson) -> Option<String> {
    if json.get().starts_with('"') { serde_json::from_str(json.get()).ok() } else { None }
}

/// A header's value without quotes and percent-encoding, in that order; `None` when that is no UTF-8.
fn header_text(value: &str) -> Option<String> {
    let value = value.trim();
    let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    match quoted {
        Some(inner) => decoded(&unescaped(inner)),
        None => decoded(value),
    }
}

fn unescaped(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}
