//! Throttles of a namespace.

use kwsk_tests::{TestApp, echo, js};
use serde_json::{Value, json};

#[tokio::test]
async fn no_invocation_and_no_fire_when_the_limit_is_zero() {
    let app = TestApp::configure()
        .flag("limits-invocations-per-minute", "0")
        .flag("limits-fires-per-minute", "0")
        .start();
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("triggers/t", &json!({})).await.good();
    for path in ["actions/a", "actions/a?blocking=true", "actions/missing", "triggers/t", "triggers/missing"]
    {
        let reply = app.guest.post(path, &Value::Null).await;
        assert_eq!(reply.status, 429, "{reply:?}");
        let text = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(text.starts_with("Too many requests in the last minute (count: "), "{text}");
        assert!(text.ends_with(", allowed: 0)."), "{text}");
    }
    assert_eq!(app.guest.get("activations").await.good(), json!([]));
    // Everything else is free.
    assert_eq!(app.guest.get("actions").await.status, 200);
}

#[tokio::test]
async fn invocations_and_fires_count_apart() {
    let app = TestApp::configure()
        .flag("limits-invocations-per-minute", "1")
        .flag("limits-fires-per-minute", "1")
        .start();
    app.guest.put("triggers/t", &json!({})).await.good();
    // A minute may end between two requests, not between three.
    for path in ["actions/missing", "triggers/t"] {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(app.guest.post(path, &Value::Null).await.status);
        }
        assert!(statuses.contains(&429), "{path}: {statuses:?}");
        assert!([404, 204].contains(&statuses[0]), "{path}: {statuses:?}");
    }
}

#[tokio::test]
async fn invocations_in_flight() {
    let app = TestApp::configure().flag("limits-concurrent-invocations", "1").start();
    let slow = "const main = () => new Promise(done => setTimeout(() => done({}), 1500))";
    app.guest.put("actions/slow", &js(slow)).await.good();
    let first = app.guest.post("actions/slow", &Value::Null).await.accepted();
    app.guest
        .post("actions/slow", &Value::Null)
        .await
        .refused(429, "Too many concurrent requests in flight (count: 2, allowed: 1).");
    app.guest.activation(&first).await;
    app.guest.post("actions/slow", &Value::Null).await.accepted();
}
