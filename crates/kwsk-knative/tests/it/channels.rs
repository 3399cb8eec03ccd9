//! Channels: durable fan-out, retries, dead letters, replies, and what a restart finds.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kwsk_knative::activations::ActivationStore;
use kwsk_knative::cluster::local::activations::Activations;
use kwsk_knative::cluster::local::channels::{Answer, Channels, Reply, Subscriber};
use kwsk_knative::cluster::local::documents::Documents;
use kwsk_knative::cluster::local::store::Store;
use kwsk_knative::cluster::{Apply, Cluster, Precondition};
use kwsk_knative::error::Error;
use kwsk_knative::invoke::Begin;
use kwsk_model::activation::Activation;
use kwsk_model::json::RawJson;
use kwsk_translate::document::{Document, Key, ResourceKind};
use kwsk_translate::event::{CloudEvent, Data};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{CHANNEL, SUBSCRIPTION, activation, document, eventually, id, namespace, open};

/// What the scripted subscriber does with an attempt.
#[derive(Clone)]
enum Step {
    /// Answers without a run.
    Status(u16),
    /// Begins, runs and answers with the record of this number.
    Run(u64),
    /// Answers with an event.
    Event(&'static str),
    /// Never answers; with or without having begun.
    Hang { begun: bool },
}

/// Answers each Subscription's attempts by its script, then with 200.
struct Script {
    steps: Mutex<HashMap<String, VecDeque<Step>>>,
    /// `subscription event-id data` of each attempt.
    attempts: Mutex<Vec<String>>,
    reached: Semaphore,
}

impl Script {
    fn of(steps: &[(&str, &[Step])]) -> Arc<Self> {
        let steps = steps.iter().map(|(name, steps)| ((*name).to_owned(), steps.to_vec().into())).collect();
        Arc::new(Self { steps: Mutex::new(steps), attempts: Mutex::default(), reached: Semaphore::new(0) })
    }

    fn attempts(&self) -> Vec<String> {
        self.attempts.lock().unwrap().clone()
    }

    async fn has(&self, count: usize) -> Vec<String> {
        eventually("that many attempts", async || {
            let attempts = self.attempts();
            (attempts.len() >= count).then_some(attempts)
        })
        .await
    }
}

#[async_trait]
impl Subscriber for Script {
    async fn post(&self, subscription: &Arc<Document>, event: &CloudEvent, begin: Begin) -> Answer {
        let name = subscription.key().name;
        let step = self.steps.lock().unwrap().get_mut(&name).and_then(VecDeque::pop_front);
        self.attempts.lock().unwrap().push(format!("{name} {} {}", event.id, data(event)));
        let plain = |status| Answer { status, reply: None };
        match step {
            None => plain(200),
            Some(Step::Status(status)) => plain(status),
            Some(Step::Run(n)) => {
                if begin().await.is_err() {
                    return plain(503);
                }
                Answer { status: 200, reply: Some(Reply::Activation(activation(n, &name, n))) }
            }
            Some(Step::Event(id)) => Answer { status: 200, reply: Some(Reply::Event(event_of(id))) },
            Some(Step::Hang { begun }) => {
                if begun {
                    begin().await.unwrap();
                }
                self.reached.add_permits(1);
                std::future::pending().await
            }
        }
    }

    async fn interrupted(
        &self,
        subscription: Option<&Arc<Document>>,
        event: &CloudEvent,
    ) -> Option<Activation> {
        let name = subscription?.key().name;
        let n = event.id.parse().unwrap();
        Some(Arc::unwrap_or_clone(activation(n, &format!("interrupted-{name}"), n)))
    }

    async fn undelivered(&self, subscription: &Arc<Document>, event: &CloudEvent) -> Option<Activation> {
        // Every subscription's run has an id of its own.
        let subscription = subscription.key().name;
        let n = event.id.parse::<u64>().ok()? * 1000 + u64::from(*subscription.as_bytes().first()?);
        let name = format!("undelivered-{subscription}");
        Some(Arc::unwrap_or_clone(activation(n, &name, n)))
    }
}

fn data(event: &CloudEvent) -> String {
    match &event.data {
        Data::Json(json) => json.get().to_owned(),
        other => format!("{other:?}"),
    }
}

fn event_of(id: &str) -> CloudEvent {
    CloudEvent {
        id: id.to_owned(),
        source: "/test".to_owned(),
        ty: "test".to_owned(),
        time: None,
        content_type: Some("application/json".to_owned()),
        extensions: [("owuser".to_owned(), "jürgen".to_owned())].into(),
        data: Data::Json(RawJson::from(json!({"id": id}))),
    }
}

/// One process: channels on a store, and how it ends.
struct Process {
    store: Store,
    documents: Arc<Documents>,
    activations: Activations,
    channels: Arc<Channels>,
    script: Arc<Script>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Process {
    fn start(dir: &Path, script: Arc<Script>) -> Self {
        let store = open(dir);
        let documents = Arc::new(Documents::new(store.clone()));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let channels = Arc::new(Channels::new(
            store.clone(),
            Arc::clone(&documents),
            Arc::clone(&script) as _,
            tasks.clone(),
            stop.clone(),
        ));
        let activations = Activations::new(store.clone());
        Self { store, documents, activations, channels, script, tasks, stop }
    }

    /// Everything has been told to end, and has.
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }

