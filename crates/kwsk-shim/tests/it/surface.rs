//! What the socket takes in and gives back, with a real Node.js behind it where something runs.

mod counted;
mod events;
mod refusals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kwsk_model::activation::{ActivationId, Outcome};
use kwsk_shim::{ActionSpec, Bounds, REPORT_MEDIA_TYPE, Report, Runtime, Shim, header, serve, serve_within};
use kwsk_translate::event::{self, CloudEvent};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::harness::{Pad, node, ok, result, run, source};

/// One answer.
#[derive(Debug)]
struct Got {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl Got {
    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.lines().filter_map(|line| line.split_once(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn event(&self) -> CloudEvent {
        CloudEvent::from_http(self.headers(), self.body.as_bytes()).unwrap()
    }

    fn is_refusal(&self) -> bool {
        self.json()["error"].is_string() && self.header(header::ACTIVATION).is_none()
    }
}

fn request(line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n" + body
}

/// Sends `text` on a connection of its own and reads until the server closes it.
async fn say(address: SocketAddr, text: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// One request on its own connection.
async fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let headers = [headers, &[("Connection", "close")]].concat();
    Got::of(&say(address, request(line, &headers, body).as_bytes()).await)
}

struct Served {
    pad: Pad,
    shim: Arc<Shim>,
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinSet<std::io::Result<()>>,
}

async fn served(spec: ActionSpec) -> Served {
    served_within(Bounds::default(), spec).await
}

async fn served_within(bounds: Bounds, spec: ActionSpec) -> Served {
    let pad = Pad::new().await;
    let shim = Arc::new(pad.shim(&node(), spec));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(serve_within(bounds, listener, Arc::clone(&shim), stop.clone()));
    Served { pad, shim, address, stop, task }
}

impl Served {
    async fn close(mut self) {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
        self.pad.close().await;
    }

    /// The samples of `GET /kwsk/metrics` that are not zero, sorted.
    async fn samples(&self) -> Vec<String> {
        let got = ask(self.address, "GET /kwsk/metrics", &[], "").await;
        assert_eq!(got.status, 200);
        assert!(got.header("content-type").unwrap().starts_with("application/openmetrics-text"));
        assert!(got.body.ends_with("# EOF\n"), "{}", got.body);
        let is_zero = |line: &str| line.ends_with(" 0") || line.ends_with(" 0.0");
        let samples = got.body.lines().filter(|line| !line.starts_with('#') && !is_zero(line));
        let mut samples: Vec<String> = samples.map(str::to_owned).collect();
        samples.sort_unstable();
        samples
    }
}

fn echo() -> ActionSpec {
    let mut spec = source(
        "function main(a) { console.log('hi'); return a.fail ? {error: 1} : a.die ? process.exit(1) : {got: a, id: process.env.__OW_ACTIVATION_ID, tid: process.env.__OW_TRANSACTION_ID, deadline: process.env.__OW_DEADLINE} }",
    );
    spec.parameters = serde_json::from_value(json!([{"key":"p","value":1},{"key":"q","value":2}])).unwrap();
    spec
}

/// Counts its runs.
fn counter() -> ActionSpec {
    source("let n = 0; function main(a) { return {n: ++n, got: a} }")
}

const STRUCTURED: [(&str, &str); 1] = [("content-type", event::STRUCTURED)];
const BATCH: [(&str, &str); 1] = [("content-type", event::BATCH)];
const BINARY: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/s"), ("ce-type", "t")];

fn structured(id: &str, data: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","data":{data}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    let served = served(echo()).await;
    let address = served.address;
    let got = ask(address, "POST /", &[], r#"{"q":3}"#).await;
    let body = got.json();
    assert_eq!((got.status, &body["got"]), (200, &json!({"p":1,"q":3})));
    assert_eq!(got.header(header::ACTIVATION), body["id"].as_str());
    assert_eq!(got.header(header::OUTCOME), Some("0"));
    assert!(got.header(header::INIT_MS).is_some() && got.header(header::RUN_MS).is_some());
    assert_eq!(body["tid"], body["id"]);
    let id = "a".repeat(32);
    let given = [
        (header::ACTIVATION_ID, id.as_str()),
        (header::TRANSACTION_ID, "t1"),
        (header::DEADLINE, "99"),
        (header::COMPLETE, "1"),
        ("accept", REPORT_MEDIA_TYPE),
    ];
    let got = ask(address, "POST /", &given, "").await;
    let report: Report = serde_json::from_value(got.json()).unwrap();
    assert_eq!((got.status, got.header("content-type")), (200, Some(REPORT_MEDIA_TYPE)));
    assert_eq!(ok(&report), json!({"got":{},"id":id,"tid":"t1","deadline":"99"}));
    assert!(report.logs[0].ends_with("stdout: hi") && report.init_ms.is_none() && report.ran);
    for (body, status, outcome) in [(r#"{"fail":true}"#, 502, "1"), (r#"{"die":true}"#, 502, "2")] {
        let got = ask(address, "POST /", &[], body).await;
        assert_eq!((got.status, got.header(header::OUTCOME)), (status, Some(outcome)));
        assert!(!got.json()["error"].is_null());
    }
    for line in ["POST /any/path?x=1", "POST /kwskish"] {
        assert_eq!(ask(address, line, &[], "{}").await.status, 200, "{line}");
    }
    let context = json!({"namespace":"n","action_name":"/n/a","action_version":"1.2.3","activation_id":"b","transaction_id":"t2","deadline":"7"});
    let got = ask(address, "POST /", &[(header::CONTEXT, &context.to_string())], "[1]").await;
    assert_eq!(got.json(), json!({"got":[1],"id":"b","tid":"t2","deadline":"7"}));
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accept_lists() {
    let served = served(echo()).await;
    let envelope = format!("text/plain;q=0.1, {};q=1", REPORT_MEDIA_TYPE.to_uppercase());
    for (accept, whole) in [
        (envelope.as_str(), true),
        ("application/json, */*", false),
        ("application/vnd.kwsk.activation+jsonx", false),
    ] {
        let got = ask(served.address, "POST /", &[("Accept", accept)], r#"{"fail":1}"#).await;
        assert_eq!(got.json()["runMs"].is_u64(), whole, "{accept}");
        assert_eq!(got.status, if whole { 200 } else { 502 });
    }
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_run_may_be_asked_for_again() {
    let served = served(echo()).await;
    served.shim.stop().await;
    let prefer = [&BINARY[..], &[("prefer", "reply")]].concat();
    let id = "a".repeat(32);
    let kwsk = [("accept", REPORT_MEDIA_TYPE), (header::ACTIVATION_ID, id.as_str())];
    let batch = format!("[{}]", structured("1", "{}"));
    for (headers, body) in
        [(&[][..], "{}"), (&kwsk[..], "{}"), (&BINARY[..], "{}"), (&prefer[..], "{}"), (&BATCH[..], &batch)]
    {
        for attempt in 0..2 {
            let got = ask(served.address, "POST /", headers, body).await;
            assert_eq!((got.status, got.header("retry-after")), (503, Some("1")), "{attempt} {got:?}");
            assert!(got.is_refusal() && got.header("ce-id").is_none(), "{got:?}");
        }
    }
    assert_eq!(
        served.samples().await,
        [
            r#"kwsk_shim_runs_total{outcome="not_run",caller="event"} 6"#,
            r#"kwsk_shim_runs_total{outcome="not_run",caller="kwsk"} 2"#,
            r#"kwsk_shim_runs_total{outcome="not_run",caller="plain"} 2"#,
        ]
    );
    served.close().await;
}

/// A runtime that says yes to everything and remembers what it was asked.
async fn recorder(listener: TcpListener, heard: Arc<std::sync::Mutex<String>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let heard = Arc::clone(&heard);
        connections.spawn(async move {
            let mut bytes = vec![0; 65536];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
                let answer =
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
                if stream.write_all(answer).await.is_err() {
                    break;
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_is_passed_on() {
    let pad = Pad::new().await;
    let runtime = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let attached = Arc::new(Runtime::attached("test:1", runtime.local_addr().unwrap(), false));
    let heard = Arc::new(std::sync::Mutex::new(String::new()));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(recorder(runtime, Arc::clone(&heard)));
    let shim = Arc::new(pad.shim(&attached, source("x")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(serve(listener, shim, stop.clone()));
    let headers = [("Idempotency-Key", "k-1"), ("X-Idempotency-Key", "k-2"), ("traceparent", "k-3")];
    let events = [&BINARY[..], &headers[..]].concat();
    for headers in [&headers[..], &events[..]] {
        assert_eq!(ask(address, "POST /", headers, r#"{"a":"seen"}"#).await.status, 200);
    }
    let heard = heard.lock().unwrap().to_lowercase();
    assert_eq!(heard.matches("post /run ").count(), 2);
    assert!(heard.contains("seen") && !heard.contains("k-") && !heard.contains("idempotency"), "{heard}");
    stop.cancel();
    server.join_next().await.unwrap().unwrap().unwrap();
    tasks.shutdown().await;
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_without_a_name_is_not_served() {
    let pad = Pad::new().await;
    for name in ["", "act", "/a/b/c/d", "/a/ b"] {
        let mut spec = echo();
        spec.identity.action_name = name.to_owned();
        let shim = Arc::new(pad.shim(&node(), spec));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = serve(listener, shim, CancellationToken::new()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("'{name}' is not the full name of an action")), "{error}");
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_runtime() {
    let pad = Pad::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut neighbour = tokio::process::Command::new("node")
        .args([crate::harness::fixture("http_server.js"), port.port().to_string()])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let runtime = Arc::new(Runtime::attached("test:1", port, false));
    let shim = pad.shim(&runtime, source("function main(a) { return {got: a} }"));
    let report = run(&shim, json!({"n":1})).await;
    assert_eq!(ok(&report), json!({"got":{"n":1},"runs":1}));
    assert!(report.logs.is_empty() && shim.pid().is_none());
    neighbour.kill().await.unwrap();
    pad.close().await;
}
