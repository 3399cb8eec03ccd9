//! Invoking actions.

use kwsk_tests::{TestApp, echo, js, py};
use serde_json::{Value, json};

#[tokio::test]
async fn blocking_answers() {
    let app = TestApp::start();
    app.guest.put("actions/echo", &echo()).await.good();
    let reply = app.guest.post("actions/echo?blocking=true", &json!({"a": [1, "ü"]})).await;
    let record = reply.good();
    let id = record["activationId"].as_str().unwrap();
    assert_eq!(reply.header("x-openwhisk-activation-id"), Some(id));
    assert_eq!(record["response"]["result"], json!({"a": [1, "ü"]}));
    assert_eq!(record["response"]["status"], "success");
    assert_eq!(record["response"]["success"], true);
    assert!(record["response"].get("statusCode").is_none());
    assert_eq!((&record["logs"], &record["publish"]), (&json!([]), &json!(false)));
    assert_eq!(
        (&record["namespace"], &record["subject"], &record["name"]),
        (&json!("guest"), &json!("guest"), &json!("echo"))
    );
    let annotation = |key: &str| {
        let all = record["annotations"].as_array().unwrap();
        all.iter().find(|a| a["key"] == key).map(|a| a["value"].clone())
    };
    assert_eq!(annotation("path"), Some(json!("guest/echo")));
    assert_eq!(annotation("kind"), Some(json!("nodejs:20")));
    assert_eq!(annotation("timeout"), Some(json!(false)));
    assert_eq!(
        annotation("limits"),
        Some(json!({"timeout": 60000, "memory": 256, "logs": 10, "concurrency": 1}))
    );
    assert!(annotation("waitTime").is_some() && annotation("initTime").is_some(), "{record}");
    let stored = app.guest.activation(id).await;
    assert_eq!(stored["response"], record["response"]);
}

#[tokio::test]
async fn what_an_action_answers_decides_the_status() {
    let app = TestApp::start();
    for (name, code, status, result) in [
        ("ok", js("const main = () => ({ok: 1})"), 200, json!({"ok": 1})),
        ("array", js("const main = () => [1, {a: 2}]"), 200, json!([1, {"a": 2}])),
        ("undefined", js("const main = () => undefined"), 200, json!({})),
        ("application", js("const main = () => ({error: {code: 7}})"), 502, json!({"error": {"code": 7}})),
        ("promise", js("const main = () => Promise.reject({code: 8})"), 502, json!({"error": {"code": 8}})),
        ("python", py("def main(args):\n  return {'sum': 1 + 2}"), 200, json!({"sum": 3})),
    ] {
        app.guest.put(&format!("actions/{name}"), &code).await.good();
        let reply = app.guest.post(&format!("actions/{name}?blocking=true&result=true"), &Value::Null).await;
        assert_eq!((reply.status, reply.json()), (status, result.clone()), "{name}");
        assert!(reply.header("x-openwhisk-activation-id").is_some(), "{reply:?}");
        if result.is_array() {
            // Bare even without result=true.
            assert_eq!(
                app.guest.post(&format!("actions/{name}?blocking=true"), &Value::Null).await.json(),
                result
            );
        }
    }
    for (name, code, outcome) in [
        ("scalar", js("const main = () => 7"), "action developer error"),
        ("broken", js("this is no code"), "action developer error"),
        ("exits", js("const main = () => process.exit(1)"), "action developer error"),
        ("empty", js(""), "action developer error"),
        ("application-record", js("const main = () => ({error: 'x'})"), "application error"),
    ] {
        app.guest.put(&format!("actions/{name}"), &code).await.good();
        let reply = app.guest.post(&format!("actions/{name}?blocking=true"), &Value::Null).await;
        assert_eq!(reply.status, 502, "{reply:?}");
        let response = &reply.json()["response"];
        assert_eq!(
            (&response["status"], &response["success"]),
            (&json!(outcome), &json!(false)),
            "{reply:?}"
        );
        assert!(response["result"].get("error").is_some(), "{reply:?}");
    }
}

