//! The rules of [`CodeStore`], for the fake and for files.

use std::collections::HashSet;
use std::fs;

use bytes::Bytes;
use kwsk_knative::code::CodeStore;
use kwsk_knative::code::file::{FileCodeStore, MemoryCodeStore};
use kwsk_knative::error::Error;
use kwsk_model::action::StoredCode;

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

async fn put_and_get(store: &dyn CodeStore) {
    let stored = store.put(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(stored, StoredCode { sha256: HELLO.to_owned(), bytes: 5 });
    assert_eq!(store.put(Bytes::from_static(b"hello")).await.unwrap(), stored);
    assert_eq!(store.get(&stored).await.unwrap().unwrap(), "hello");
    let unknown = StoredCode { sha256: "0".repeat(64), bytes: 5 };
    assert!(store.get(&unknown).await.unwrap().is_none());
}

#[tokio::test]
async fn memory() {
    put_and_get(&MemoryCodeStore::default()).await;
}

#[tokio::test]
async fn files() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileCodeStore::new(dir.path().join("code")).unwrap();
    put_and_get(&store).await;
    let names: Vec<_> =
        fs::read_dir(dir.path().join("code")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [HELLO], "stored once, and nothing is left aside");
}

#[tokio::test]
async fn damage_is_seen_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileCodeStore::new(dir.path()).unwrap();
    let stored = store.put(Bytes::from_static(b"hello")).await.unwrap();
    fs::write(store.path(&stored), "hell").unwrap();
    assert!(matches!(store.get(&stored).await, Err(Error::Store { store: "code store", doing: "read", .. })));
    store.put(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(store.get(&stored).await.unwrap().unwrap(), "hello");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileCodeStore::new(dir.path().join("code")).unwrap();
    fs::remove_dir(dir.path().join("code")).unwrap();
    let refused = store.put(Bytes::from_static(b"hello")).await;
    assert!(matches!(refused, Err(Error::Store { store: "code store", doing: "written", .. })));
}

#[tokio::test]
async fn sweep() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileCodeStore::new(dir.path()).unwrap();
    let kept = store.put(Bytes::from_static(b"hello")).await.unwrap();
    let gone = store.put(Bytes::from_static(b"bye")).await.unwrap();
    fs::write(dir.path().join(".put-interrupted"), "by").unwrap();
    assert_eq!(store.sweep(HashSet::from([kept.sha256.clone()])).await.unwrap(), 2);
    assert!(store.get(&kept).await.unwrap().is_some());
    assert!(store.get(&gone).await.unwrap().is_none());
}
