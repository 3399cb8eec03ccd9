//! CloudEvents that reach the shim without kwsk: what of them are arguments, and which activation they are.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use kwsk_model::activation::ActivationId;
use kwsk_model::json::RawJson;
use serde::Deserialize;
use serde_json::{Value, json};

/// An event's identity and its data as arguments.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) source: String,
    pub(crate) id: String,
    pub(crate) arguments: RawJson,
}

/// Why an event is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventError {
    #[error("The event has no {0}.")]
    Missing(&'static str),
    #[error("The event is not valid JSON.")]
    Malformed(#[source] serde_json::Error),
    #[error("The event's data is not valid UTF-8.")]
    NotText,
}

#[derive(Deserialize)]
struct Structured {
    id: Option<String>,
    source: Option<String>,
    data: Option<RawJson>,
    data_base64: Option<String>,
}

const STRUCTURED: &str = "application/cloudevents+json";

/// True for a CloudEvent in either mode.
pub(crate) fn is_event(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion") || is_structured(headers)
}

fn is_structured(headers: &HeaderMap) -> bool {
    text(headers, CONTENT_TYPE.as_str()).is_some_and(|t| t.starts_with(STRUCTURED))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads an event. Data that is an object or an array is the arguments; any other is their `data` field.
pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Event, EventError> {
    if is_structured(headers) {
        let event: Structured = serde_json::from_slice(body).map_err(EventError::Malformed)?;
        let source = event.source.ok_or(EventError::Missing("source"))?;
        let id = event.id.ok_or(EventError::Missing("id"))?;
        let arguments = match (event.data, event.data_base64) {
            (Some(data), _) => arguments(data),
            (None, Some(base64)) => json!({ "data_base64": base64 }).into(),
            (None, None) => RawJson::empty_object(),
        };
        return Ok(Event { source, id, arguments });
    }
    let source = text(headers, "ce-source").ok_or(EventError::Missing("source"))?.to_owned();
    let id = text(headers, "ce-id").ok_or(EventError::Missing("id"))?.to_owned();
    let body = std::str::from_utf8(body).map_err(|_| EventError::NotText)?;
    let is_json = text(headers, CONTENT_TYPE.as_str()).is_none_or(|t| t.contains("json"));
    let arguments = if body.is_empty() {
        RawJson::empty_object()
    } else if is_json {
        arguments(RawJson::parse(body.to_owned()).map_err(EventError::Malformed)?)
    } else {
        json!({ "data": body }).into()
    };
    Ok(Event { source, id, arguments })
}

fn arguments(data: RawJson) -> RawJson {
    if data.is_object() || data.is_array() { data } else { json!({ "data": data.to_value() }).into() }
}

/// The activation that `target` (`/ns/name` of a rule, or of the action itself) makes of the event.
pub(crate) fn activation_id(event: &Event, target: &str) -> Option<ActivationId> {
    let target = target.trim_start_matches('/').parse().ok()?;
    Some(ActivationId::of_rule(&event.source, &event.id, &target))
}

/// The value of a header that has to be text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    text(headers, name).filter(|value| !value.is_empty())
}

/// `{"error": message}`.
pub(crate) fn error_body(message: &str) -> Value {
    json!({ "error": message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter()
            .map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn both_modes() {
        let ce = [("ce-specversion", "1.0"), ("ce-source", "/s"), ("ce-id", "1")];
        let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
        let mut plain = ce.to_vec();
        plain.push(("content-type", "text/plain"));
        for (head, body, arguments) in [
            (&ce[..], r#"{"a":1}"#, json!({"a":1})),
            (&ce[..], "[1]", json!([1])),
            (&ce[..], "", json!({})),
            (&ce[..], "7", json!({"data":7})),
            (&plain[..], "hi", json!({"data":"hi"})),
            (&structured[..], r#"{"id":"1","source":"/s","data":{"a":1}}"#, json!({"a":1})),
            (
                &structured[..],
                r#"{"id":"1","source":"/s","data_base64":"AA=="}"#,
                json!({"data_base64":"AA=="}),
            ),
            (&structured[..], r#"{"id":"1","source":"/s"}"#, json!({})),
        ] {
            let head = headers(head);
            assert!(is_event(&head));
            let event = read(&head, body.as_bytes()).unwrap();
            assert_eq!((event.source.as_str(), event.id.as_str()), ("/s", "1"));
            assert_eq!(event.arguments.to_value(), arguments);
        }
    }

    #[test]
    fn refusals() {
        let structured = [("content-type", "application/cloudevents+json")];
        for (head, body) in [
            (&[("ce-specversion", "1.0"), ("ce-id", "1")][..], "{}"),
            (&[("ce-specversion", "1.0"), ("ce-source", "1")][..], "{}"),
            (&[("ce-specversion", "1.0"), ("ce-source", "1"), ("ce-id", "1")][..], "{"),
            (&structured[..], "{"),
            (&structured[..], r#"{"id":"1"}"#),
        ] {
            assert!(read(&headers(head), body.as_bytes()).is_err(), "{body}");
        }
        assert!(!is_event(&headers(&[("content-type", "application/json")])));
    }
}
