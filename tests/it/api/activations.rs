//! Records of what ran: get, result, logs, lists and filters.

use kwsk_tests::{TestApp, echo, js};
use serde_json::{Value, json};

use super::triggers::ran;

#[tokio::test]
async fn one_record() {
    let app = TestApp::start();
    let code = "const main = a => { console.log('to stdout'); console.error('to stderr'); return a }";
    app.guest.put("actions/a", &js(code)).await.good();
    let id = app.guest.post("actions/a", &json!({"x": 1})).await.accepted();
    let record = app.guest.activation(&id).await;
    let result = app.guest.get(&format!("activations/{id}/result")).await.good();
    assert_eq!(result, record["response"]);
    assert_eq!(
        (&result["status"], &result["success"], &result["result"]),
        (&json!("success"), &json!(true), &json!({"x": 1}))
    );
    let logs = app.guest.get(&format!("activations/{id}/logs")).await.good();
    assert_eq!(logs["logs"], record["logs"]);
    let lines: Vec<&str> = logs["logs"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        assert!(line.as_bytes()[10] == b'T' && line[..30].trim_end().ends_with('Z'), "{line}");
    }
    assert!(lines.iter().any(|l| l.ends_with(" stdout: to stdout")), "{lines:?}");
    assert!(lines.iter().any(|l| l.ends_with(" stderr: to stderr")), "{lines:?}");
    assert!(record["end"].as_u64().unwrap() >= record["start"].as_u64().unwrap());
}

#[tokio::test]
async fn ids() {
    let app = TestApp::start();
    let unknown = "0123456789abcdef0123456789abcdef";
    for part in ["", "/result", "/logs"] {
        for (id, status, why) in [
            ("short", 400, "Activation id length is 5 but must be 32."),
            ("0123456789ABCDEF0123456789ABCDEF", 400, "The activation id is not valid."),
            ("0123456789abcdef0123456789abcdeg", 400, "The activation id is not valid."),
            (unknown, 404, "The requested resource does not exist."),
        ] {
            app.guest.get(&format!("activations/{id}{part}")).await.refused(status, why);
        }
        app.system
            .get(&format!("/api/v1/namespaces/guest/activations/{unknown}{part}"))
            .await
            .refused(403, "The supplied authentication is not authorized to access 'guest'.");
    }
    assert_eq!(app.guest.get(&format!("activations/{unknown}/nonsense")).await.status, 404);
}

#[tokio::test]
async fn records_belong_to_the_invoker() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    let id = app.guest.post("actions/a", &Value::Null).await.accepted();
    app.guest.activation(&id).await;
    assert_eq!(app.system.get(&format!("activations/{id}")).await.status, 404);
    assert_eq!(app.system.get("activations").await.good(), json!([]));
}

#[tokio::test]
async fn lists() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("packages/p", &json!({})).await.good();
    app.guest.put("actions/p/a", &echo()).await.good();
    app.guest.put("packages/b", &json!({"binding": {"namespace": "_", "name": "p"}})).await.good();
    for n in 0..5 {
        app.guest.post("actions/a?blocking=true", &json!({ "n": n })).await.good();
    }
    app.guest.post("actions/p/a?blocking=true", &json!({})).await.good();
    app.guest.post("actions/b/a?blocking=true", &json!({})).await.good();
    let all = ran(&app.guest, "", 7).await;
    assert_eq!(all.len(), 7);
    for (name, count) in [("a", 5), ("p/a", 1), ("b/a", 1), ("missing", 0), ("p", 0)] {
        let list = app.guest.get(&format!("activations?name={name}")).await.good();
        assert_eq!(list.as_array().unwrap().len(), count, "{name}");
        let counted = app.guest.get(&format!("activations?count=true&name={name}")).await.good();
        assert_eq!(counted, json!({ "activations": count }), "{name}");
    }
    assert_eq!(app.guest.get("activations?count=true&skip=3").await.good(), json!({"activations": 4}));
    assert_eq!(app.guest.get("activations?limit=2&skip=6").await.good().as_array().unwrap().len(), 1);

    let starts: Vec<u64> = all.iter().map(|a| a["start"].as_u64().unwrap()).collect();
    assert!(starts.windows(2).all(|pair| pair[0] >= pair[1]), "{starts:?}");
    let (newest, oldest) = (starts[0], starts[6]);
    for (query, count) in [
        (format!("since={oldest}"), 7),
        (format!("upto={newest}"), 7),
        (format!("since={}", newest + 1), 0),
        (format!("upto={}", oldest - 1), 0),
        (format!("since={oldest}&upto={newest}"), 7),
    ] {
        let counted = app.guest.get(&format!("activations?count=true&{query}")).await.good();
        assert_eq!(counted, json!({ "activations": count }), "{query}");
    }

    let summary = &app.guest.get("activations?name=a&limit=1").await.good()[0];
    let keys: Vec<&String> = summary.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "namespace",
            "name",
            "version",
            "publish",
            "annotations",
            "activationId",
            "start",
            "end",
            "duration",
            "statusCode"
        ]
    );
    assert_eq!(summary["statusCode"], 0);
    let full = &app.guest.get("activations?name=a&limit=1&docs=true").await.good()[0];
    assert_eq!(full["response"]["status"], "success");
}
