//! Every route with every status it is meant to answer, as a golden list: a route or a refusal that goes missing, or a new
//! one, changes a checked-in file.

use kwsk_tests::{Client, TestApp, echo, rule};
use serde_json::{Value, json};

/// Requests that nothing has to precede: what is missing, foreign, malformed.
const REFUSED: &[(&str, &str)] = &[
    ("GET", "actions?limit=x"),
    ("GET", "actions/%20"),
    ("GET", "actions/missing"),
    ("GET", "actions/t"),
    ("GET", "actions/missing/"),
    ("GET", "actions/p/?limit=x"),
    ("GET", "actions/p/missing"),
    ("GET", "actions/p/%20"),
    ("DELETE", "actions/missing"),
    ("DELETE", "actions/t"),
    ("DELETE", "actions/%20"),
    ("DELETE", "actions/p/missing"),
    ("DELETE", "actions/p/%20"),
    ("PUT", "actions/x"),
    ("PUT", "actions/p/x"),
    ("POST", "actions/missing"),
    ("POST", "actions/t"),
    ("POST", "actions/a?timeout=x"),
    ("POST", "actions/p/missing"),
    ("POST", "actions/p/a?timeout=x"),
    ("GET", "packages?limit=x"),
    ("GET", "packages/%20"),
    ("GET", "packages/missing"),
    ("GET", "packages/t"),
    ("PUT", "packages/x"),
    ("DELETE", "packages/missing"),
    ("DELETE", "packages/p"),
    ("DELETE", "packages/%20"),
    ("GET", "triggers?limit=x"),
    ("GET", "triggers/%20"),
    ("GET", "triggers/missing"),
    ("GET", "triggers/a"),
    ("PUT", "triggers/x"),
    ("DELETE", "triggers/missing"),
    ("DELETE", "triggers/a"),
    ("DELETE", "triggers/%20"),
    ("POST", "triggers/missing"),
    ("POST", "triggers/a"),
    ("POST", "triggers/%20"),
    ("GET", "rules?limit=x"),
    ("GET", "rules/%20"),
    ("GET", "rules/missing"),
    ("GET", "rules/a"),
    ("PUT", "rules/x"),
    ("POST", "rules/r"),
    ("DELETE", "rules/missing"),
    ("DELETE", "rules/a"),
    ("DELETE", "rules/%20"),
    ("GET", "activations?limit=x"),
    ("GET", "activations/x"),
    ("GET", "activations/x/result"),
    ("GET", "activations/x/logs"),
    ("GET", "activations/0123456789abcdef0123456789abcdef"),
    ("GET", "activations/0123456789abcdef0123456789abcdef/result"),
    ("GET", "activations/0123456789abcdef0123456789abcdef/logs"),
    ("GET", "limits/x"),
    ("GET", "nowhere"),
    ("POST", "actions"),
    ("PUT", "limits"),
];

/// Requests that succeed once `prepare` has run, in this order.
const GRANTED: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/ping"),
    ("GET", "/invokers"),
    ("GET", "/invokers/healthy/count"),
    ("GET", "/invokers/ready"),
    ("GET", "/api/v1"),
    ("GET", "/api/v1/"),
    ("GET", "/api/v1/namespaces"),
    ("GET", "/api/v1/namespaces/"),
    ("OPTIONS", "actions/x"),
    ("GET", "actions"),
    ("GET", "actions/"),
    ("GET", "actions/p/"),
    ("GET", "actions/a"),
    ("GET", "actions/p/a"),
    ("POST", "actions/a"),
    ("POST", "actions/a?blocking=true"),
    ("POST", "actions/p/a"),
    ("POST", "actions/p/a?blocking=true"),
    ("GET", "packages"),
    ("GET", "packages/"),
    ("GET", "packages/p"),
    ("GET", "triggers"),
    ("GET", "triggers/"),
    ("GET", "triggers/t"),
    ("POST", "triggers/t"),
    ("POST", "triggers/idle"),
    ("GET", "rules"),
    ("GET", "rules/"),
    ("GET", "rules/r"),
    ("GET", "activations"),
    ("GET", "activations/"),
    ("GET", "limits"),
    ("GET", "limits/"),
    ("DELETE", "rules/r"),
    ("DELETE", "triggers/t"),
    ("DELETE", "actions/p/a"),
    ("DELETE", "actions/a"),
    ("DELETE", "packages/p"),
];

