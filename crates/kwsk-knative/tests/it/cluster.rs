//! The rules of [`Cluster`], for the fake and for the documents of one machine.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use kwsk_knative::cluster::fake::{FakeCluster, Verb};
use kwsk_knative::cluster::local::documents::Documents;
use kwsk_knative::cluster::{Apply, Cluster, Event, Precondition};
use kwsk_knative::error::{Error, Result};
use kwsk_translate::document::{Document, Key, ResourceKind};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{CHANNEL, Dir, SERVICE, document, labelled};

/// One test for each adapter.
macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        mod fake {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(std::sync::Arc::new(super::FakeCluster::default())).await;
            })*
        }
        mod local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let dir = super::Dir::new();
                super::$test(std::sync::Arc::new(super::Documents::new(dir.store.clone()))).await;
            })*
        }
    };
}

suite!(
    created_and_read,
    created_once,
    replaced_with_its_version_only,
    unchanged_stays,
    generation_grows_with_spec_only,
    lists_by_namespace_and_labels,
    deleted_with_its_version_only,
    a_successor_is_another_object,
    watched,
    counter_of_64_writers,
    reads_see_writes,
);

fn service(name: &str, spec: u64) -> Document {
    document(SERVICE, name, json!({"n": spec}))
}

fn key(name: &str) -> Key {
    Key::new(ResourceKind::KService, "guest", name)
}

fn replace(document: &Document) -> Apply {
    Apply::Replace(document.resource_version().to_owned())
}

async fn created_and_read(cluster: Arc<dyn Cluster>) {
    assert!(cluster.get(&key("a")).await.unwrap().is_none());
    let created = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    assert_eq!(created.generation(), 1);
    assert!(created.metadata.uid.as_ref().is_some_and(|uid| uid.len() == 36));
    assert!(created.metadata.creation_timestamp.is_some());
    assert!(!created.resource_version().is_empty());
    assert_eq!(*cluster.get(&key("a")).await.unwrap().unwrap(), *created);
    assert_eq!(cluster.list(ResourceKind::KService, None, &[]).await.unwrap(), [created]);
    assert!(cluster.list(ResourceKind::Channel, None, &[]).await.unwrap().is_empty());
}

async fn created_once(cluster: Arc<dyn Cluster>) {
    let first = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    let second = cluster.apply(service("a", 2), Apply::Create).await;
    assert!(matches!(second, Err(Error::AlreadyExists(k)) if k == key("a")));
    assert_eq!(cluster.get(&key("a")).await.unwrap().unwrap(), first);
}

async fn replaced_with_its_version_only(cluster: Arc<dyn Cluster>) {
    let conflict =
        |outcome: Result<Arc<Document>>| matches!(outcome, Err(Error::Conflict(k)) if k == key("a"));
    assert!(conflict(cluster.apply(service("a", 1), Apply::Replace("1".into())).await));
    let first = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    let second = cluster.apply(service("a", 2), replace(&first)).await.unwrap();
    assert_ne!(first.resource_version(), second.resource_version());
    assert_eq!(first.metadata.uid, second.metadata.uid);
    assert_eq!(first.metadata.creation_timestamp, second.metadata.creation_timestamp);
    assert!(conflict(cluster.apply(service("a", 3), replace(&first)).await));
    assert_eq!(cluster.get(&key("a")).await.unwrap().unwrap(), second);
}

async fn unchanged_stays(cluster: Arc<dyn Cluster>) {
    let first = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    let mut same = (*first).clone();
    same.metadata.generation = Some(77);
    same.metadata.uid = None;
    let second = cluster.apply(same, replace(&first)).await.unwrap();
    assert_eq!(first, second);
}

async fn generation_grows_with_spec_only(cluster: Arc<dyn Cluster>) {
    let first = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    let mut changed = (*first).clone();
    changed.metadata.annotations = Some([("k".to_owned(), "v".to_owned())].into());
    changed.body.insert("status".into(), json!({"ready": true}));
    let second = cluster.apply(changed, replace(&first)).await.unwrap();
    assert_eq!(second.generation(), 1);
    assert_ne!(first.resource_version(), second.resource_version());
    let mut changed = (*second).clone();
    changed.body.insert("spec".into(), json!({"n": 2}));
    let third = cluster.apply(changed, replace(&second)).await.unwrap();
    assert_eq!(third.generation(), 2);
}

