use std::net::SocketAddr;
use std::sync::Arc;

use kwsk_shim::{ActionSpec, REPORT_MEDIA_TYPE, Report, Runtime, header, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::harness::{Pad, node, ok, run, source};

/// One request on its own connection: status, head and body.
async fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut text =
        format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), serde_json::from_str(body).unwrap())
}

struct Served {
    pad: Pad,
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinSet<std::io::Result<()>>,
}

async fn served(spec: ActionSpec) -> Served {
    let pad = Pad::new().await;
    let shim = Arc::new(pad.shim(&node(), spec));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(serve(listener, shim, stop.clone()));
    Served { pad, address, stop, task }
}

impl Served {
    async fn close(mut self) {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
        self.pad.close().await;
    }
}

fn echo() -> ActionSpec {
    let mut spec = source(
        "function main(a) { console.log('hi'); return a.fail ? {error: 1} : {got: a, id: process.env.__OW_ACTIVATION_ID, tid: process.env.__OW_TRANSACTION_ID, deadline: process.env.__OW_DEADLINE} }",
    );
    spec.parameters = serde_json::from_value(json!([{"key":"p","value":1},{"key":"q","value":2}])).unwrap();
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn requests() {
    let served = served(echo()).await;
    let address = served.address;
    assert_eq!(ask(address, "GET /kwsk/ready", &[], "").await.0, 200);
    let (status, head, body) = ask(address, "POST /", &[], r#"{"q":3}"#).await;
    assert_eq!((status, &body["got"]), (200, &json!({"p":1,"q":3})));
    assert!(head.contains(&format!("{}: {}", header::ACTIVATION, body["id"].as_str().unwrap())), "{head}");
    assert!(head.contains(header::INIT_MS) && head.contains(header::RUN_MS));
    let id = "a".repeat(32);
    let given = [
        (header::ACTIVATION_ID, id.as_str()),
        (header::TRANSACTION_ID, "t1"),
        (header::DEADLINE, "99"),
        (header::COMPLETE, "1"),
        ("accept", REPORT_MEDIA_TYPE),
    ];
    let (status, head, body) = ask(address, "POST /", &given, "").await;
    let report: Report = serde_json::from_value(body).unwrap();
    assert_eq!(status, 200);
    assert!(head.contains(REPORT_MEDIA_TYPE));
    assert_eq!(ok(&report), json!({"got":{},"id":id,"tid":"t1","deadline":"99"}));
    assert!(report.logs[0].ends_with("stdout: hi") && report.init_ms.is_none());
    let (status, head, body) = ask(address, "POST /", &[], r#"{"fail":true}"#).await;
    assert_eq!((status, body), (502, json!({"error":1})));
    assert!(head.contains("x-kwsk-outcome: 1"));
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let served = served(echo()).await;
    for (line, headers, body, expected) in [
        ("POST /", &[][..], "{", 400),
        ("POST /", &[][..], "1", 400),
        ("POST /", &[(header::ACTIVATION_ID, "short")][..], "{}", 400),
        ("POST /", &[(header::CONTEXT, "{}")][..], "{}", 400),
        ("POST /", &[("ce-specversion", "1.0")][..], "{}", 400),
        ("POST /other", &[][..], "{}", 404),
        ("GET /", &[][..], "", 404),
        ("PUT /", &[][..], "{}", 404),
    ] {
        let (status, _, answer) = ask(served.address, line, headers, body).await;
        assert_eq!(status, expected, "{line} {body}");
        assert!(answer["error"].is_string());
    }
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events() {
    let served = served(echo()).await;
    let binary = [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/s"), ("ce-type", "t")];
    let path = "POST /kwsk/rule/guest/a%20rule";
    let (status, _, first) = ask(served.address, path, &binary, r#"{"q":3}"#).await;
    assert_eq!((status, &first["got"]), (200, &json!({"p":1,"q":3})));
    let rule = "guest/a rule".parse().unwrap();
    let expected = kwsk_model::activation::ActivationId::of_rule("/s", "7", &rule);
    assert_eq!(first["id"], json!(expected));
    let structured = [("content-type", "application/cloudevents+json")];
    let body = r#"{"specversion":"1.0","id":"7","source":"/s","type":"t","data":{"q":9}}"#;
    let (status, _, again) = ask(served.address, path, &structured, body).await;
    assert_eq!((status, &again), (200, &first), "a redelivered event is not run again");
    for path in ["POST /", "POST /any/path"] {
        let (status, _, direct) = ask(served.address, path, &structured, body).await;
        let expected = kwsk_model::activation::ActivationId::of_rule("/s", "7", &"_/act".parse().unwrap());
        assert_eq!((status, &direct["got"], &direct["id"]), (200, &json!({"p":1,"q":9}), &json!(expected)));
    }
    let (_, _, other) = ask(served.address, "POST /", &binary, "[1]").await;
    assert_eq!(other["got"]["q"], json!(9), "same id, same answer");
    served.close().await;
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
