//! Packages, bindings, what is inherited and who may read.

use kwsk_tests::{TestApp, echo};
use serde_json::{Value, json};

fn with_parameters(mut body: Value, parameters: &[(&str, &str)]) -> Value {
    body["parameters"] = parameters.iter().map(|(k, v)| json!({"key": k, "value": v})).collect();
    body
}

#[tokio::test]
async fn life_of_a_package() {
    let app = TestApp::start();
    let created =
        app.guest.put("packages/p", &json!({"annotations": [{"key": "a", "value": 1}]})).await.good();
    assert_eq!((&created["binding"], &created["version"]), (&json!({}), &json!("0.0.1")));
    assert!(created.get("actions").is_none(), "{created}");
    app.guest.put("packages/p", &json!({})).await.refused(409, "resource already exists");
    // Annotations are replaced, not merged.
    let updated = app
        .guest
        .put(
            "packages/p?overwrite=true",
            &json!({"annotations": [{"key": "b", "value": 2}], "publish": true}),
        )
        .await;
    let updated = updated.good();
    assert_eq!(
        (&updated["annotations"], &updated["version"]),
        (&json!([{"key": "b", "value": 2}]), &json!("0.0.2"))
    );

    app.guest.put("actions/p/plain", &echo()).await.good();
    let mut feed = echo();
    feed["annotations"] = json!([{"key": "feed", "value": true}]);
    app.guest.put("actions/p/feed", &feed).await.good();
    let got = app.guest.get("packages/p").await.good();
    let names = |of: &str| -> Vec<&str> {
        got[of].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect()
    };
    assert_eq!((names("actions"), names("feeds")), (vec!["plain"], vec!["feed"]));
    let list = app.guest.get("packages").await.good();
    assert_eq!((&list[0]["binding"], list[0].get("parameters")), (&json!(false), None));

    let action = app.guest.get("actions/p/plain").await.good();
    assert_eq!((&action["namespace"], &action["name"]), (&json!("guest/p"), &json!("plain")));
    for path in ["actions/p/", "actions"] {
        assert_eq!(app.guest.get(path).await.good().as_array().unwrap().len(), 2, "{path}");
    }
    assert_eq!(app.guest.get("actions/p/?count=true").await.good(), json!({"actions": 2}));

    app.guest
        .delete("packages/p")
        .await
        .refused(409, "Package not empty (contains 2 entities). Set force param or delete package contents.");
    app.guest.delete("actions/p/feed").await.good();
    app.guest
        .delete("packages/p")
        .await
        .refused(409, "Package not empty (contains 1 entity). Set force param or delete package contents.");
    app.guest.delete("packages/p?force=true").await.good();
    app.guest.get("packages/p").await.refused(404, "The requested resource 'guest/p' does not exist.");
    app.guest.delete("packages/p").await.refused(404, "The requested resource does not exist.");
    app.guest.get("actions/p/plain").await.refused(404, "The requested resource does not exist.");
    assert_eq!(app.guest.get("actions").await.good(), json!([]));
}

#[tokio::test]
async fn bad_packages() {
    let app = TestApp::start();
    app.guest.put("packages/p", &json!({})).await.good();
    app.guest.put("actions/a", &echo()).await.good();
    let bind = |namespace: &str, name: &str| json!({"binding": {"namespace": namespace, "name": name}});
    app.guest.put("packages/b", &bind("_", "p")).await.good();
    for (path, body, status, why) in [
        ("packages/default", json!({}), 400, "Package name 'default' is reserved."),
        ("packages/x", bind("_", "missing"), 400, "Binding references a package that does not exist."),
        ("packages/x", bind("_", "b"), 400, "Cannot bind to another package binding."),
        ("packages/x", bind("_", "a"), 409, "Cannot bind to a resource that is not a package."),
        (
            "packages/x",
            bind("whisk.system", "missing"),
            403,
            "The supplied authentication is not authorized to access 'whisk.system/missing'.",
        ),
        (
            "packages/p?overwrite=true",
            bind("_", "b"),
            409,
            "Resource is a package and cannot be converted into a binding.",
        ),
    ] {
        app.guest.put(path, &body).await.refused(status, why);
    }
    app.guest
        .put("packages/b?overwrite=true", &bind("_", "b"))
        .await
        .refused(422, "Package binding 'guest/b' contains a circular reference.");
    app.guest.put("actions/b/x", &echo()).await.refused(400, "Operation not permitted on package binding.");
    app.guest.delete("actions/b/x").await.refused(400, "Operation not permitted on package binding.");
    app.guest.put("actions/missing/x", &echo()).await.refused(404, "The requested resource does not exist.");
}

