//! Vectors of the HTTP binding, and what is refused.

use super::*;

fn read(headers: &[(&str, &str)], body: &str) -> Result<CloudEvent, NotAnEvent> {
    CloudEvent::from_http(headers.iter().copied(), body.as_bytes())
}

const BASE: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];

fn with<'a>(more: &[(&'a str, &'a str)], body: &str) -> CloudEvent {
    let headers: Vec<(&str, &str)> = BASE.iter().copied().chain(more.iter().copied()).collect();
    read(&headers, body).unwrap()
}

#[test]
fn a_fire_on_the_wire() {
    let trigger = "guest/My Trigger".parse().unwrap();
    let id = ActivationId::from_bytes([1; 16]);
    let payload = RawJson::parse(r#"{"a":1}"#.to_owned()).unwrap();
    let event = trigger_event(&trigger, &id, "2024-01-01T00:00:00Z".to_owned(), "müller x", "tid", payload);
    let (headers, body) = event.to_binary();
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        lines,
        [
            "ce-specversion: 1.0",
            "ce-id: 01010101010101010101010101010101",
            "ce-source: /namespaces/guest/triggers/My%2520Trigger",
            "ce-type: org.apache.openwhisk.trigger",
            "ce-time: 2024-01-01T00:00:00Z",
            "ce-owtransid: tid",
            "ce-owuser: m%C3%BCller%20x",
            "content-type: application/json",
        ]
    );
    assert_eq!(body, br#"{"a":1}"#);
    assert_eq!(event.source, "/namespaces/guest/triggers/My%20Trigger");
}

#[test]
fn header_values() {
    let subject = |value| with(&[("Ce-Subject", value)], "").extensions["subject"].clone();
    for (value, text) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("plain", "plain"),
        (r#""quoted \"x\" %41""#, "quoted \"x\" A"),
        ("50%", "50%"),
        ("50%25", "50%"),
    ] {
        assert_eq!(subject(value), text);
    }
}

#[test]
fn bodies() {
    let data = |media_type, body| with(&[("Content-Type", media_type)], body).data;
    let json = |text: &str| Data::Json(RawJson::parse(text.to_owned()).unwrap());
    assert_eq!(data("application/json; charset=utf-8", "[1]"), json("[1]"));
    assert_eq!(data("application/vnd.x+json", "{}"), json("{}"));
    assert_eq!(data("application/json", "{"), Data::Binary(b"{".to_vec()));
    assert_eq!(data("text/plain", "{}"), Data::Text("{}".to_owned()));
    assert_eq!(data("application/xml", "<a/>"), Data::Binary(b"<a/>".to_vec()));
    assert_eq!(data("application/json", ""), Data::None);
    assert_eq!(with(&[], r#"{"a":1}"#).data, json(r#"{"a":1}"#));
}

#[test]
fn structured() {
    let body = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","n":7,"b":true,"nothing":null,
                   "datacontenttype":"text/plain","data":"x"}"#;
    let event = read(&[("content-type", "application/cloudevents+json; charset=utf-8")], body).unwrap();
    assert_eq!(event.data, Data::Text("x".to_owned()));
    assert_eq!(
        event.extensions,
        [("b".to_owned(), "true".to_owned()), ("n".to_owned(), "7".to_owned())].into()
    );
    let base64 = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"AP8="}"#;
    assert_eq!(read(&[("content-type", STRUCTURED)], base64).unwrap().data, Data::Binary(vec![0, 255]));
}

#[test]
fn arguments() {
    let shown = |media_type, body| with(&[("content-type", media_type)], body).arguments().get().to_owned();
    assert_eq!(shown("application/json", r#"{"b":1,"a":2}"#), r#"{"b":1,"a":2}"#);
    assert_eq!(shown("application/json", ""), "{}");
    assert_eq!(
        shown("text/plain", "hi"),
        r#"{"data":"hi","ce":{"id":"1","source":"/s","type":"t","datacontenttype":"text/plain"}}"#
    );
    assert!(shown("application/json", "[1]").starts_with(r#"{"data":[1],"ce":"#));
    assert!(shown("image/png", "x").starts_with(r#"{"data":"eA==","ce":"#));
}

#[test]
fn refusals() {
    let structured = [("content-type", STRUCTURED)];
    for (headers, body, text) in [
        (&BASE[1..], "", "the CloudEvent has no 'specversion'"),
        (&BASE[..1], "", "the CloudEvent has no 'id'"),
        (&BASE[..2], "", "the CloudEvent has no 'source'"),
        (&BASE[..3], "", "the CloudEvent has no 'type'"),
        (
            &[("ce-specversion", "0.3"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")][..],
            "",
            "CloudEvents version '0.3' is not supported",
        ),
        (&structured[..], "{}", "the CloudEvent has no 'specversion'"),
        (&structured[..], r#"{"x":{}}"#, "the CloudEvent cannot be read: 'x' is neither text nor a number"),
        (&structured[..], r#"{"data_base64":1}"#, "the CloudEvent cannot be read: 'data_base64' is not text"),
        (
            &[("content-type", "application/cloudevents-batch+json")][..],
            "[]",
            "batches of CloudEvents are not supported",
        ),
    ] {
        assert_eq!(read(headers, body).unwrap_err().to_string(), text);
    }
    assert!(matches!(read(&structured, "nonsense"), Err(NotAnEvent::Malformed(_))));
    assert!(!is_event([("content-type", "application/json"), ("ce-id", "1")].into_iter()));
}
