//! Rules.

use kwsk_tests::{TestApp, echo, rule};
use serde_json::{Value, json};

#[tokio::test]
async fn life_of_a_rule() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("packages/p", &json!({})).await.good();
    app.guest.put("actions/p/b", &echo()).await.good();
    app.guest.put("triggers/t", &json!({})).await.good();
    let mut created = app.guest.put("rules/r", &rule("t", "a")).await.good();
    created.as_object_mut().unwrap().remove("updated");
    assert_eq!(
        created,
        json!({"namespace": "guest", "name": "r", "version": "0.0.1", "publish": false, "annotations": [],
               "trigger": {"path": "guest", "name": "t"}, "action": {"path": "guest", "name": "a"}, "status": "active"})
    );
    app.guest.put("rules/r", &rule("t", "a")).await.refused(409, "resource already exists");
    let linked = json!({"guest/r": {"action": {"name": "a", "path": "guest"}, "status": "active"}});
    assert_eq!(app.guest.get("triggers/t").await.good()["rules"], linked);

    for (status, shown) in [("inactive", "inactive"), ("inactive", "inactive"), ("active", "active")] {
        let reply = app.guest.post("rules/r", &json!({"status": status, "trigger": null})).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, "OK"));
        assert_eq!(app.guest.get("rules/r").await.good()["status"], shown);
        assert_eq!(app.guest.get("triggers/t").await.good()["rules"]["guest/r"]["status"], shown);
    }
    // An update keeps the state.
    app.guest.post("rules/r", &json!({"status": "inactive"})).await;
    let updated = app.guest.put("rules/r?overwrite=true", &rule("t", "p/b")).await.good();
    assert_eq!((&updated["version"], &updated["status"]), (&json!("0.0.2"), &json!("inactive")));
    assert_eq!(updated["action"], json!({"path": "guest/p", "name": "b"}));
    assert!(app.guest.get("rules").await.good()[0].get("status").is_none());

    assert_eq!(app.guest.delete("rules/r").await.good()["status"], "inactive");
    assert_eq!(app.guest.get("triggers/t").await.good()["rules"], json!({}));
    app.guest.get("rules/r").await.refused(404, "The requested resource does not exist.");
    assert_eq!(app.guest.put("rules/r", &rule("t", "a")).await.good()["status"], "active");
}

#[tokio::test]
async fn a_rule_outlives_its_trigger() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("triggers/t", &json!({})).await.good();
    app.guest.put("rules/r", &rule("t", "a")).await.good();
    app.guest.delete("triggers/t").await.good();
    assert_eq!(app.guest.get("rules/r").await.good()["status"], "inactive");
    app.guest
        .post("rules/r", &json!({"status": "active"}))
        .await
        .refused(404, "Only rules with existing triggers can be activated");
    app.guest.delete("rules/r").await.good();
}

#[tokio::test]
async fn a_rule_moves_to_another_trigger() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    for trigger in ["one", "two"] {
        app.guest.put(&format!("triggers/{trigger}"), &json!({})).await.good();
    }
    app.guest.put("rules/r", &rule("one", "a")).await.good();
    app.guest.put("rules/r?overwrite=true", &rule("two", "a")).await.good();
    assert_eq!(app.guest.get("triggers/one").await.good()["rules"], json!({}));
    assert!(app.guest.get("triggers/two").await.good()["rules"].get("guest/r").is_some());
    assert_eq!(app.guest.post("triggers/one", &Value::Null).await.status, 204);
    let id = app.guest.post("triggers/two", &Value::Null).await.accepted();
    assert_eq!(app.guest.activation(&id).await["logs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bad_rules() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("triggers/t", &json!({})).await.good();
    let refused = "The supplied authentication is not authorized to access";
    for (body, status, why) in [
        (json!({}), 400, "rule requires a valid trigger and a valid action".to_owned()),
        (json!({"trigger": "/_/t"}), 400, "rule requires a valid trigger and a valid action".to_owned()),
        (json!({"action": "/_/a"}), 400, "rule requires a valid trigger and a valid action".to_owned()),
        (rule("missing", "a"), 400, "trigger /guest/missing does not exist".to_owned()),
        (rule("t", "missing"), 400, "action /guest/missing does not exist".to_owned()),
        (rule("t", "missing/a"), 404, "The requested resource does not exist.".to_owned()),
        (
            json!({"trigger": "/whisk.system/t", "action": "/_/a"}),
            403,
            format!("{refused} 'whisk.system/t'."),
        ),
        (
            json!({"trigger": "/_/t", "action": "/whisk.system/a"}),
            403,
            format!("{refused} 'whisk.system/a'."),
        ),
        (
            json!({"trigger": "/_/t", "action": "/whisk.system/p/a"}),
            403,
            format!("{refused} 'whisk.system/p'."),
        ),
    ] {
        app.guest.put("rules/x", &body).await.refused(status, &why);
    }
    let reply = app.guest.put("rules/x", &json!({"trigger": "t", "action": "/_/a"})).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    app.guest.put("rules/r", &rule("t", "a")).await.good();
    for state in ["bogus", "activating", "deactivating"] {
        let why = format!(
            "The request content was malformed:\nrequirement failed: {state} is not a recognized rule state"
        );
        app.guest.post("rules/r", &json!({ "status": state })).await.refused(400, &why);
    }
    assert_eq!(app.guest.post("rules/r", &json!({})).await.status, 400);
    app.guest
        .post("rules/missing", &json!({"status": "active"}))
        .await
        .refused(404, "The requested resource does not exist.");
}
