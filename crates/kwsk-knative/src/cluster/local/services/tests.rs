//! Pools over real processes: a shell that answers every line.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kwsk_model::json::RawJson;
use kwsk_model::runtimes::{Protocol, RuntimeCommand};
use kwsk_shim::{CodeSource, Sandbox};
use kwsk_translate::document::ResourceKind;
use tokio::task::JoinSet;

use super::*;

struct Bench {
    services: Services,
    tasks: TaskTracker,
    stop: CancellationToken,
    _work: tempfile::TempDir,
}

impl Bench {
    async fn new(budget_mb: u64) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let work = tempfile::tempdir().unwrap();
        let sandbox = Sandbox { path: super::super::runtimes::search_path(), ..Sandbox::new(work.path()) };
        let launchpad = Launchpad::new(sandbox, tasks.clone(), stop.clone()).await.unwrap();
        let services = Services::new(launchpad, &tasks, stop.clone(), budget_mb);
        Self { services, tasks, stop, _work: work }
    }

    async fn call(&self, document: &Document, blueprint: &Blueprint) -> Result<Report> {
        let context = serde_json::from_value(serde_json::json!({
            "namespace": "guest", "action_name": "/guest/a", "action_version": "0.0.1",
            "activation_id": crate::ops::invoke::new_id().unwrap(), "transaction_id": "t", "deadline": "",
        }));
        let run = Run { context: context.unwrap(), arguments: RawJson::empty_object() };
        self.services.run(document, || Ok(blueprint.clone()), run, None).await
    }

    async fn end(self) {
        self.services.close();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn document(name: &str, uid: &str, generation: i64, version: u64) -> Document {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("guest".to_owned()),
        uid: Some(uid.to_owned()),
        generation: Some(generation),
        resource_version: Some(version.to_string()),
        ..ObjectMeta::default()
    };
    Document::new(ResourceKind::KService, metadata, serde_json::Map::new())
}

/// A loop that takes `seconds` for each line and answers `{"v": version}`.
fn blueprint(version: u32, seconds: f32, max: usize, idle: Duration) -> Blueprint {
    let script = format!("while read -r line; do sleep {seconds}; echo '{{\"v\":{version}}}' >&3; done");
    let command = RuntimeCommand {
        protocol: Protocol::Actionloop,
        argv: ["sh", "-c", &script].map(str::to_owned).to_vec(),
        env: std::collections::BTreeMap::new(),
        prewarm: false,
        concurrent: false,
    };
    let code = CodeSource::Inline("code".into());
    Blueprint {
        spec: Arc::new(ActionSpec::new("a", "sh:1", Some(code))),
        runtime: Arc::new(Runtime::new("sh:1", command)),
        min: 0,
        max,
        idle,
    }
}

const LONG: Duration = Duration::from_secs(600);

fn version(report: &Report) -> u64 {
    let result = report.response.result.as_ref().unwrap().to_value();
    result["v"].as_u64().unwrap_or_else(|| panic!("{result}"))
}

async fn at_once(
    bench: &Arc<Bench>,
    document: &Arc<Document>,
    blueprint: &Blueprint,
    calls: usize,
) -> Vec<Report> {
    let mut set = JoinSet::new();
    for _ in 0..calls {
        let (bench, document, blueprint) = (Arc::clone(bench), Arc::clone(document), blueprint.clone());
        set.spawn(async move { bench.call(&document, &blueprint).await.unwrap() });
    }
    set.join_all().await
}

#[tokio::test]
async fn scales_with_requests_in_flight_up_to_max() {
    let bench = Arc::new(Bench::new(100_000).await);
    let document = Arc::new(document("a", "u", 1, 1));
    let reports = at_once(&bench, &document, &blueprint(1, 0.05, 3, LONG), 9).await;
    assert!(reports.iter().all(|r| version(r) == 1));
    assert_eq!(bench.services.scale(&document.key()), 3);
    Arc::into_inner(bench).unwrap().end().await;
}