/// More that somebody else may not.
const MORE: &[(&str, &str)] = &[
    ("POST", "rules/r"),
    ("GET", "limits/x"),
    ("GET", "activations/0123456789abcdef0123456789abcdef"),
    ("GET", "activations/0123456789abcdef0123456789abcdef/result"),
    ("GET", "activations/0123456789abcdef0123456789abcdef/logs"),
];

fn documents() -> [(&'static str, Value); 7] {
    [
        ("actions/a", echo()),
        ("packages/p", json!({})),
        ("actions/p/a", echo()),
        ("triggers/t", json!({})),
        ("triggers/idle", json!({})),
        ("rules/r", rule("t", "a")),
        ("rules/x", json!({})),
    ]
}

async fn send(client: &Client, method: &str, path: &str) {
    client.send(client.request(method, path)).await;
}

#[tokio::test]
async fn routes_and_statuses() {
    let app = TestApp::start();
    for (path, document) in documents() {
        // Created, refused as existing, of a wrong media type, by somebody else.
        app.guest.put(path, &document).await;
        app.guest.put(path, &document).await;
        app.guest.send(app.guest.request("PUT", path).header("content-type", "text/plain").body("{}")).await;
        app.system.put(&path_of_guest(path), &document).await;
        app.anon.put(path, &document).await;
    }
    let mut large = echo();
    large["exec"]["code"] = json!("/".repeat(48 * 1024 * 1024 + 1));
    for path in ["actions/large", "actions/p/large"] {
        app.guest.put(path, &large).await;
    }
    let failing = kwsk_tests::js("const main = () => ({error: 1})");
    for path in ["actions/failing", "actions/p/failing"] {
        app.guest.put(path, &failing).await;
        app.guest.post(&format!("{path}?blocking=true"), &Value::Null).await;
        app.guest.delete(path).await;
    }
    app.guest.put("actions/missing/x", &failing).await;
    let payload = json!({"p": "x".repeat(1024 * 1024)});
    for path in ["actions/a", "actions/p/a", "triggers/t"] {
        app.guest.post(path, &payload).await;
    }
    for (method, path) in REFUSED {
        send(&app.guest, method, path).await;
    }
    app.guest.post("rules/r", &json!({"status": "active"})).await;
    app.guest.post("rules/missing", &json!({"status": "active"})).await;
    for (method, path) in GRANTED {
        send(&app.guest, method, path).await;
    }
    let id =
        app.guest.get("activations?limit=1").await.good()[0]["activationId"].as_str().unwrap().to_owned();
    for part in ["", "/result", "/logs"] {
        app.guest.get(&format!("activations/{id}{part}")).await.good();
    }
    let private = GRANTED.iter().filter(|(method, path)| !path.starts_with('/') && *method != "OPTIONS");
    for (method, path) in private.chain(MORE) {
        send(&app.anon, method, path).await;
        send(&app.system, method, &path_of_guest(path)).await;
    }
    send(&app.anon, "GET", "/api/v1/namespaces").await;
    send(&app.anon, "GET", "/api/v1/namespaces/").await;
    let throttled = TestApp::configure()
        .flag("limits-invocations-per-minute", "0")
        .flag("limits-fires-per-minute", "0")
        .recording(&app.coverage)
        .start();
    for path in ["actions/a", "actions/p/a", "triggers/t"] {
        throttled.guest.post(path, &Value::Null).await;
    }
    insta::assert_snapshot!(app.coverage.to_string());
}

fn path_of_guest(path: &str) -> String {
    format!("/api/v1/namespaces/guest/{path}")
}