#[tokio::test]
async fn not_blocking_and_waits_that_expire() {
    let app = TestApp::start();
    let slow = "const main = a => new Promise(done => setTimeout(() => done(a), 700))";
    app.guest.put("actions/slow", &js(slow)).await.good();
    for query in ["", "?blocking=false", "?result=true", "?blocking=true&timeout=100", "?timeout=100"] {
        let payload = json!({ "query": query });
        let id = app.guest.post(&format!("actions/slow{query}"), &payload).await.accepted();
        let record = app.guest.activation(&id).await;
        assert_eq!(record["response"]["result"], payload, "{record}");
    }
    for timeout in ["0", "-1", "60001", "x", "1.5", ""] {
        let reply =
            app.guest.post(&format!("actions/slow?blocking=true&timeout={timeout}"), &Value::Null).await;
        reply.refused(400, "Timeout must be number of milliseconds up to 60000.");
    }
    assert_eq!(app.guest.post("actions/slow?blocking=true&timeout=60000", &Value::Null).await.status, 200);
}

#[tokio::test]
async fn time_limit() {
    let app = TestApp::start();
    let mut body = js("const main = () => new Promise(() => setTimeout(() => {}, 60000))");
    body["limits"] = json!({"timeout": 300});
    app.guest.put("actions/hangs", &body).await.good();
    let reply = app.guest.post("actions/hangs?blocking=true", &Value::Null).await;
    assert_eq!(reply.status, 502, "{reply:?}");
    let record = reply.json();
    assert_eq!(
        record["response"]["result"]["error"],
        "The action exceeded its time limits of 300 milliseconds."
    );
    assert!(record["duration"].as_u64().unwrap() >= 300, "{record}");
}

#[tokio::test]
async fn parameters() {
    let app = TestApp::start();
    let mut body = echo();
    body["parameters"] = json!([{"key": "a", "value": 1}, {"key": "b", "value": {"c": 2}}]);
    app.guest.put("actions/a", &body).await.good();
    for (payload, arguments) in [
        (Value::Null, json!({"a": 1, "b": {"c": 2}})),
        (json!({}), json!({"a": 1, "b": {"c": 2}})),
        (json!({"b": null, "d": 4}), json!({"a": 1, "b": null, "d": 4})),
    ] {
        let got = app.guest.post("actions/a?blocking=true&result=true", &payload).await.good();
        assert_eq!(got, arguments);
    }
    body["annotations"] = json!([{"key": "final", "value": true}]);
    app.guest.put("actions/a?overwrite=true", &body).await.good();
    app.guest
        .post("actions/a?blocking=true", &json!({"a": 2}))
        .await
        .refused(400, "Request defines parameters that are not allowed (e.g., reserved properties).");
    assert_eq!(app.guest.post("actions/a?blocking=true&result=true", &json!({"z": 1})).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_invoked() {
    let app = TestApp::start();
    app.guest.put("triggers/t", &json!({})).await.good();
    for (path, status, why) in [
        ("actions/missing", 404, "The requested resource does not exist."),
        ("actions/t", 409, "Resource by this name exists but is not in this collection."),
        ("actions/p/missing", 404, "The requested resource does not exist."),
        (
            "/api/v1/namespaces/whisk.system/actions/a",
            403,
            "The supplied authentication is not authorized to access 'whisk.system/a'.",
        ),
        (
            "/api/v1/namespaces/whisk.system/actions/p/a",
            403,
            "The supplied authentication is not authorized to access 'whisk.system/p'.",
        ),
    ] {
        app.guest.post(path, &Value::Null).await.refused(status, why);
    }
}

#[tokio::test]
async fn an_action_calls_the_api_back() {
    let app = TestApp::start();
    app.guest.put("actions/inner", &echo()).await.good();
    let code = r#"
        async function main() {
          const url = process.env.__OW_API_HOST + '/api/v1/namespaces/_/actions/inner?blocking=true&result=true';
          const key = Buffer.from(process.env.__OW_API_KEY).toString('base64');
          const headers = { authorization: 'Basic ' + key, 'content-type': 'application/json' };
          const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ from: process.env.__OW_ACTION_NAME }) });
          return await answer.json();
        }"#;
    let mut body = js(code);
    body["annotations"] = json!([{"key": "provide-api-key", "value": true}]);
    app.guest.put("actions/outer", &body).await.good();
    let got = app.guest.post("actions/outer?blocking=true&result=true", &Value::Null).await.good();
    assert_eq!(got, json!({"from": "/guest/outer"}));
}
