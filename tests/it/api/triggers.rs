//! Triggers and their fire.

use kwsk_tests::{Client, TestApp, echo, eventually, rule};
use serde_json::{Value, json};
use std::time::Duration;

/// The records of an action's activations, once there are `count`.
pub(super) async fn ran(client: &Client, action: &str, count: usize) -> Vec<Value> {
    let path = format!("activations?name={action}&docs=true&limit=0");
    eventually(Duration::from_secs(20), || async {
        let found = client.get(&path).await.good().as_array().cloned().unwrap_or_default();
        (found.len() >= count).then_some(found)
    })
    .await
}

#[tokio::test]
async fn life_of_a_trigger() {
    let app = TestApp::start();
    let body = json!({"parameters": [{"key": "p", "value": 1}], "annotations": [{"key": "feed", "value": "/whisk.system/alarms/alarm"}]});
    let created = app.guest.put("triggers/t", &body).await.good();
    assert_eq!((&created["limits"], created.get("rules")), (&json!({}), None));
    app.guest.put("triggers/t", &body).await.refused(409, "resource already exists");
    let updated = app.guest.put("triggers/t?overwrite=true", &json!({"parameters": []})).await.good();
    assert_eq!((&updated["version"], &updated["parameters"]), (&json!("0.0.2"), &json!([])));
    assert_eq!(updated["annotations"], created["annotations"]);
    let list = app.guest.get("triggers").await.good();
    let keys: Vec<&String> = list[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["namespace", "name", "version", "publish", "annotations", "updated"]);
    assert_eq!(app.guest.delete("triggers/t").await.good()["name"], "t");
    for reply in [
        app.guest.get("triggers/t").await,
        app.guest.delete("triggers/t").await,
        app.guest.post("triggers/t", &Value::Null).await,
    ] {
        reply.refused(404, "The requested resource does not exist.");
    }
    let bad = json!({"annotations": [{"key": "feed", "value": "no//feed"}]});
    app.guest.put("triggers/t", &bad).await.refused(400, "Feed name is not valid");
}

#[tokio::test]
async fn a_fire_without_active_rules_is_not_recorded() {
    let app = TestApp::start();
    app.guest.put("triggers/t", &json!({})).await.good();
    let reply = app.guest.post("triggers/t", &json!({"a": 1})).await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("rules/r", &rule("t", "a")).await.good();
    app.guest.post("rules/r", &json!({"status": "inactive"})).await;
    assert_eq!(app.guest.post("triggers/t", &Value::Null).await.status, 204);
    assert_eq!(app.guest.get("activations").await.good(), json!([]));
}

#[tokio::test]
async fn a_fire_runs_every_active_rule_and_says_so() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("packages/p", &json!({"parameters": [{"key": "from", "value": "package"}]})).await.good();
    app.guest.put("actions/p/b", &echo()).await.good();
    app.guest.put("actions/gone", &echo()).await.good();
    app.guest
        .put(
            "triggers/t",
            &json!({"parameters": [{"key": "x", "value": "trigger"}, {"key": "y", "value": "trigger"}]}),
        )
        .await
        .good();
    for (name, action) in [("r1", "a"), ("r2", "p/b"), ("r3", "gone"), ("r4", "a")] {
        app.guest.put(&format!("rules/{name}"), &rule("t", action)).await.good();
    }
    app.guest.delete("actions/gone").await.good();
    app.guest.post("rules/r4", &json!({"status": "inactive"})).await;

    let request =
        app.guest.request("POST", "triggers/t").header("X-Mine", "1").json(&json!({"x": "payload"}));
    let id = app.guest.send(request).await.accepted();
    let record = app.guest.activation(&id).await;
    assert_eq!(
        (record.get("end"), record.get("duration"), record.get("cause")),
        (None, None, None),
        "{record}"
    );
    assert_eq!((&record["name"], &record["annotations"]), (&json!("t"), &json!([])));
    assert_eq!(record["response"]["result"], json!({"x": "payload"}));
    let lines: Vec<Value> = record["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| serde_json::from_str(l.as_str().unwrap()).unwrap())
        .collect();
    let ids: Vec<&str> = lines.iter().filter_map(|l| l["activationId"].as_str()).collect();
    assert_eq!(
        lines,
        [
            json!({"statusCode": 0, "success": true, "rule": "guest/r1", "action": "guest/a", "activationId": ids[0]}),
            json!({"statusCode": 0, "success": true, "rule": "guest/r2", "action": "guest/p/b", "activationId": ids[1]}),
            json!({"statusCode": 1, "success": false, "rule": "guest/r3", "action": "guest/gone",
                   "error": "The requested resource does not exist."}),
            json!({"statusCode": 1, "success": false, "rule": "guest/r4", "action": "guest/a",
                   "error": "Rule 'guest/r4' is inactive, action 'guest/a' was not activated."}),
        ]
    );
    let first = app.guest.activation(ids[0]).await;
    assert_eq!(first.get("cause"), None);
    let arguments = &first["response"]["result"];
    assert_eq!((&arguments["x"], &arguments["y"]), (&json!("payload"), &json!("trigger")));
    let headers = &arguments["__ow_headers"];
    assert_eq!(headers["x-mine"], "1");
    assert!(headers["authorization"].as_str().unwrap().starts_with("Basic "), "{headers}");
    let second = app.guest.activation(ids[1]).await;
    assert_eq!(second["response"]["result"]["from"], "package");
    assert_eq!(ran(&app.guest, "a", 1).await.len(), 1);
}

#[tokio::test]
async fn bad_fires() {
    let app = TestApp::start();
    app.guest.put("triggers/t", &json!({})).await.good();
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("rules/r", &rule("t", "a")).await.good();
    for body in ["[]", "1", "null", "{"] {
        let reply = app.guest.send(app.guest.request("POST", "triggers/t").body(body)).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
    }
    let foreign = "/api/v1/namespaces/guest/triggers/t";
    app.system
        .post(foreign, &json!({}))
        .await
        .refused(403, "The supplied authentication is not authorized to access 'guest/t'.");
    assert_eq!(app.anon.post(foreign, &json!({})).await.status, 401);
    assert_eq!(app.guest.get("activations").await.good(), json!([]));
}