    async fn apply(&self, document: Document) {
        self.documents.apply(document, Apply::Create).await.unwrap();
    }

    async fn publish(&self, id: &str) {
        self.channels.publish(&channel("c"), event_of(id)).await.unwrap();
    }

    /// Everything accepted has ended.
    async fn is_empty(&self, dir: &TempDir) {
        let raw = rusqlite::Connection::open(dir.path().join("kwsk.db")).unwrap();
        eventually("empty queues", async || {
            let count = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM fan_out)
                 + (SELECT count(*) FROM deliveries)";
            let left: i64 = raw.query_row(count, [], |row| row.get(0)).unwrap();
            (left == 0).then_some(())
        })
        .await;
    }

    async fn record(&self, n: u64) -> Option<String> {
        let found = self.activations.get(&namespace("guest"), &id(n)).await.unwrap();
        found.map(|record| record.name.as_str().to_owned())
    }
}

fn channel(name: &str) -> Key {
    Key::new(ResourceKind::Channel, "guest", name)
}

/// A Subscription of channel `c` with a subscriber only the script can reach, and more.
fn subscription(name: &str, more: Value) -> Document {
    let mut spec = json!({
        "channel": {"apiVersion": CHANNEL.0, "kind": CHANNEL.1, "name": "c"},
        "subscriber": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "a"}},
    });
    let Value::Object(more) = more else { panic!("{more} is no object") };
    spec.as_object_mut().unwrap().extend(more);
    document(SUBSCRIPTION, name, spec)
}

fn to_channel(name: &str) -> Value {
    json!({"ref": {"apiVersion": CHANNEL.0, "kind": CHANNEL.1, "name": name}})
}

async fn start(script: Arc<Script>, subscriptions: &[(&str, Value)]) -> (TempDir, Process) {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), script);
    process.apply(document(CHANNEL, "c", json!({}))).await;
    for (name, more) in subscriptions {
        process.apply(subscription(name, more.clone())).await;
    }
    (dir, process)
}

