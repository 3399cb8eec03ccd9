//! The rules of [`ActivationStore`], for the fake and for SQLite.

use std::sync::Arc;

use kwsk_knative::activations::memory::MemoryActivationStore;
use kwsk_knative::activations::{ActivationQuery, ActivationStore, Progress};
use kwsk_knative::cluster::local::activations::Activations;
use kwsk_model::name::Namespace;
use tokio::task::JoinSet;

use crate::support::{Dir, accepted, activation, id, namespace};

macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(std::sync::Arc::new(super::MemoryActivationStore::default())).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let dir = super::Dir::new();
                super::$test(std::sync::Arc::new(super::Activations::new(dir.store.clone()))).await;
            })*
        }
    };
}

suite!(handed_over_is_seen, one_record_per_id, journal, lists, concurrent);

fn guest() -> Namespace {
    namespace("guest")
}

fn query() -> ActivationQuery {
    ActivationQuery { namespace: guest(), name: None, since: None, upto: None, skip: 0, limit: 200 }
}

async fn handed_over_is_seen(store: Arc<dyn ActivationStore>) {
    assert!(store.get(&guest(), &id(1)).await.unwrap().is_none());
    for n in 1..20 {
        let record = activation(n, "hello", n);
        store.record(Arc::clone(&record)).await.unwrap();
        assert_eq!(store.get(&guest(), &id(n)).await.unwrap().unwrap(), record);
        assert_eq!(store.list(&query()).await.unwrap()[0], record);
    }
    let other: Namespace = namespace("other");
    assert!(store.get(&other, &id(1)).await.unwrap().is_none());
}

async fn one_record_per_id(store: Arc<dyn ActivationStore>) {
    let first = activation(1, "hello", 1);
    store.record(Arc::clone(&first)).await.unwrap();
    store.record_durably(activation(1, "other", 2)).await.unwrap();
    store.record(activation(1, "third", 3)).await.unwrap();
    assert_eq!(store.get(&guest(), &id(1)).await.unwrap().unwrap(), first);
    assert_eq!(store.count(&query()).await.unwrap(), 1);
}

async fn journal(store: Arc<dyn ActivationStore>) {
    for n in [3, 1, 2, 4] {
        store.accept(&accepted(n)).await.unwrap();
    }
    store.begin(&id(1)).await.unwrap();
    store.record(activation(2, "hello", 1)).await.unwrap();
    store.forget(&id(4)).await.unwrap();
    store.begin(&id(99)).await.unwrap();
    store.forget(&id(99)).await.unwrap();
    let left = store.unfinished().await.unwrap();
    assert_eq!(left, [(accepted(3), Progress::Waiting), (accepted(1), Progress::Begun)]);
    store.record_durably(activation(1, "hello", 1)).await.unwrap();
    store.record_durably(activation(3, "hello", 1)).await.unwrap();
    assert!(store.unfinished().await.unwrap().is_empty());
}

async fn lists(store: Arc<dyn ActivationStore>) {
    for n in 0..30 {
        let name = if n % 3 == 0 { "pkg/a" } else { "b" };
        store.record(activation(n, name, 1000 + n)).await.unwrap();
    }
    let starts = async |query: ActivationQuery| {
        let found = store.list(&query).await.unwrap();
        found.iter().map(|record| record.start - 1000).collect::<Vec<_>>()
    };
    let page = |skip, limit| ActivationQuery { skip, limit, ..query() };
    assert_eq!(starts(page(0, 3)).await, [29, 28, 27]);
    assert_eq!(starts(page(28, 3)).await, [1, 0]);
    assert_eq!(starts(page(0, 0)).await, [] as [u64; 0]);
    let named = ActivationQuery { name: Some("pkg/a".into()), limit: 2, skip: 1, ..query() };
    assert_eq!(starts(named.clone()).await, [24, 21]);
    assert_eq!(store.count(&named).await.unwrap(), 10);
    let between = ActivationQuery { since: Some(1005), upto: Some(1007), ..query() };
    assert_eq!(starts(between.clone()).await, [7, 6, 5]);
    assert_eq!(store.count(&between).await.unwrap(), 3);
    let nobody = ActivationQuery { namespace: namespace("other"), ..query() };
    assert_eq!(store.count(&nobody).await.unwrap(), 0);
    // Of one moment, the one that came last is shown first.
    store.record(activation(100, "x", 2000)).await.unwrap();
    store.record(activation(101, "y", 2000)).await.unwrap();
    let newest = store.list(&page(0, 2)).await.unwrap();
    assert_eq!([newest[0].activation_id.clone(), newest[1].activation_id.clone()], [id(101), id(100)]);
}

async fn concurrent(store: Arc<dyn ActivationStore>) {
    let mut all = JoinSet::new();
    for n in 0..500 {
        let store = Arc::clone(&store);
        all.spawn(async move {
            store.accept(&accepted(n)).await.unwrap();
            store.begin(&id(n)).await.unwrap();
            store.record(activation(n, "hello", n)).await.unwrap();
            assert!(store.get(&guest(), &id(n)).await.unwrap().is_some());
        });
    }
    all.join_all().await;
    assert_eq!(store.count(&query()).await.unwrap(), 500);
    assert!(store.unfinished().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let dir = Dir::new();
    let store = Activations::new(dir.store.clone());
    store.accept(&accepted(1)).await.unwrap();
    store.accept(&accepted(2)).await.unwrap();
    store.begin(&id(2)).await.unwrap();
    for n in 10..100 {
        store.record(activation(n, "hello", n)).await.unwrap();
    }
    drop(store);
    let dir = dir.restarted().await;
    let store = Activations::new(dir.store.clone());
    assert_eq!(
        store.unfinished().await.unwrap(),
        [(accepted(1), Progress::Waiting), (accepted(2), Progress::Begun)]
    );
    assert_eq!(store.count(&query()).await.unwrap(), 90);
}

#[tokio::test]
async fn purge() {
    let dir = Dir::new();
    let store = Activations::new(dir.store.clone());
    for n in 0..1300 {
        store.record(activation(n, "hello", n)).await.unwrap();
    }
    assert_eq!(store.purge_older_than(1200).await.unwrap(), 1200);
    assert_eq!(store.count(&query()).await.unwrap(), 100);
    assert_eq!(store.purge_older_than(1200).await.unwrap(), 0);
    assert_eq!(store.purge_older_than(u64::MAX).await.unwrap(), 100);
}
