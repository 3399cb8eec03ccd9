//! The data directory: who may open it, and what happens when the disk is full.

use std::fs;
use std::sync::Arc;

use kwsk_knative::activations::{ActivationQuery, ActivationStore};
use kwsk_knative::cluster::local::activations::Activations;
use kwsk_knative::cluster::local::documents::Documents;
use kwsk_knative::cluster::local::store::{Opening, Store, StoreOptions};
use kwsk_knative::cluster::{Apply, Cluster, Precondition};
use kwsk_knative::error::Error;
use kwsk_model::activation::Activation;
use kwsk_translate::document::ResourceKind;
use serde_json::json;

use crate::support::{Dir, SERVICE, accepted, activation, document, eventually, id, namespace, open};

fn options() -> StoreOptions {
    StoreOptions::default()
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = Dir::new();
    let second = Store::open(dir.dir.path(), options()).err().unwrap();
    assert!(matches!(second, Opening::InUse { .. }));
    assert!(second.to_string().contains("--data"), "{second}");
    dir.restarted().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().await;
    let raw = rusqlite::Connection::open(dir.path().join("kwsk.db")).unwrap();
    raw.pragma_update(None, "user_version", 4711).unwrap();
    drop(raw);
    let refused = Store::open(dir.path(), options()).err().unwrap();
    assert!(matches!(refused, Opening::Newer { found: 4711, .. }));
    assert!(refused.to_string().contains("schema 4711"), "{refused}");
    // A refusal lets go of the directory and leaves it as it was.
    let raw = rusqlite::Connection::open(dir.path().join("kwsk.db")).unwrap();
    raw.pragma_update(None, "user_version", 1).unwrap();
    drop(raw);
    open(dir.path());
}

#[test]
fn what_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let refused = Store::open(&dir.path().join("file"), options()).err().unwrap();
    assert!(matches!(refused, Opening::Directory { .. }), "{refused}");
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kwsk.db"), "this is not a database, whatever its name says".repeat(100))
        .unwrap();
    let refused = Store::open(dir.path(), options()).err().unwrap();
    assert!(matches!(refused, Opening::Damaged { .. }), "{refused}");
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::Store { doing: "written", .. })
}

/// A record that needs pages of its own.
fn long(n: u64) -> Arc<Activation> {
    let mut record = Arc::unwrap_or_clone(activation(n, "hello", 1));
    record.logs = vec!["x".repeat(30_000)];
    Arc::new(record)
}

/// The disk fills up: acknowledged data stays, writers are told, records wait, and everything goes on afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions { max_bytes: Some(1 << 20), ..options() }).unwrap();
    let documents = Documents::new(store.clone());
    let activations = Arc::new(Activations::new(store.clone()));
    let filler = |n: u64| document(SERVICE, &format!("s{n}"), json!({"text": "x".repeat(50_000)}));
    let mut count = 0;
    let full = loop {
        match documents.apply(filler(count), Apply::Create).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(is_full(&full) && count > 5, "{full:?} after {count}");
    let listed = async || documents.list(ResourceKind::KService, None, &[]).await.unwrap();
    assert_eq!(listed().await.len() as u64, count);

    // Small things may still fit; fill up with them, too.
    let mut n = 0;
    while activations.accept(&accepted(n)).await.is_ok() {
        n += 1;
    }
    let record = long(1_000_000);
    activations.record(Arc::clone(&record)).await.unwrap();
    assert!(is_full(&activations.record_durably(long(1_000_001)).await.unwrap_err()));
    assert!(is_full(&activations.get(&record.namespace, &record.activation_id).await.unwrap_err()));
    let query = ActivationQuery {
        namespace: record.namespace.clone(),
        name: None,
        since: None,
        upto: None,
        skip: 0,
        limit: 10,
    };
    assert!(activations.list(&query).await.unwrap().is_empty());

    for listed in listed().await.iter().take(3) {
        documents.delete(&listed.key(), Precondition::None).await.unwrap();
    }
    let found = eventually("the record is on disk", async || {
        activations.get(&record.namespace, &record.activation_id).await.ok().flatten()
    });
    assert_eq!(found.await, record);
    activations.accept(&accepted(n)).await.unwrap();
    assert_eq!(activations.unfinished().await.unwrap().len() as u64, n + 1);
    store.close().await;
    drop((store, documents, activations));

    let store = open(dir.path());
    let documents = Documents::new(store.clone());
    assert_eq!(documents.list(ResourceKind::KService, None, &[]).await.unwrap().len() as u64, count - 3);
    documents.apply(filler(1000), Apply::Create).await.unwrap();
    documents.apply(filler(1001), Apply::Create).await.unwrap();
}

#[test]
fn nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a/b");
    let _store = open(&data);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in ["kwsk.db", "kwsk.db-wal", "kwsk.db-shm", "lock"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn closed_is_closed() {
    let dir = Dir::new();
    let activations = Activations::new(dir.store.clone());
    for n in 0..50 {
        activations.record(activation(n, "hello", n)).await.unwrap();
    }
    dir.store.close().await;
    dir.store.close().await;
    assert!(is_full(&activations.record(activation(99, "hello", 99)).await.unwrap_err()));
    assert!(is_full(&activations.accept(&accepted(99)).await.unwrap_err()));
    assert!(matches!(
        activations.get(&namespace("guest"), &id(1)).await,
        Err(Error::Store { doing: "read", .. })
    ));
    // The directory is free although `activations` still knows the store.
    let successor = Activations::new(open(dir.dir.path()));
    assert!(successor.get(&namespace("guest"), &id(49)).await.unwrap().is_some());
}