#[tokio::test]
async fn parameters_are_inherited_in_order() {
    let app = TestApp::start();
    let package = with_parameters(
        json!({"publish": true}),
        &[("a", "package"), ("b", "package"), ("c", "package"), ("d", "package")],
    );
    app.system.put("packages/p", &package).await.good();
    let action = with_parameters(echo(), &[("c", "action"), ("d", "action")]);
    app.system.put("actions/p/echo", &action).await.good();
    let binding = json!({"binding": {"namespace": "whisk.system", "name": "p"}});
    let binding = with_parameters(binding, &[("b", "binding"), ("c", "binding"), ("d", "binding")]);
    let bound = app.guest.put("packages/mine", &binding).await.good();
    assert_eq!(bound["binding"], json!({"namespace": "whisk.system", "name": "p"}));
    assert!(
        bound["annotations"]
            .as_array()
            .unwrap()
            .contains(&json!({"key": "binding", "value": {"namespace": "whisk.system", "name": "p"}}))
    );

    let effective = json!({"a": "package", "b": "binding", "c": "action", "d": "payload"});
    let payload = json!({"d": "payload"});
    let reply = app.guest.post("actions/mine/echo?blocking=true", &payload).await;
    let record = reply.good();
    assert_eq!(record["response"]["result"], effective);
    let annotations = record["annotations"].as_array().unwrap();
    assert!(annotations.contains(&json!({"key": "path", "value": "whisk.system/p/echo"})), "{record}");
    assert!(annotations.contains(&json!({"key": "binding", "value": "guest/mine"})), "{record}");
    assert_eq!(record["namespace"], "guest");

    let through = app.guest.get("actions/mine/echo").await.good();
    assert_eq!(through["namespace"], "whisk.system/p");
    let merged: Vec<(&str, &str)> = through["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["key"].as_str().unwrap(), p["value"].as_str().unwrap()))
        .collect();
    assert_eq!(merged, [("a", "package"), ("b", "binding"), ("c", "action"), ("d", "action")]);
    let listed = app.guest.get("actions/mine/").await.good();
    assert_eq!(listed[0]["namespace"], "whisk.system/p");

    // Published packages can be used without a binding, and listed; not changed.
    let direct = "/api/v1/namespaces/whisk.system/actions/p/echo";
    assert_eq!(
        app.guest.post(&format!("{direct}?blocking=true&result=true"), &payload).await.good()["b"],
        "package"
    );
    assert_eq!(app.guest.get(direct).await.status, 200);
    let foreign = app.guest.get("/api/v1/namespaces/whisk.system/packages").await.good();
    assert_eq!(foreign.as_array().unwrap().len(), 1);
    app.guest
        .delete(direct)
        .await
        .refused(403, "The supplied authentication is not authorized to access 'whisk.system/p/echo'.");

    // Private again: nothing works any more, through the binding neither.
    app.system.put("packages/p?overwrite=true", &json!({"publish": false})).await.good();
    let refusal = "The supplied authentication is not authorized to access 'whisk.system/p'.";
    for path in [direct, "actions/mine/echo"] {
        app.guest.post(path, &payload).await.refused(403, refusal);
        app.guest.get(path).await.refused(403, refusal);
    }
    app.guest.get("packages/mine").await.refused(403, refusal);
    assert_eq!(app.guest.get("/api/v1/namespaces/whisk.system/packages").await.good(), json!([]));
}

#[tokio::test]
async fn dangling_bindings() {
    let app = TestApp::start();
    app.guest.put("packages/p", &json!({})).await.good();
    app.guest.put("packages/b", &json!({"binding": {"namespace": "_", "name": "p"}})).await.good();
    app.guest.delete("packages/p").await.good();
    assert_eq!(app.guest.get("packages/b").await.status, 404);
    assert_eq!(app.guest.post("actions/b/a", &Value::Null).await.status, 404);
    assert_eq!(app.guest.delete("packages/b").await.status, 200);
}