async fn lists_by_namespace_and_labels(cluster: Arc<dyn Cluster>) {
    for (name, labels) in [
        ("b", json!({"x": "1", "y": "1"})),
        ("a", json!({"x": "1"})),
        ("other/c", json!({"x": "1"})),
        ("d", json!({"x": "2"})),
        ("e", json!({})),
    ] {
        cluster.apply(labelled(SERVICE, name, json!({}), labels), Apply::Create).await.unwrap();
    }
    cluster.apply(labelled(CHANNEL, "a", json!({}), json!({"x": "1"})), Apply::Create).await.unwrap();
    let names = async |within, with: &[(&'static str, &str)]| {
        let with: Vec<_> = with.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let found = cluster.list(ResourceKind::KService, within, &with).await.unwrap();
        let text = |d: &Arc<Document>| format!("{}/{}", d.key().namespace, d.key().name);
        found.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(None, &[]).await, "guest/a guest/b guest/d guest/e other/c");
    assert_eq!(names(Some("guest"), &[]).await, "guest/a guest/b guest/d guest/e");
    assert_eq!(names(None, &[("x", "1")]).await, "guest/a guest/b other/c");
    assert_eq!(names(Some("guest"), &[("x", "1")]).await, "guest/a guest/b");
    assert_eq!(names(Some("guest"), &[("x", "1"), ("y", "1")]).await, "guest/b");
    assert_eq!(names(Some("guest"), &[("x", "3")]).await, "");
    assert_eq!(names(Some("nobody"), &[]).await, "");

    let b = cluster.get(&key("b")).await.unwrap().unwrap();
    let relabelled = labelled(SERVICE, "b", json!({}), json!({"x": "2"}));
    cluster.apply(relabelled, replace(&b)).await.unwrap();
    cluster.delete(&key("a"), Precondition::None).await.unwrap();
    assert_eq!(names(None, &[("x", "1")]).await, "other/c");
    assert_eq!(names(None, &[("x", "2")]).await, "guest/b guest/d");
}

async fn deleted_with_its_version_only(cluster: Arc<dyn Cluster>) {
    assert!(cluster.delete(&key("a"), Precondition::None).await.unwrap().is_none());
    let first = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    let second = cluster.apply(service("a", 2), replace(&first)).await.unwrap();
    let version = |document: &Document| Precondition::ResourceVersion(document.resource_version().to_owned());
    let refused = cluster.delete(&key("a"), version(&first)).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
    assert_eq!(cluster.delete(&key("a"), version(&second)).await.unwrap().unwrap(), second);
    assert!(cluster.get(&key("a")).await.unwrap().is_none());
    assert!(cluster.list(ResourceKind::KService, None, &[]).await.unwrap().is_empty());
}

async fn a_successor_is_another_object(cluster: Arc<dyn Cluster>) {
    let first = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    cluster.delete(&key("a"), Precondition::None).await.unwrap();
    let second = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    assert_ne!(first.metadata.uid, second.metadata.uid);
    assert_ne!(first.resource_version(), second.resource_version());
    assert!(matches!(cluster.apply(service("a", 2), replace(&first)).await, Err(Error::Conflict(_))));
}

async fn next(events: &mut BoxStream<'static, Result<Event>>) -> String {
    let wait = tokio::time::timeout(std::time::Duration::from_secs(10), events.next());
    match wait.await.expect("an event").expect("the watch goes on").unwrap() {
        Event::Applied(document) => format!("{} {}", document.key().name, document.body["spec"]["n"]),
        Event::Deleted(key) => format!("{} gone", key.name),
    }
}

async fn watched(cluster: Arc<dyn Cluster>) {
    let a = cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    cluster.apply(service("b", 1), Apply::Create).await.unwrap();
    let mut events = cluster.watch(ResourceKind::KService);
    assert_eq!(next(&mut events).await, "a 1");
    assert_eq!(next(&mut events).await, "b 1");
    cluster.apply(document(CHANNEL, "not-watched", json!({})), Apply::Create).await.unwrap();
    cluster.apply(service("a", 2), replace(&a)).await.unwrap();
    cluster.delete(&key("b"), Precondition::None).await.unwrap();
    cluster.apply(service("c", 1), Apply::Create).await.unwrap();
    assert_eq!(next(&mut events).await, "a 2");
    assert_eq!(next(&mut events).await, "b gone");
    assert_eq!(next(&mut events).await, "c 1");
}

/// Compare-and-swap loses no increment.
async fn counter_of_64_writers(cluster: Arc<dyn Cluster>) {
    cluster.apply(service("a", 0), Apply::Create).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..64 {
        let cluster = Arc::clone(&cluster);
        writers.spawn(async move {
            loop {
                let current = cluster.get(&key("a")).await.unwrap().unwrap();
                let n = current.body["spec"]["n"].as_u64().unwrap();
                match cluster.apply(service("a", n + 1), replace(&current)).await {
                    Ok(_) => return,
                    Err(error) => assert!(matches!(error, Error::Conflict(_)), "{error:?}"),
                }
            }
        });
    }
    writers.join_all().await;
    let last = cluster.get(&key("a")).await.unwrap().unwrap();
    assert_eq!(last.body["spec"]["n"], 64);
    assert_eq!(last.generation(), 65);
}

/// With readers that fill caches at the same time.
async fn reads_see_writes(cluster: Arc<dyn Cluster>) {
    let mut writers = JoinSet::new();
    let mut readers = JoinSet::new();
    for n in 0..4 {
        let (writing, reading) = (Arc::clone(&cluster), Arc::clone(&cluster));
        let name = format!("w{n}");
        let read = key(&name);
        writers.spawn(async move { write_and_look(&*writing, &name).await });
        readers.spawn(async move {
            loop {
                reading.get(&read).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    writers.join_all().await;
    readers.shutdown().await;
}

async fn write_and_look(cluster: &dyn Cluster, name: &str) {
    for n in 0..40 {
        let applied = cluster.apply(service(name, n), Apply::Create).await.unwrap();
        assert_eq!(cluster.get(&key(name)).await.unwrap().unwrap(), applied);
        let listed = cluster.list(ResourceKind::KService, Some("guest"), &[]).await.unwrap();
        assert!(listed.contains(&applied));
        cluster.delete(&key(name), Precondition::None).await.unwrap();
        assert!(cluster.get(&key(name)).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn scripted_failures() {
    let cluster = FakeCluster::default();
    cluster.fail_next(Verb::Apply, Error::Unavailable("down"));
    assert!(cluster.get(&key("a")).await.unwrap().is_none());
    assert!(matches!(cluster.apply(service("a", 1), Apply::Create).await, Err(Error::Unavailable("down"))));
    cluster.apply(service("a", 1), Apply::Create).await.unwrap();
    cluster.assert_clean();
    cluster.fail_next(Verb::List, Error::NotFound);
    let unused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cluster.assert_clean()));
    assert!(unused.is_err());
    assert!(cluster.list(ResourceKind::KService, None, &[]).await.is_err());
}

/// More documents than a page, more changes than a feed holds: the watcher ends up with the truth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_falls_behind() {
    let dir = Dir::new();
    let cluster = Arc::new(Documents::new(dir.store.clone()));
    let apply_all = async |range: std::ops::Range<u64>, spec: u64| {
        let mut all = JoinSet::new();
        for n in range {
            let cluster = Arc::clone(&cluster);
            all.spawn(async move {
                let name = format!("s{n:04}");
                let how = match cluster.get(&key(&name)).await.unwrap() {
                    Some(existing) => replace(&existing),
                    None => Apply::Create,
                };
                cluster.apply(service(&name, spec), how).await.unwrap();
            });
        }
        all.join_all().await;
    };
    apply_all(0..300, 1).await;
    let mut events = cluster.watch(ResourceKind::KService);
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..300 {
        note(&mut seen, &next(&mut events).await);
    }
    assert_eq!(seen.len(), 300);
    apply_all(0..600, 2).await;
    for n in 0..50 {
        cluster.delete(&key(&format!("s{n:04}")), Precondition::None).await.unwrap();
    }
    while seen.len() != 550 || seen.values().any(|spec| spec != "2") {
        note(&mut seen, &next(&mut events).await);
    }
}

fn note(seen: &mut std::collections::BTreeMap<String, String>, event: &str) {
    let (name, what) = event.split_once(' ').unwrap();
    match what {
        "gone" => drop(seen.remove(name)),
        spec => drop(seen.insert(name.to_owned(), spec.to_owned())),
    }
}

#[tokio::test]
async fn documents_survive_a_restart() {
    let dir = Dir::new();
    let a = Documents::new(dir.store.clone()).apply(service("a", 1), Apply::Create).await.unwrap();
    let dir = dir.restarted().await;
    let documents = Documents::new(dir.store.clone());
    assert_eq!(documents.get(&key("a")).await.unwrap().unwrap(), a);
    documents.delete(&key("a"), Precondition::None).await.unwrap();
    drop(documents);
    let dir = dir.restarted().await;
    let b = Documents::new(dir.store.clone()).apply(service("a", 1), Apply::Create).await.unwrap();
    let version = |document: &Document| document.resource_version().parse::<u64>().unwrap();
    assert!(version(&b) > version(&a) + 1, "versions are not given out twice");
}
