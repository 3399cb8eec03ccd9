//! CloudEvents survive both encodings, and pauses grow.

use std::collections::BTreeMap;

use kwsk_model::json::RawJson;
use kwsk_translate::delivery::{DeliveryPlan, MAX_BACKOFF};
use kwsk_translate::event::{self, ActivationNotice, CloudEvent, Data};
use kwsk_translate::manifest::subscription::{BackoffPolicy, DeliverySpec};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategies as any_;

fn data() -> impl Strategy<Value = (Option<String>, Data)> {
    let text = |t: &str| Some(t.to_owned());
    prop_oneof![
        Just((None, Data::None)),
        any_::json().prop_map(move |json| (text("application/json"), Data::Json(RawJson::from(json)))),
        ".{1,9}".prop_map(move |it| (text("text/plain"), Data::Text(it))),
        vec(any::<u8>(), 1..9).prop_map(move |it| (text("application/octet-stream"), Data::Binary(it))),
    ]
}

fn cloud_event() -> impl Strategy<Value = CloudEvent> {
    let extensions = vec(("x[a-z0-9]{1,9}", "\\PC{1,8}"), 0..4);
    let time = proptest::option::of(Just("2024-01-01T00:00:00Z".to_owned()));
    ("\\PC{1,8}", "/[a-z%]{1,8}", "[a-z.]{1,8}", time, extensions, data()).prop_map(
        |(id, source, ty, time, extensions, (content_type, data))| CloudEvent {
            id: id.trim().replace(char::is_whitespace, "_") + "i",
            source,
            ty,
            time,
            content_type,
            extensions: extensions.into_iter().collect::<BTreeMap<_, _>>(),
            data,
        },
    )
}

fn borrowed(headers: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn binary_mode(it in cloud_event()) {
        let (mut headers, body) = it.to_binary();
        prop_assert!(headers.iter().all(|(_, value)| value.bytes().all(|b| (0x20..0x7f).contains(&b))));
        headers.push(("x-request-id".to_owned(), "t".to_owned()));
        let shouted: Vec<_> = headers.iter().map(|(n, v)| (n.to_uppercase(), v.clone())).collect();
        prop_assert!(event::is_event(borrowed(&shouted)));
        prop_assert_eq!(CloudEvent::from_http(borrowed(&headers), &body).unwrap(), it.clone());
        prop_assert_eq!(CloudEvent::from_http(borrowed(&shouted), &body).unwrap(), it);
    }

    #[test]
    fn structured_mode(it in cloud_event()) {
        let body = it.to_structured();
        let headers = [("Content-Type".to_owned(), format!("{}; charset=UTF-8", event::STRUCTURED))];
        prop_assert!(event::is_event(borrowed(&headers)));
        prop_assert_eq!(CloudEvent::from_http(borrowed(&headers), body.as_bytes()).unwrap(), it);
    }

    #[test]
    fn batch_mode(events in vec(cloud_event(), 0..4)) {
        let body = CloudEvent::to_batch(&events);
        prop_assert_eq!(CloudEvent::from_batch(event::BATCH, body.as_bytes(), 4).unwrap(), events);
    }

    #[test]
    fn an_activation(
        id in any_::activation_id(),
        action in any_::fqn(),
        rule in proptest::option::of(any_::unpackaged()),
        cause in proptest::option::of(any_::activation_id()),
        texts in (proptest::option::of("[!-~]{1,9}"), proptest::option::of("[!-~é€]{1,9}")),
        report in any_::object(),
    ) {
        let (transaction, user) = texts;
        let time = Some("2024-01-01T00:00:00Z".to_owned());
        let report = RawJson::from(report);
        let notice = ActivationNotice { id, action, time, transaction, user, cause, rule, report };
        let (headers, body) = event::activation_event(notice.clone()).to_binary();
        let read = CloudEvent::from_http(borrowed(&headers), &body).unwrap();
        prop_assert_eq!(event::activation_of(&read).unwrap(), notice);
    }

    #[test]
    fn arguments_are_objects(it in cloud_event()) {
        let arguments = it.arguments();
        prop_assert!(arguments.is_object());
        match &it.data {
            Data::Json(json) if json.is_object() => prop_assert_eq!(json, &arguments),
            Data::None => prop_assert_eq!(arguments.get(), "{}"),
            Data::Json(_) | Data::Text(_) | Data::Binary(_) => {
                prop_assert_eq!(&arguments.to_value()["ce"]["id"], &serde_json::Value::from(it.id));
            }
        }
    }

    #[test]
    fn nothing_makes_the_reader_panic(name in "(ce-)?[a-z]{0,12}", value in "\\PC{0,12}", body in vec(any::<u8>(), 0..20)) {
        for media_type in ["application/cloudevents+json", "application/json", "text/plain"] {
            let headers = [("ce-specversion", "1.0"), ("content-type", media_type), (name.as_str(), value.as_str())];
            drop(CloudEvent::from_http(headers.into_iter(), &body));
            drop(CloudEvent::from_batch(media_type, &body, 3));
        }
    }

    #[test]
    fn pauses_never_shrink(seconds in 0..1000_u64, exponential in any::<bool>(), attempt in any::<u32>()) {
        let policy = if exponential { BackoffPolicy::Exponential } else { BackoffPolicy::Linear };
        let plan = DeliveryPlan::from(&DeliverySpec {
            backoff_policy: Some(policy),
            backoff_delay: Some(format!("PT{seconds}S")),
            ..DeliverySpec::default()
        });
        prop_assert!(plan.backoff(attempt) <= plan.backoff(attempt.saturating_add(1)));
        prop_assert!(plan.backoff(attempt) <= MAX_BACKOFF);
    }

    #[test]
    fn a_fire(name in any_::unpackaged(), id in any_::activation_id(), payload in any_::object()) {
        let time = "2024-01-01T00:00:00Z".to_owned();
        let it = event::trigger_event(&name, &id, time, "guest", "tid", RawJson::from(&payload));
        let (headers, body) = it.to_binary();
        let read = CloudEvent::from_http(borrowed(&headers), &body).unwrap();
        prop_assert_eq!(read.arguments().to_value(), payload);
        prop_assert_eq!(read.id, id.as_str());
        prop_assert!(!read.source.contains(' '));
        prop_assert_eq!(read.extensions[event::USER].as_str(), "guest");
    }
}
