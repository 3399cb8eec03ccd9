//! The tables of states: what a status says, and what follows from it.

use serde_json::{Value, json};

use super::*;

fn document(api_version: &str, kind: &str, status: &Value) -> Document {
    Document::from_json(json!({
        "apiVersion": api_version, "kind": kind, "spec": {}, "status": status,
        "metadata": {"name": "n", "namespace": "ns", "generation": 2},
    }))
    .unwrap()
}

fn ready(status: &str) -> Value {
    json!([{"type": "Other", "status": "False"},
           {"type": "Ready", "status": status, "reason": "Why", "message": "because"}])
}

fn failed() -> Readiness {
    Readiness::Failed { reason: "Why".to_owned(), message: "because".to_owned() }
}

#[test]
fn services() {
    let of = |status: Value| kservice(&document("serving.knative.dev/v1", "Service", &status));
    let status = |generation: i64, status: &str, ready_revision: &str| {
        json!({
            "observedGeneration": generation, "conditions": ready(status), "url": "http://n.ns",
            "address": {"url": "http://n.ns.svc"}, "latestCreatedRevisionName": "n-00002",
            "latestReadyRevisionName": ready_revision,
        })
    };
    assert_eq!(of(status(2, "True", "n-00002")), Readiness::Ready);
    assert_eq!(of(status(2, "False", "n-00001")), failed());
    for (status, why) in [
        (Value::Null, "it has no status yet"),
        (json!({}), "its controller has not seen the latest change yet"),
        (json!({"observedGeneration": 2}), "it has no condition yet"),
        (
            json!({"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "Unknown"}]}),
            "it is starting",
        ),
        (status(1, "True", "n-00002"), "its controller has not seen the latest change yet"),
        (status(1, "False", "n-00002"), "its controller has not seen the latest change yet"),
        (status(2, "Unknown", "n-00001"), "because"),
        (status(2, "True", "n-00001"), "the newest revision is not ready yet"),
        (json!({"observedGeneration": 2, "conditions": ready("True")}), "it has no address yet"),
        (json!([]), "it has no status yet"),
    ] {
        assert_eq!(of(status.clone()), Readiness::Pending(why.to_owned()), "{status}");
    }
}

#[test]
fn channels() {
    let of = |status: Value| channel(&document("messaging.knative.dev/v1", "Channel", &status));
    let address = json!({"url": "http://n-kn-channel.ns.svc"});
    let status = |s: &str| json!({"observedGeneration": 2, "conditions": ready(s), "address": address});
    assert!(of(status("True")).is_ready());
    assert_eq!(of(status("False")), failed());
    assert_eq!(of(status("Unknown")), Readiness::Pending("because".to_owned()));
    assert!(!of(json!({"observedGeneration": 2, "conditions": ready("True")})).is_ready());
    assert!(!of(Value::Null).is_ready());
}

#[test]
fn subscriptions() {
    let of = |status: Value| subscription(&document("messaging.knative.dev/v1", "Subscription", &status));
    let status = |generation: i64, s: &str| json!({"observedGeneration": generation, "conditions": ready(s)});
    assert!(of(status(2, "True")).is_ready());
    assert!(!of(status(1, "True")).is_ready());
    assert_eq!(of(status(2, "False")), failed());
    assert_eq!(of(status(2, "Unknown")), Readiness::Pending("because".to_owned()));
    assert!(!of(Value::Null).is_ready());
}
