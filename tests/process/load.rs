//! Many calls at once, and what is left afterwards.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::server::{Server, parts};

/// Processes whose parent is `pid`, zombies included.
fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{child}/stat")) else { continue };
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let parent = after_name.split_whitespace().nth(1).and_then(|p| p.parse::<u32>().ok());
        if parent == Some(pid) {
            children.push(child);
        }
    }
    children
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_invocations_from_64_connections_lose_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--memory", "2048"]).await;
    server.action("echo", "function main(p) { console.log('n', p.n); return {n: p.n}; }").await;
    let mut connections = JoinSet::new();
    for connection in 0..64_u32 {
        let calls: Vec<_> = (0..1000_u32)
            .filter(|n| n % 64 == connection)
            .map(|n| (n, server.call(Method::POST, "actions/echo?blocking=true").json(&json!({"n": n}))))
            .collect();
        connections.spawn(async move {
            let mut ids = Vec::new();
            for (n, call) in calls {
                let (status, record) = parts(call.send().await.unwrap()).await;
                assert_eq!(status, 200, "{record}");
                assert_eq!(record["response"]["result"], json!({"n": n}), "somebody else's answer");
                ids.push((n, record["activationId"].as_str().unwrap().to_owned()));
            }
            ids
        });
    }
    let mut ids = Vec::new();
    while let Some(more) = connections.join_next().await {
        ids.extend(more.unwrap());
    }
    assert_eq!(ids.iter().map(|(_, id)| id).collect::<HashSet<_>>().len(), 1000);
    for (n, id) in &ids {
        let (status, logs) = server.get(&format!("activations/{id}/logs")).await;
        assert_eq!(status, 200, "{logs}");
        let lines = logs["logs"].as_array().unwrap();
        assert_eq!(lines.len(), 1, "{logs}");
        assert!(lines[0].as_str().unwrap().ends_with(&format!("stdout: n {n}")), "{logs}");
    }
    let (_, count) = server.get("activations?count=true").await;
    assert_eq!(count, json!({"activations": 1000}));

    let pid = server.pid();
    let runtimes = children_of(pid);
    assert!(!runtimes.is_empty());
    assert!(server.terminate());
    for child in runtimes {
        assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "runtime {child} is left behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_servers_runtimes_are_ended() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    // A busy loop never sees that its server is gone; the next server ends it.
    server.action("spin", "function main() { for (;;) {} }").await;
    let (status, _) = server.post("actions/spin", json!({})).await;
    assert_eq!(status, 202);
    let pid = server.pid();
    let is_running = async |_: &Server| !children_of(pid).is_empty();
    server.eventually("a runtime", is_running).await;
    let runtimes = children_of(pid);
    server.kill();
    let server = Server::start(data.path()).await;
    let gone = async |_: &Server| {
        runtimes.iter().all(|child| {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        })
    };
    server.eventually("the end of old runtimes", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_update_never_runs_old_code() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    for version in 0..40_u32 {
        if version % 8 == 7 {
            let (status, _) = parts(server.call(Method::DELETE, "actions/v").send().await.unwrap()).await;
            assert_eq!(status, 200);
        }
        server.action("v", &format!("function main() {{ return {{version: {version}}}; }}")).await;
        let mut calls = JoinSet::new();
        for _ in 0..4 {
            let call = server.call(Method::POST, "actions/v?blocking=true&result=true");
            calls.spawn(async move { parts(call.send().await.unwrap()).await });
        }
        while let Some(answer) = calls.join_next().await {
            assert_eq!(answer.unwrap(), (200, json!({"version": version})));
        }
    }
    let _: Value = server.get("actions/v").await.1;
}
