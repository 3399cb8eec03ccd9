//! What the official SDK reads in our events, and what we read in its: the JSON format, and batches of it.

use cloudevents::{Data as TheirData, Event, EventBuilder as _, EventBuilderV10};
use kwsk_model::json::RawJson;
use kwsk_translate::event::{self, CloudEvent, Data};
use serde_json::{Value, json};

fn ours(content_type: Option<&str>, data: Data) -> CloudEvent {
    let extensions = [("owuser", "guest"), ("subject", "s")];
    CloudEvent {
        id: "a-1".to_owned(),
        source: "/namespaces/guest/triggers/trigger".to_owned(),
        ty: event::TRIGGER_TYPE.to_owned(),
        time: Some("2024-01-01T00:00:00Z".to_owned()),
        content_type: content_type.map(str::to_owned),
        extensions: extensions.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        data,
    }
}

fn cases() -> Vec<CloudEvent> {
    let json = |value: Value| Data::Json(RawJson::from(value));
    vec![
        ours(None, Data::None),
        ours(Some("application/json"), json(json!({"a": [1, 2.5, null]}))),
        ours(Some("application/json"), json(json!("text"))),
        ours(Some("application/vnd.x+json"), json(json!([1]))),
        ours(Some("text/plain"), Data::Text("ä b".to_owned())),
        ours(Some("application/octet-stream"), Data::Binary(vec![0, 255, 1])),
    ]
}

fn bytes(data: Option<&TheirData>) -> Vec<u8> {
    match data {
        None => Vec::new(),
        Some(TheirData::Binary(bytes)) => bytes.clone(),
        Some(TheirData::String(text)) => text.as_bytes().to_vec(),
        Some(TheirData::Json(json)) => json.to_string().into_bytes(),
    }
}

/// The attributes in the JSON format.
fn attributes(event: &impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(event).unwrap();
    let map = value.as_object_mut().unwrap();
    map.retain(|name, value| !value.is_null() && name != "data" && name != "data_base64");
    value
}

fn assert_same(ours: &CloudEvent, theirs: &Event) {
    let own: Value = serde_json::from_str(&ours.to_structured()).unwrap();
    assert_eq!(attributes(theirs), attributes(&own));
    assert_eq!(bytes(theirs.data()), ours.to_binary().1, "{ours:?}");
}

#[test]
fn they_read_ours() {
    for event in cases() {
        assert_same(&event, &serde_json::from_str(&event.to_structured()).unwrap());
    }
    let batch: Vec<Event> = serde_json::from_str(&CloudEvent::to_batch(&cases())).unwrap();
    for (event, theirs) in cases().iter().zip(&batch) {
        assert_same(event, theirs);
    }
    assert_eq!(batch.len(), cases().len());
}

fn theirs() -> Vec<Event> {
    let base = || {
        EventBuilderV10::new()
            .id("7")
            .source("http://example.com/s")
            .ty("com.example.t")
            .time("2024-01-01T00:00:00Z")
            .extension("flag", true)
            .extension("number", 7)
    };
    vec![
        base().build().unwrap(),
        base().data("application/json", json!({"a": 1})).build().unwrap(),
        base().data("text/plain", "hi").build().unwrap(),
        base().data("application/xml", "<a/>").build().unwrap(),
        base().data("application/octet-stream", vec![0, 255]).build().unwrap(),
    ]
}

#[test]
fn we_read_theirs() {
    let read = |body: &str| {
        CloudEvent::from_http([("content-type", event::STRUCTURED)].into_iter(), body.as_bytes()).unwrap()
    };
    for event in theirs() {
        let ours = read(&serde_json::to_string(&event).unwrap());
        assert_eq!((ours.extensions["flag"].as_str(), ours.extensions["number"].as_str()), ("true", "7"));
        assert_eq!(ours.to_binary().1, bytes(event.data()));
    }
    let batch = serde_json::to_string(&theirs()).unwrap();
    assert_eq!(CloudEvent::from_batch(event::BATCH, batch.as_bytes(), 5).unwrap().len(), 5);
}
