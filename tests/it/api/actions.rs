//! Actions: create, read, update, list, delete.

use kwsk_tests::{TestApp, echo, js, py};
use serde_json::{Value, json};

fn put(exec: &Value) -> Value {
    json!({ "exec": exec })
}

#[tokio::test]
async fn life_of_an_action() {
    let app = TestApp::start();
    let body = json!({
        "exec": {"kind": "nodejs:default", "code": "const main = () => ({})", "main": "main"},
        "parameters": [{"key": "p", "value": 1}, {"key": "i", "value": {"x": []}, "init": true}],
        "annotations": [{"key": "a", "value": "b"}],
        "limits": {"timeout": 1000, "memory": 128},
        "namespace": "ignored", "name": "ignored", "unknown": 1,
    });
    let mut created = app.guest.put("actions/a", &body).await.good();
    assert!(created["updated"].as_u64().unwrap() > 1_600_000_000_000);
    created.as_object_mut().unwrap().remove("updated");
    assert_eq!(
        created,
        json!({
            "namespace": "guest", "name": "a", "version": "0.0.1", "publish": false,
            "exec": {"kind": "nodejs:20", "code": "const main = () => ({})", "main": "main", "binary": false},
            "parameters": [{"key": "p", "value": 1}, {"key": "i", "value": {"x": []}, "init": true}],
            "annotations": [{"key": "a", "value": "b"}, {"key": "provide-api-key", "value": false},
                            {"key": "exec", "value": "nodejs:20"}],
            "limits": {"timeout": 1000, "memory": 128, "logs": 10, "concurrency": 1},
        })
    );
    app.guest.put("actions/a", &body).await.refused(409, "resource already exists");

    let update =
        json!({"annotations": [{"key": "c", "value": 1}], "delAnnotations": ["a"], "limits": {"logs": 1}});
    let updated = app.guest.put("actions/a?overwrite=true", &update).await.good();
    assert_eq!(updated["version"], "0.0.2");
    assert_eq!(updated["limits"], json!({"timeout": 1000, "memory": 128, "logs": 1, "concurrency": 1}));
    assert_eq!(updated["exec"]["code"], "const main = () => ({})");
    let keys: Vec<&str> =
        updated["annotations"].as_array().unwrap().iter().map(|a| a["key"].as_str().unwrap()).collect();
    assert!(keys.contains(&"c") && !keys.contains(&"a"), "{keys:?}");
    assert_eq!(app.guest.get("actions/a").await.good(), updated);

    let without = app.guest.get("actions/a?code=false").await.good();
    assert_eq!(without["exec"], json!({"kind": "nodejs:20", "main": "main", "binary": false}));
    let list = app.guest.get("actions").await.good();
    assert_eq!(list[0]["exec"], json!({"binary": false}));
    assert!(list[0].get("parameters").is_none(), "{list}");

    assert_eq!(app.guest.delete("actions/a").await.good(), updated);
    app.guest.get("actions/a").await.refused(404, "The requested resource does not exist.");
    app.guest.delete("actions/a").await.refused(404, "The requested resource does not exist.");
    assert_eq!(app.guest.put("actions/a", &body).await.good()["version"], "0.0.1");
}

#[tokio::test]
async fn kinds_of_exec() {
    let app = TestApp::start();
    for (name, exec, shown) in [
        (
            "python",
            json!({"kind": "PYTHON:default ", "code": "x = 1"}),
            json!({"kind": "python:3.10", "code": "x = 1", "binary": false}),
        ),
        (
            "binary",
            json!({"kind": "nodejs:20", "code": "test"}),
            json!({"kind": "nodejs:20", "code": "test", "binary": true}),
        ),
        (
            "empty",
            json!({"kind": "nodejs:20", "code": ""}),
            json!({"kind": "nodejs:20", "code": "", "binary": true}),
        ),
        (
            "ignored",
            json!({"kind": "nodejs:20", "code": "x", "binary": true}),
            json!({"kind": "nodejs:20", "code": "x", "binary": false}),
        ),
        (
            "blackbox",
            json!({"kind": "blackbox", "image": "openwhisk/dockerskeleton", "code": "  "}),
            json!({"kind": "blackbox", "image": "openwhisk/dockerskeleton", "binary": false}),
        ),
        (
            "sequence",
            json!({"kind": "sequence", "components": ["/_/python", "/guest/binary"]}),
            json!({"kind": "sequence", "components": ["/guest/python", "/guest/binary"]}),
        ),
    ] {
        let created = app.guest.put(&format!("actions/{name}"), &put(&exec)).await.good();
        assert_eq!(created["exec"], shown, "{name}");
        assert_eq!(app.guest.get(&format!("actions/{name}")).await.good()["exec"], shown, "{name}");
    }
}

