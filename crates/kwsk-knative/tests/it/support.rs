//! Things the tests need: temporary stores, small documents and records, and waiting.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kwsk_knative::activations::Accepted;
use kwsk_knative::cluster::local::store::{Store, StoreOptions};
use kwsk_model::activation::{Activation, ActivationId, ActivationResponse};
use kwsk_model::json::RawJson;
use kwsk_model::name::{EntityName, Namespace};
use kwsk_translate::document::Document;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Dir {
    pub(crate) store: Store,
    pub(crate) dir: TempDir,
}

impl Dir {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: open(dir.path()), dir }
    }

    /// A new process on the same data.
    pub(crate) async fn restarted(self) -> Self {
        self.store.close().await;
        drop(self.store);
        Self { store: open(self.dir.path()), dir: self.dir }
    }
}

pub(crate) fn open(path: &Path) -> Store {
    Store::open(path, StoreOptions::default()).unwrap()
}

/// Waits until `what` yields something, at most ten seconds.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(name: &str, what: impl Fn() -> F) -> T {
    let wait = async {
        loop {
            if let Some(found) = what().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("never: {name}"))
}

pub(crate) fn document(kind: (&str, &str), name: &str, spec: Value) -> Document {
    labelled(kind, name, spec, json!({}))
}

pub(crate) const CHANNEL: (&str, &str) = ("messaging.knative.dev/v1", "Channel");
pub(crate) const SUBSCRIPTION: (&str, &str) = ("messaging.knative.dev/v1", "Subscription");
pub(crate) const SERVICE: (&str, &str) = ("serving.knative.dev/v1", "Service");

/// `name` may be `namespace/name`; the namespace is `guest` otherwise.
pub(crate) fn labelled(kind: (&str, &str), name: &str, spec: Value, labels: Value) -> Document {
    let (namespace, name) = name.split_once('/').unwrap_or(("guest", name));
    let mut object = json!({
        "apiVersion": kind.0, "kind": kind.1, "metadata": {"namespace": namespace, "name": name},
    });
    object["spec"] = spec;
    object["metadata"]["labels"] = labels;
    Document::from_json(object).unwrap()
}

pub(crate) fn id(n: u64) -> ActivationId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    ActivationId::from_bytes(bytes)
}

/// Activation `n` of `name`, which may be `pkg/name`, started at `start`.
pub(crate) fn activation(n: u64, name: &str, start: u64) -> Arc<Activation> {
    let own = name.rsplit('/').next().unwrap();
    Arc::new(Activation {
        namespace: namespace("guest"),
        name: EntityName::new(own).unwrap(),
        version: Default::default(),
        subject: "guest".into(),
        activation_id: id(n),
        start,
        end: Some(start + 5),
        duration: Some(5),
        cause: None,
        response: ActivationResponse::success(RawJson::from(json!({"n": n})), None),
        logs: vec!["a line".into()],
        annotations: serde_json::from_value(json!([{"key": "path", "value": format!("guest/{name}")}]))
            .unwrap(),
        publish: false,
    })
}

pub(crate) fn accepted(n: u64) -> Accepted {
    Accepted {
        activation_id: id(n),
        transaction_id: "tid".into(),
        namespace: namespace("guest"),
        subject: "guest".into(),
        auth_uuid: "23bc46b1-71f6-4ed5-8c54-816aa4f8c502".into(),
        action: "guest/hello".parse().unwrap(),
        payload: RawJson::empty_object(),
        accepted_at: n,
    }
}

pub(crate) fn namespace(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}