#[tokio::test]
async fn fans_out() {
    let (dir, process) = start(Script::of(&[]), &[("a", json!({})), ("b", json!({}))]).await;
    process.apply(document(CHANNEL, "empty", json!({}))).await;
    process.channels.publish(&channel("empty"), event_of("0")).await.unwrap();
    let unknown = process.channels.publish(&channel("unknown"), event_of("0")).await;
    assert!(matches!(unknown, Err(Error::NotFound)));
    process.publish("1").await;
    let mut attempts = process.script.has(2).await;
    attempts.sort();
    assert_eq!(attempts, [r#"a 1 {"id":"1"}"#, r#"b 1 {"id":"1"}"#]);
    process.is_empty(&dir).await;

    // Subscriptions count from the moment they are made to the moment they are deleted.
    process.apply(subscription("c", json!({}))).await;
    process
        .documents
        .delete(&Key::new(ResourceKind::Subscription, "guest", "a"), Precondition::None)
        .await
        .unwrap();
    process.publish("2").await;
    let mut attempts = process.script.has(4).await.split_off(2);
    attempts.sort();
    assert_eq!(attempts, [r#"b 2 {"id":"2"}"#, r#"c 2 {"id":"2"}"#]);
    process.is_empty(&dir).await;
    assert_eq!(process.script.attempts().len(), 4);
    process.end().await;
}

#[tokio::test]
async fn stores_the_record() {
    let script = Script::of(&[("a", &[Step::Run(1), Step::Run(2)])]);
    let (dir, process) = start(script, &[("a", json!({}))]).await;
    process.publish("1").await;
    process.is_empty(&dir).await;
    assert_eq!(process.record(1).await.as_deref(), Some("a"));
    process.end().await;
}

#[tokio::test]
async fn retries_as_the_subscription_says() {
    let delivery = json!({"delivery": {"retry": 2, "backoffPolicy": "linear", "backoffDelay": "PT0.01S"}});
    let steps = |last| [Step::Status(503), Step::Status(404), last];
    let script = Script::of(&[
        ("a", &steps(Step::Run(1))),
        ("b", &[Step::Status(500), Step::Status(500), Step::Status(500), Step::Run(2)]),
        ("c", &[Step::Status(400), Step::Run(3)]),
        ("d", &[Step::Status(500), Step::Run(4)]),
    ]);
    let subscriptions = [("a", delivery.clone()), ("b", delivery.clone()), ("c", delivery), ("d", json!({}))];
    let (dir, process) = start(script, &subscriptions).await;
    process.publish("1").await;
    process.is_empty(&dir).await;
    let attempts = process.script.attempts();
    let of = |name: &str| attempts.iter().filter(|attempt| attempt.starts_with(name)).count();
    assert_eq!([of("a"), of("b"), of("c"), of("d")], [3, 3, 1, 1]);
    assert_eq!(process.record(1).await.as_deref(), Some("a"));
    for name in ["b", "c", "d"] {
        let id = 1000 + u64::from(name.as_bytes()[0]);
        assert_eq!(process.record(id).await, Some(format!("undelivered-{name}")));
    }
    process.end().await;
}

#[tokio::test]
async fn gives_up_to_the_dead_letter_sink() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/dead"))
        .and(header("ce-id", "1"))
        .and(header("ce-knativeerrorcode", "413"))
        .and(header("ce-owuser", "j%C3%BCrgen"))
        .respond_with(ResponseTemplate::new(202))
        .expect(1)
        .mount(&server)
        .await;
    let script = Script::of(&[("a", &[Step::Status(413)]), ("b", &[Step::Status(500)])]);
    let uri = json!({"uri": format!("{}/dead", server.uri())});
    let subscriptions = [
        ("a", json!({"delivery": {"deadLetterSink": uri}})),
        ("b", json!({"delivery": {"deadLetterSink": to_channel("dead")}})),
    ];
    let (dir, process) = start(script, &subscriptions).await;
    process.apply(document(CHANNEL, "dead", json!({}))).await;
    let mut letters = subscription("letters", json!({}));
    letters.body["spec"]["channel"]["name"] = "dead".into();
    process.apply(letters).await;
    process.publish("1").await;
    process.is_empty(&dir).await;
    assert!(process.script.attempts().contains(&r#"letters 1 {"id":"1"}"#.to_owned()));
    process.end().await;
}

#[tokio::test]
async fn replies_go_on() {
    let script = Script::of(&[("a", &[Step::Event("reply")])]);
    let (dir, process) = start(script, &[("a", json!({"reply": to_channel("next")}))]).await;
    process.apply(document(CHANNEL, "next", json!({}))).await;
    let mut hearer = subscription("hearer", json!({}));
    hearer.body["spec"]["channel"]["name"] = "next".into();
    process.apply(hearer).await;
    process.publish("1").await;
    process.script.has(2).await;
    process.is_empty(&dir).await;
    assert_eq!(process.script.attempts()[1], r#"hearer reply {"id":"reply"}"#);
    process.end().await;
}

#[tokio::test]
async fn posts_to_addresses() {
    let server = MockServer::start().await;
    let answer = |status: u16| ResponseTemplate::new(status);
    Mock::given(path("/s")).respond_with(answer(503)).up_to_n_times(1).mount(&server).await;
    let event = answer(200)
        .insert_header("ce-specversion", "1.0")
        .insert_header("ce-id", "answer")
        .insert_header("ce-source", "/server")
        .insert_header("ce-type", "answer")
        .set_body_json(json!({"an": "answer"}));
    Mock::given(method("POST"))
        .and(path("/s"))
        .and(header("ce-specversion", "1.0"))
        .and(header("ce-type", "test"))
        .and(header("prefer", "reply"))
        .and(header("kn-namespace", "guest"))
        .respond_with(event)
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/reply"))
        .and(header("ce-id", "answer"))
        .and(header("ce-source", "/server"))
        .respond_with(answer(202))
        .expect(1)
        .mount(&server)
        .await;
    let address = |at: &str| json!({"uri": format!("{}{at}", server.uri())});
    let more = json!({"subscriber": address("/s"), "reply": address("/reply"), "delivery": {"retry": 1}});
    let (dir, process) = start(Script::of(&[]), &[("a", more)]).await;
    process.publish("1").await;
    process.is_empty(&dir).await;
    assert!(process.script.attempts().is_empty());
    process.end().await;
}

#[tokio::test]
async fn a_timeout_ends_what_has_not_begun() {
    let script = Script::of(&[("a", &[Step::Hang { begun: false }, Step::Run(1)])]);
    let delivery = json!({"delivery": {"retry": 1, "timeout": "PT0.02S"}});
    let (dir, process) = start(script, &[("a", delivery)]).await;
    process.publish("1").await;
    process.is_empty(&dir).await;
    assert_eq!(process.record(1).await.as_deref(), Some("a"));
    process.end().await;
}

/// A process is killed with one delivery begun, one hanging before that and one waiting for its next attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_delivers_what_waits_and_accounts_for_what_had_begun() {
    let script = Script::of(&[
        ("begun", &[Step::Hang { begun: true }]),
        ("deleted", &[Step::Hang { begun: true }]),
        ("early", &[Step::Hang { begun: false }]),
        ("late", &[Step::Status(503)]),
    ]);
    let delivery = json!({"delivery": {"retry": 1, "backoffPolicy": "exponential", "backoffDelay": "PT2S"}});
    let subscriptions = [
        ("begun", json!({})),
        ("deleted", json!({})),
        ("done", json!({})),
        ("early", json!({})),
        ("late", delivery),
    ];
    let (dir, process) = start(script, &subscriptions).await;
    process.publish("7").await;
    process.script.has(5).await;
    process.script.reached.acquire_many(3).await.unwrap().forget();
    // Killed: nobody waits for the tasks, only what is on disk counts.
    eventually("two begun, one postponed, one done", async || {
        let raw = rusqlite::Connection::open(dir.path().join("kwsk.db")).unwrap();
        let states = "SELECT group_concat(state || ':' || attempts, ' ') FROM
             (SELECT * FROM deliveries ORDER BY state, attempts)";
        let states: Option<String> = raw.query_row(states, [], |row| row.get(0)).unwrap();
        (states.as_deref() == Some("0:1 1:0 1:0 2:0")).then_some(())
    })
    .await;
    let deleted = Key::new(ResourceKind::Subscription, "guest", "deleted");
    process.documents.delete(&deleted, Precondition::None).await.unwrap();
    let image = tempfile::tempdir().unwrap();
    for file in ["kwsk.db", "kwsk.db-wal"] {
        std::fs::copy(dir.path().join(file), image.path().join(file)).unwrap();
    }

    let script = Script::of(&[("early", &[Step::Run(1)]), ("late", &[Step::Run(2)])]);
    let successor = Process::start(image.path(), script);
    successor.channels.resume().await.unwrap();
    successor.channels.resume().await.unwrap();
    successor.publish("8").await;
    successor.is_empty(&image).await;
    let mut attempts = successor.script.attempts();
    attempts.retain(|attempt| attempt.contains(" 7 "));
    attempts.sort();
    assert_eq!(attempts, [r#"early 7 {"id":"7"}"#, r#"late 7 {"id":"7"}"#]);
    assert_eq!(successor.record(7).await.as_deref(), Some("interrupted-begun"));
    assert_eq!(successor.record(1).await.as_deref(), Some("early"));
    assert_eq!(successor.record(2).await.as_deref(), Some("late"));
    successor.end().await;
}

/// What is published before `resume` is delivered once, not twice.
#[tokio::test]
async fn resuming_leaves_own_events_alone() {
    let (dir, process) = start(Script::of(&[("a", &[Step::Run(1)])]), &[("a", json!({}))]).await;
    process.publish("1").await;
    process.channels.resume().await.unwrap();
    process.publish("2").await;
    process.is_empty(&dir).await;
    assert_eq!(process.script.attempts().len(), 2);
    process.end().await;
}

/// More deliveries than may run at a time, and than are kept in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many() {
    let (dir, process) = start(Script::of(&[]), &[]).await;
    for n in 0..40 {
        process.apply(subscription(&format!("s{n}"), json!({}))).await;
    }
    let mut large = event_of("1");
    large.data = Data::Json(RawJson::from(json!({"text": "x".repeat(1 << 20)})));
    for n in 0..20 {
        large.id = n.to_string();
        process.channels.publish(&channel("c"), large.clone()).await.unwrap();
    }
    for n in 100..150 {
        process.publish(&n.to_string()).await;
    }
    process.is_empty(&dir).await;
    assert_eq!(process.script.attempts().len(), 70 * 40);
    process.end().await;
}

#[tokio::test]
async fn the_end_leaves_the_rest_to_the_next_process() {
    let script = Script::of(&[("a", &[Step::Hang { begun: false }])]);
    let (dir, process) = start(script, &[("a", json!({}))]).await;
    process.publish("1").await;
    process.script.reached.acquire().await.unwrap().forget();
    process.end().await;
    let next = Process::start(dir.path(), Script::of(&[("a", &[Step::Run(1)])]));
    next.channels.resume().await.unwrap();
    next.is_empty(&dir).await;
    assert_eq!(next.record(1).await.as_deref(), Some("a"));
    next.end().await;
}
