//! What the platform says about itself, and about a namespace.

use kwsk_tests::TestApp;
use serde_json::json;

#[tokio::test]
async fn about() {
    let app = TestApp::configure().flag("limits-invocations-per-minute", "77").start();
    let reply = app.anon.get("/").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let about = reply.good();
    assert_eq!(about["description"], "OpenWhisk");
    assert_eq!(about["api_paths"], json!(["/api/v1"]));
    let node = about["runtimes"]["nodejs"].as_array().unwrap();
    let default = node.iter().find(|kind| kind["default"] == true).unwrap();
    assert_eq!(
        *default,
        json!({"kind": "nodejs:20", "image": "openwhisk/action-nodejs-v20:nightly", "deprecated": false,
               "default": true, "attached": true, "requireMain": false})
    );
    assert_eq!(
        about["limits"],
        json!({"actions_per_minute": 77, "triggers_per_minute": 100_000, "concurrent_actions": 100, "sequence_length": 50,
               "default_min_action_duration": 100, "default_max_action_duration": 300_000,
               "default_min_action_memory": 134_217_728, "default_max_action_memory": 536_870_912,
               "default_min_action_logs": 0, "default_max_action_logs": 10_485_760,
               "min_action_duration": 100, "max_action_duration": 300_000,
               "min_action_memory": 134_217_728, "max_action_memory": 536_870_912,
               "min_action_logs": 0, "max_action_logs": 10_485_760})
    );
    let api = app.anon.get("/api/v1").await.good();
    assert_eq!((&api["api_version"], &api["description"]), (&json!("1.0.0"), &json!("OpenWhisk API")));
    let ping = app.anon.get("/ping").await;
    assert_eq!(
        (ping.text.as_str(), ping.header("content-type")),
        ("pong", Some("text/plain; charset=UTF-8"))
    );
}

#[tokio::test]
async fn invokers() {
    let app = TestApp::start();
    for (path, text) in [
        ("/invokers", r#"{"invoker0/0":"up"}"#),
        ("/invokers/healthy/count", "1"),
        ("/invokers/ready", r#"{"healthy":"1/1"}"#),
    ] {
        let reply = app.anon.get(path).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, text));
    }
}

#[tokio::test]
async fn limits_of_a_namespace() {
    let app = TestApp::configure()
        .flag("limits-fires-per-minute", "5")
        .flag("limits-concurrent-invocations", "7")
        .flag("limits-max-action-concurrency", "200")
        .start();
    let limits = json!({
        "invocationsPerMinute": 100_000, "concurrentInvocations": 7, "firesPerMinute": 5,
        "minActionMemory": 128, "maxActionMemory": 512, "minActionLogs": 0, "maxActionLogs": 10,
        "minActionTimeout": 100, "maxActionTimeout": 300_000,
        "minActionConcurrency": 1, "maxActionConcurrency": 200,
        "maxParameterSize": "1048576 B", "maxActionInstances": 7,
    });
    assert_eq!(app.guest.get("limits").await.good(), limits);
    assert_eq!(app.guest.get("/api/v1/namespaces/guest/limits/").await.good(), limits);
    app.guest
        .get("limits/x")
        .await
        .refused(400, "Inner entity level routes for limits are not yet implemented.");
    app.system
        .get("/api/v1/namespaces/guest/limits")
        .await
        .refused(403, "The supplied authentication is not authorized to access 'guest'.");
}