#[tokio::test]
async fn bad_execs() {
    const MALFORMED: &str = "The request content was malformed:\n";
    let app = TestApp::start();
    for (exec, why) in [
        (json!({}), "'kind' must be a string defined in 'exec'"),
        (json!({"kind": 1}), "'kind' must be a string defined in 'exec'"),
        (
            json!({"kind": "nodejs:20"}),
            "'code' must be a string or attachment object defined in 'exec' for 'nodejs:20' actions",
        ),
        (
            json!({"kind": "nodejs:20", "code": 1}),
            "'code' must be a string or attachment object defined in 'exec' for 'nodejs:20' actions",
        ),
        (
            json!({"kind": "nodejs:20", "code": "", "main": 1}),
            "if defined, 'main' be a string in 'exec' for 'nodejs:20' actions",
        ),
        (json!({"kind": "blackbox"}), "'image' must be a string defined in 'exec' for 'blackbox' actions"),
        (json!({"kind": "blackbox", "image": "a b"}), "could not parse image name"),
        (json!({"kind": "sequence"}), "'components' must be defined for sequence kind"),
        (json!({"kind": "sequence", "components": {}}), "'components' must be an array"),
        (
            json!({"kind": "sequence", "components": ["a"]}),
            "The fully qualified name of the entity must contain at least the namespace and the name of the entity.",
        ),
    ] {
        app.guest.put("actions/x", &put(&exec)).await.refused(400, &format!("{MALFORMED}{why}"));
    }
    let reply = app.guest.put("actions/x", &put(&json!({"kind": "cobol:85", "code": ""}))).await;
    let text = reply.json()["error"].as_str().unwrap().to_owned();
    let start = format!(
        "{MALFORMED}The specified runtime 'cobol:85' is not supported by this platform. Valid values are: 'blackbox', "
    );
    assert!(reply.status == 400 && text.starts_with(&start), "{text}");
    app.guest.put("actions/x", &json!({})).await.refused(400, "exec undefined");
    for (components, status, why) in [
        (json!([]), 400, "No component specified for the sequence."),
        (json!(["/_/missing"]), 400, "Sequence component does not exist."),
        (json!(["/_/x"]), 400, "Sequence component does not exist."),
        (
            json!(["/whisk.system/a", "/_/missing"]),
            403,
            "The supplied authentication is not authorized to access 'whisk.system/a'.",
        ),
    ] {
        let exec = json!({"kind": "sequence", "components": components});
        app.guest.put("actions/s", &put(&exec)).await.refused(status, why);
    }
    assert_eq!(app.guest.get("actions").await.good(), json!([]));
}

#[tokio::test]
async fn limits() {
    let app = TestApp::start();
    for (limits, why) in [
        (json!({"timeout": 99}), "duration 99 milliseconds below allowed threshold of 100 milliseconds"),
        (
            json!({"timeout": 300_001}),
            "duration 300001 milliseconds exceeds allowed threshold of 300000 milliseconds",
        ),
        (json!({"memory": 127}), "memory size 127 MB below allowed threshold of 128 MB"),
        (json!({"memory": 513}), "memory size 513 MB exceeds allowed threshold of 512 MB"),
        (json!({"logs": 11}), "log size 11 MB exceeds allowed threshold of 10 MB"),
        (json!({"concurrency": 0}), "concurrency 0 below allowed threshold of 1"),
        (json!({"concurrency": 2}), "concurrency 2 exceeds allowed threshold of 1"),
        (json!({"timeout": "1"}), "The request content was malformed:\ntime limit malformed"),
        (json!({"memory": "1"}), "The request content was malformed:\nmemory limit malformed"),
        (json!({"logs": []}), "The request content was malformed:\nlog limit malformed"),
        (
            json!({"memory": 128.5}),
            "The request content was malformed:\nrequirement failed: memory limit must be whole number",
        ),
    ] {
        let mut body = echo();
        body["limits"] = limits;
        app.guest.put("actions/x", &body).await.refused(400, why);
    }
    let mut body = echo();
    body["limits"] = json!({"timeout": 100, "memory": 512, "logs": 0, "concurrency": 1, "instances": 3});
    assert_eq!(app.guest.put("actions/x", &body).await.good()["limits"], body["limits"]);
}

#[tokio::test]
async fn versions() {
    let app = TestApp::start();
    let versioned = |version: Value| {
        let mut body = echo();
        body["version"] = version;
        body
    };
    for (sent, why) in [(json!("0.0.0"), true), (json!("x"), true), (json!(1), true), (json!("1.2"), false)] {
        let reply = app.guest.put("actions/v?overwrite=true", &versioned(sent)).await;
        if why {
            reply.refused(400, "The request content was malformed:\nsemantic version malformed");
        } else {
            assert_eq!(reply.good()["version"], "1.2.0");
        }
    }
    assert_eq!(app.guest.put("actions/v?overwrite=true", &json!({})).await.good()["version"], "1.2.1");
}

#[tokio::test]
async fn an_update_or_a_new_action_never_runs_old_code() {
    let app = TestApp::start();
    for round in 0..6 {
        let code = format!("const main = () => ({{round: {round}}})");
        app.guest.put("actions/a?overwrite=true", &js(&code)).await.good();
        let got = app.guest.post("actions/a?blocking=true&result=true", &Value::Null).await.good();
        assert_eq!(got, json!({"round": round}));
        if round % 2 == 1 {
            app.guest.delete("actions/a").await.good();
        }
    }
    app.guest.put("actions/a", &py("def main(args): return {'python': True}")).await.good();
    let got = app.guest.post("actions/a?blocking=true&result=true", &Value::Null).await.good();
    assert_eq!(got, json!({"python": true}));
}

#[tokio::test]
async fn concurrent_writers_of_one_name_get_sensible_answers() {
    let app = TestApp::start();
    let (body, path) = (echo(), "actions/contended?overwrite=true");
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, body) = (app.guest.clone(), body.clone());
        writers.spawn(async move {
            for _ in 0..4 {
                let statuses = [
                    client.put(path, &body).await.status,
                    client.get("actions/contended").await.status,
                    client.delete("actions/contended").await.status,
                ];
                assert!(statuses.iter().all(|s| [200, 404, 409].contains(s)), "{statuses:?}");
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
}