#[tokio::test]
async fn idle_instances_go_away() {
    let bench = Bench::new(100_000).await;
    let document = document("a", "u", 1, 1);
    bench.call(&document, &blueprint(1, 0.0, 3, Duration::from_millis(30))).await.unwrap();
    assert_eq!(bench.services.scale(&document.key()), 1);
    let gone = async {
        while bench.services.scale(&document.key()) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    bench.end().await;
}

#[tokio::test]
async fn a_newer_generation_retires_the_older_one() {
    let bench = Bench::new(100_000).await;
    let (old, new) = (document("a", "u", 1, 1), document("a", "u", 2, 2));
    assert_eq!(version(&bench.call(&old, &blueprint(1, 0.0, 1, LONG)).await.unwrap()), 1);
    assert_eq!(version(&bench.call(&new, &blueprint(2, 0.0, 1, LONG)).await.unwrap()), 2);
    // Whoever still holds the old document gets the new code: that is what was acknowledged last.
    assert_eq!(version(&bench.call(&old, &blueprint(1, 0.0, 1, LONG)).await.unwrap()), 2);
    // Deleted and made anew: generations start over, and the later object counts.
    let again = document("a", "other", 1, 3);
    assert_eq!(version(&bench.call(&again, &blueprint(3, 0.0, 1, LONG)).await.unwrap()), 3);
    bench.end().await;
}

#[tokio::test]
async fn waiters_of_an_old_generation_are_served_by_the_new_one() {
    let bench = Arc::new(Bench::new(100_000).await);
    let old = Arc::new(document("a", "u", 1, 1));
    let slow = blueprint(1, 0.3, 1, LONG);
    let waiting = at_once(&bench, &old, &slow, 3);
    let update = async {
        while bench.services.scale(&old.key()) == 0 {
            tokio::task::yield_now().await;
        }
        let new = document("a", "u", 2, 2);
        bench.call(&new, &blueprint(2, 0.0, 1, LONG)).await.unwrap()
    };
    let (mut reports, updated) = futures::join!(waiting, update);
    assert_eq!(version(&updated), 2);
    reports.sort_by_key(version);
    assert_eq!(version(reports.last().unwrap()), 2);
    Arc::into_inner(bench).unwrap().end().await;
}

#[tokio::test]
async fn idle_instances_make_room_when_memory_is_short() {
    let bench = Bench::new(512).await;
    let documents: Vec<Document> = (0..4).map(|n| document(&format!("a{n}"), "u", 1, 1)).collect();
    for document in &documents {
        bench.call(document, &blueprint(1, 0.0, 4, LONG)).await.unwrap();
    }
    let scales: Vec<usize> = documents.iter().map(|d| bench.services.scale(&d.key())).collect();
    assert_eq!(scales, [0, 0, 1, 1]);
    bench.end().await;
}

#[tokio::test]
async fn a_waiter_for_memory_is_served_when_others_give_back() {
    let bench = Arc::new(Bench::new(256).await);
    let (first, second) = (Arc::new(document("a", "u", 1, 1)), Arc::new(document("b", "u", 1, 1)));
    let (a, b) = (blueprint(1, 0.2, 9, LONG), blueprint(2, 0.0, 9, LONG));
    let (slow, quick) = futures::join!(at_once(&bench, &first, &a, 2), at_once(&bench, &second, &b, 2));
    assert!(slow.iter().all(|r| version(r) == 1) && quick.iter().all(|r| version(r) == 2));
    Arc::into_inner(bench).unwrap().end().await;
}

#[tokio::test]
async fn min_scale_is_kept_and_deletion_ends_everything() {
    let bench = Bench::new(100_000).await;
    let document = document("a", "u", 1, 1);
    let kept = Blueprint { min: 2, ..blueprint(1, 0.0, 3, Duration::ZERO) };
    bench.services.reconcile(&document, || Ok(kept.clone())).unwrap();
    assert_eq!(bench.services.scale(&document.key()), 2);
    bench.call(&document, &kept).await.unwrap();
    assert_eq!(bench.services.scale(&document.key()), 2);
    bench.services.forget(&document.key());
    assert_eq!(bench.services.scale(&document.key()), 0);
    bench.end().await;
}

#[tokio::test]
async fn a_closed_pool_refuses() {
    let bench = Bench::new(100_000).await;
    bench.services.close();
    let refused = bench.call(&document("a", "u", 1, 1), &blueprint(1, 0.0, 1, LONG)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    bench.end().await;
}

#[tokio::test]
async fn a_run_that_may_not_begin_does_not() {
    let bench = Bench::new(100_000).await;
    let document = document("a", "u", 1, 1);
    let context = serde_json::from_value(serde_json::json!({
        "namespace": "guest", "action_name": "/guest/a", "action_version": "0.0.1",
        "activation_id": "", "transaction_id": "t", "deadline": "",
    }));
    let run = Run { context: context.unwrap(), arguments: RawJson::empty_object() };
    let refuse: Begin = Box::new(|| Box::pin(async { Err(Error::Unavailable("no")) }));
    let refused = bench.services.run(&document, || Ok(blueprint(1, 0.0, 1, LONG)), run, Some(refuse)).await;
    assert!(matches!(refused, Err(Error::Unavailable("no"))));
    // The slot is free again.
    bench.call(&document, &blueprint(1, 0.0, 1, LONG)).await.unwrap();
    assert_eq!(bench.services.scale(&document.key()), 1);
    bench.end().await;
}
