//! What was acknowledged survives `kill -9`, and every accepted activation ends in exactly one record.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::server::Server;

/// Rounds of load and kill.
const ROUNDS: usize = 200;
/// Clients per round.
const CLIENTS: usize = 6;

/// Leaves one line per run in the file named by the parameter `log`.
const WITNESS: &str = "const fs = require('fs');
function main(p) { fs.appendFileSync(p.log, process.env.__OW_ACTIVATION_ID + '\\n'); return {ok: true}; }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn created_entities_survive_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.action("hello", "function main(p) { return {hello: p.name}; }").await;
    let (status, _) = server.put("triggers/t", json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(server.put("packages/p", json!({"publish": true})).await.0, 200);
    let (status, answer) = server.put("rules/r", json!({"trigger": "/_/t", "action": "/_/hello"})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, record) = server.post("actions/hello?blocking=true", json!({"name": "a"})).await;
    assert_eq!(status, 200, "{record}");
    let id = record["activationId"].as_str().unwrap().to_owned();
    assert_eq!(server.get(&format!("activations/{id}")).await.0, 200);
    server.kill();

    let server = Server::start(data.path()).await;
    for path in ["actions/hello", "triggers/t", "packages/p", "rules/r"] {
        assert_eq!(server.get(path).await.0, 200, "{path}");
    }
    assert_eq!(server.get(&format!("activations/{id}")).await.0, 200);
    let (status, result) = server.post("actions/hello?blocking=true&result=true", json!({"name": "b"})).await;
    assert_eq!((status, result), (200, json!({"hello": "b"})));
    assert!(server.terminate());
}

/// One client: invokes and fires without waiting until the server is gone; what was accepted is returned.
async fn client(http: reqwest::Client, base: String) -> Vec<String> {
    let mut accepted = Vec::new();
    let authorised = |path: &str| {
        http.post(format!("{base}/api/v1/namespaces/_/{path}"))
            .basic_auth(crate::server::UUID, Some(crate::server::KEY))
            .json(&json!({}))
    };
    for path in ["actions/witness", "triggers/event"].into_iter().cycle() {
        let Ok(response) = authorised(path).send().await else { break };
        assert_eq!(response.status().as_u16(), 202);
        let Ok(answer) = response.json::<Value>().await else { break };
        accepted.push(answer["activationId"].as_str().unwrap().to_owned());
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_activations_end_in_exactly_one_record() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("witness.log");
    let mut accepted = HashSet::new();
    let mut server = Server::start_with(data.path(), &["--stem-cells", "0"]).await;
    prepare(&server, &log).await;
    for round in 0..ROUNDS {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(client(server.http.clone(), server.url.clone()));
        }
        // Spread over everything from "nothing accepted yet" to "some have run"; a prime step, so no two rounds agree.
        let moment = Duration::from_millis((round as u64 * 37) % 120);
        tokio::time::sleep(moment).await;
        server.kill();
        while let Some(ids) = clients.join_next().await {
            accepted.extend(ids.unwrap());
        }
        server = Server::start_with(data.path(), &["--stem-cells", "0"]).await;
    }
    assert!(accepted.len() > ROUNDS, "the load was too small to show anything: {}", accepted.len());
    verify(&server, &accepted, &log).await;
    assert!(server.terminate());
}

async fn prepare(server: &Server, log: &Path) {
    let exec = json!({"kind": "nodejs:default", "code": WITNESS});
    let parameters = json!([{"key": "log", "value": log.to_str().unwrap()}]);
    let limits = json!({"memory": 128});
    let body = json!({"exec": exec, "parameters": parameters, "limits": limits});
    let (status, answer) = server.put("actions/witness", body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(server.put("triggers/event", json!({})).await.0, 200);
    let (status, answer) =
        server.put("rules/r", json!({"trigger": "/_/event", "action": "/_/witness"})).await;
    assert_eq!(status, 200, "{answer}");
}

/// Every record of the namespace.
async fn records(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let (status, page) = server.get(&format!("activations?docs=true&limit=200&skip={}", all.len())).await;
        assert_eq!(status, 200, "{page}");
        let page = page.as_array().unwrap().clone();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// The ids a trigger's record promises.
fn promised(record: &Value) -> Vec<String> {
    let lines = record["logs"].as_array().unwrap().iter().filter_map(|l| {
        let line: Value = serde_json::from_str(l.as_str()?).ok()?;
        Some(line["activationId"].as_str()?.to_owned())
    });
    if record["name"] == "event" { lines.collect() } else { Vec::new() }
}

async fn verify(server: &Server, accepted: &HashSet<String>, log: &Path) {
    let is_complete = async |server: &Server| {
        let all = records(server).await;
        let known: HashSet<String> =
            all.iter().map(|r| r["activationId"].as_str().unwrap().to_owned()).collect();
        let promised: HashSet<String> = all.iter().flat_map(promised).collect();
        let missing = |ids: &HashSet<String>| ids.difference(&known).count();
        let complete = missing(accepted) == 0 && missing(&promised) == 0;
        if !complete {
            println!(
                "{} records; missing: {} of {} accepted, {} of {} promised",
                all.len(),
                missing(accepted),
                accepted.len(),
                missing(&promised),
                promised.len()
            );
        }
        complete
    };
    server.eventually("a record of everything accepted", is_complete).await;

    let mut runs: HashMap<String, usize> = HashMap::new();
    for line in std::fs::read_to_string(log).unwrap_or_default().lines() {
        *runs.entry(line.to_owned()).or_default() += 1;
    }
    let (mut seen, mut succeeded, mut unknown) = (HashSet::new(), 0, 0);
    for record in records(server).await {
        let id = record["activationId"].as_str().unwrap().to_owned();
        assert!(seen.insert(id.clone()), "two records of {id}");
        if record["name"] == "event" {
            continue;
        }
        let ran = runs.get(&id).copied().unwrap_or_default();
        assert!(ran <= 1, "{id} ran {ran} times");
        if record["response"]["success"] == true {
            assert_eq!(ran, 1, "{id} is said to have run");
            succeeded += 1;
        } else {
            let error = record["response"]["result"]["error"].as_str().unwrap();
            assert!(error.contains("its outcome is unknown"), "{id}: {error}");
            unknown += 1;
        }
    }
    for id in runs.keys() {
        assert!(seen.contains(id), "{id} ran and has no record");
    }
    // Both kinds of ending must have been seen, or the kills missed their target.
    assert!(succeeded > 0 && unknown > 0, "succeeded {succeeded}, unknown {unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_nobody_refers_to_is_removed_at_shutdown() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.action("kept", "function main() { return {kept: 1}; }").await;
    server.action("kept", "function main() { return {kept: 2}; }").await;
    server.action("gone", "function main() { return {}; }").await;
    assert_eq!(server.call(reqwest::Method::DELETE, "actions/gone").send().await.unwrap().status(), 200);
    assert!(server.terminate());
    assert_eq!(std::fs::read_dir(data.path().join("code")).unwrap().count(), 1);
    let server = Server::start(data.path()).await;
    let (status, result) = server.post("actions/kept?blocking=true&result=true", json!({})).await;
    assert_eq!((status, result), (200, json!({"kept": 2})));
}
