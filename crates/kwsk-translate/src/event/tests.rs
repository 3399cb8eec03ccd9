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
        ("%41%5", "A%5"),
        (r#""""#, ""),
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
fn structured_data() {
    let json = |text: &str| Data::Json(RawJson::parse(text.to_owned()).unwrap());
    for (members, data) in [
        (r#""data":"x""#, json(r#""x""#)),
        (r#""data":{"a": 1.50}"#, json(r#"{"a": 1.50}"#)),
        (r#""data":null"#, json("null")),
        (r#""data":1,"data_base64":null"#, json("1")),
        (r#""datacontenttype":"application/xml","data":"<a/>""#, Data::Text("<a/>".to_owned())),
        (r#""datacontenttype":"application/xml","data":[1]"#, json("[1]")),
        (r#""datacontenttype":"Application/X+JSON; v=1","data":"x""#, json(r#""x""#)),
        // Base64 hides what binary mode would show: the same event gives the same data.
        (r#""data_base64":"eyJhIjoxfQ==""#, json(r#"{"a":1}"#)),
        (r#""datacontenttype":"text/plain","data_base64":"aGk=""#, Data::Text("hi".to_owned())),
        (r#""datacontenttype":"image/png","data_base64":"aGk=""#, Data::Binary(b"hi".to_vec())),
        (r#""data_base64":"""#, Data::None),
    ] {
        let body = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{members}}}"#);
        assert_eq!(read(&[("content-type", STRUCTURED)], &body).unwrap().data, data, "{members}");
    }
}

#[test]
fn json_is_copied_as_text() {
    let data = r#"{"n":123456789012345678901234567890,"a":[1.0]}"#;
    let body = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#);
    let event = read(&[("content-type", STRUCTURED)], &body).unwrap();
    assert_eq!(event.arguments().get(), data);
    assert!(event.to_structured().contains(data));
}

#[test]
fn modes() {
    for (content_type, version, mode) in [
        (None, false, None),
        (None, true, Some(Mode::Binary)),
        (Some("application/json"), true, Some(Mode::Binary)),
        (Some("application/json"), false, None),
        (Some("application/cloudevents+json"), false, Some(Mode::Structured)),
        (Some(" Application/CloudEvents+JSON;charset=utf-8"), true, Some(Mode::Structured)),
        (Some("application/cloudevents"), false, Some(Mode::Structured)),
        (Some("application/cloudevents+avro"), false, Some(Mode::Structured)),
        (Some("application/cloudevents-batch+json"), true, Some(Mode::Batch)),
        (Some("application/cloudevents-batch; charset=utf-8"), true, Some(Mode::Batch)),
        (Some("application/cloudéé"), false, None),
    ] {
        assert_eq!(Mode::of(content_type, version), mode, "{content_type:?}");
    }
}

#[test]
fn refusals() {
    let structured = [("content-type", STRUCTURED)];
    let twice = [&BASE[..], &[("Ce-Id", "2")]].concat();
    let types = [&BASE[..], &[("content-type", "a/b"), ("Content-Type", "a/b")]].concat();
    let odd_name = [&BASE[..], &[("ce-my-ext", "2")]].concat();
    let data = [&BASE[..], &[("ce-data", "2")]].concat();
    let not_utf8 = [&BASE[..], &[("ce-subject", "%ff")]].concat();
    for (headers, body, text) in [
        (&BASE[1..], "", "the CloudEvent has no 'specversion'"),
        (&BASE[..1], "", "the CloudEvent has no 'id'"),
        (&BASE[..2], "", "the CloudEvent has no 'source'"),
        (&BASE[..3], "", "the CloudEvent has no 'type'"),
        (
            &[("ce-specversion", "0.3"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")][..],
            "",
            "CloudEvents version '0.3' is not supported, only 1.0 is",
        ),
        (
            &[("ce-specversion", "1.0"), ("ce-id", ""), ("ce-source", "s"), ("ce-type", "t")][..],
            "",
            "the CloudEvent has no 'id'",
        ),
        (&twice[..], "", "the CloudEvent has more than one header 'ce-id'"),
        (&types[..], "", "the CloudEvent has more than one header 'content-type'"),
        (&odd_name[..], "", "the CloudEvent cannot be read: no attribute can be named 'my-ext'"),
        (&data[..], "", "the CloudEvent cannot be read: no attribute can be named 'data'"),
        (&not_utf8[..], "", "the CloudEvent cannot be read: the header 'ce-subject' is no UTF-8"),
        (&structured[..], "{}", "the CloudEvent has no 'specversion'"),
        (&structured[..], r#"{"data_base64":1}"#, "the CloudEvent cannot be read: 'data_base64' is not text"),
        (
            &structured[..],
            r#"{"data":null,"data_base64":""}"#,
            "the CloudEvent cannot be read: it has both 'data' and 'data_base64'",
        ),
        (&structured[..], r#"{"id":7}"#, "the CloudEvent cannot be read: 'id' is not text"),
        (&structured[..], r#"{"subject":true}"#, "the CloudEvent cannot be read: 'subject' is not text"),
        (
            &[("content-type", "application/cloudevents+avro")][..],
            "",
            "the CloudEvents format 'application/cloudevents+avro' is not supported, only JSON is",
        ),
        (&[("content-type", BATCH)][..], "[]", "one CloudEvent is expected here, not a batch"),
    ] {
        assert_eq!(read(headers, body).unwrap_err().to_string(), text);
    }
    for value in ["{}", "[1]", "1.5", "1e3"] {
        let error = read(&structured, &format!(r#"{{"x":{value}}}"#)).unwrap_err().to_string();
        let text = "the CloudEvent cannot be read: 'x' is not text, a whole number, true or false";
        assert_eq!(error, text, "{value}");
    }
    for body in ["nonsense", "[]", "", "\u{feff}{}"] {
        assert!(matches!(read(&structured, body), Err(NotAnEvent::Malformed(_))), "{body}");
    }
    let not_base64 = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"?"}"#;
    assert!(matches!(read(&structured, not_base64), Err(NotAnEvent::Malformed(_))));
    assert!(!is_event([("content-type", "application/json"), ("ce-id", "1")].into_iter()));
}

#[test]
fn batches() {
    let one = |id: &str| format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"}}"#);
    let batch = |body: &str| CloudEvent::from_batch(BATCH, body.as_bytes(), 3);
    let ids = |body: &str| batch(body).unwrap().into_iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(ids("[]"), [""; 0]);
    assert_eq!(ids(&format!("[{}, {} ]", one("b"), one("a"))), ["b", "a"]);
    let four = [one("1"), one("2"), one("3"), one("4")].join(",");
    for (body, text) in [
        (format!("[{four}]"), "a batch may have 3 CloudEvents at most"),
        (format!("[{},{{}}]", one("1")), "event 1 of the batch: the CloudEvent has no 'specversion'"),
        (
            format!("[{},[]]", one("1")),
            "event 1 of the batch: the CloudEvent cannot be read: invalid type: sequence, expected a map at line 1 column 0",
        ),
    ] {
        assert_eq!(batch(&body).unwrap_err().to_string(), text);
    }
    for body in ["", "{}", "[", "[{]", &one("1")] {
        assert!(matches!(batch(body), Err(NotABatch::Malformed(_))), "{body}");
    }
    for format in ["application/cloudevents-batch+avro", STRUCTURED, "application/json"] {
        assert_eq!(
            CloudEvent::from_batch(format, b"[]", 3),
            Err(NotABatch::Format(format.to_owned())),
            "{format}"
        );
    }
    assert_eq!(CloudEvent::from_batch("application/cloudevents-batch", b"[]", 3), Ok(Vec::new()));
}

fn notice() -> ActivationNotice {
    ActivationNotice {
        id: ActivationId::from_bytes([2; 16]),
        action: "guest/my pkg/a&b".parse().unwrap(),
        time: Some("2024-01-01T00:00:00Z".to_owned()),
        transaction: Some("tid".to_owned()),
        user: Some("guest".to_owned()),
        cause: Some(ActivationId::from_bytes([1; 16])),
        rule: Some("my ns/a rule".parse().unwrap()),
        report: RawJson::parse(r#"{"runMs":1}"#.to_owned()).unwrap(),
    }
}

#[test]
fn an_activation_on_the_wire() {
    let (headers, body) = activation_event(notice()).to_binary();
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        lines,
        [
            "ce-specversion: 1.0",
            "ce-id: 02020202020202020202020202020202",
            "ce-source: /namespaces/guest/actions/my%2520pkg/a%2526b",
            "ce-type: dev.kwsk.activation",
            "ce-time: 2024-01-01T00:00:00Z",
            "ce-kwskrule: my%2520ns/a%2520rule",
            "ce-owcause: 01010101010101010101010101010101",
            "ce-owtransid: tid",
            "ce-owuser: guest",
            "content-type: application/json",
        ]
    );
    assert_eq!(body, br#"{"runMs":1}"#);
    let bare = ActivationNotice {
        action: "guest/a".parse().unwrap(),
        time: None,
        transaction: None,
        user: None,
        cause: None,
        rule: None,
        ..notice()
    };
    let event = activation_event(bare.clone());
    assert_eq!((event.source.as_str(), event.extensions.len()), ("/namespaces/guest/actions/a", 0));
    assert_eq!(activation_of(&event), Ok(bare));
}

#[test]
fn what_is_no_activation() {
    let changed = |change: &dyn Fn(&mut CloudEvent)| {
        let mut event = activation_event(notice());
        change(&mut event);
        activation_of(&event).unwrap_err().to_string()
    };
    let extend = |name: &'static str, value: &'static str| {
        move |event: &mut CloudEvent| drop(event.extensions.insert(name.to_owned(), value.to_owned()))
    };
    assert_eq!(changed(&|e| e.ty = "t".to_owned()), "an event of type 't' is no activation");
    assert_eq!(
        changed(&|e| e.id = "7".to_owned()),
        "the activation's event has the 'id' '7': Activation id length is 1 but must be 32."
    );
    assert_eq!(
        changed(&extend(CAUSE, "x")),
        "the activation's event has the 'owcause' 'x': Activation id length is 1 but must be 32."
    );
    for rule in ["a", "a/b/c", "/b", "a/%ff", "a/b%2Fc"] {
        let text = format!("the activation's event has the 'kwskrule' '{rule}', which names no rule");
        assert_eq!(changed(&extend(RULE, rule)), text);
    }
    for source in [
        "",
        "/s",
        "/namespaces/a",
        "/namespaces/a/triggers/b",
        "/namespaces//actions/b",
        "/namespaces/a/actions/",
        "/namespaces/a/actions/b/c/d",
        "/namespaces/a/actions/b%2Fc",
        "namespaces/a/actions/b",
    ] {
        let text = format!("the activation's event has the 'source' '{source}', which names no action");
        assert_eq!(changed(&|e| e.source = source.to_owned()), text);
    }
    for data in [Data::None, Data::Json(RawJson::from(Value::from(1))), Data::Text("{}".to_owned())] {
        assert_eq!(changed(&|e| e.data = data.clone()), "the activation's event carries no JSON object");
    }
}
