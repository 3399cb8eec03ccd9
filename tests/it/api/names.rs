//! The grammar of names, in every collection.

use kwsk_tests::{TestApp, echo};
use serde_json::json;

const ILLEGAL: &str = "The name of the entity contains illegal characters.";

#[tokio::test]
async fn names_within_the_grammar() {
    let app = TestApp::start();
    let long = "n".repeat(256);
    for (encoded, name) in [
        ("a", "a"),
        ("_x", "_x"),
        ("a%20b", "a b"),
        ("a.b@c&d-e", "a.b@c&d-e"),
        ("a%26", "a&"),
        ("HELLO", "HELLO"),
        ("hello", "hello"),
        ("0", "0"),
        (long.as_str(), long.as_str()),
    ] {
        app.guest.put(&format!("triggers/{encoded}"), &json!({})).await.good();
        let got = app.guest.get(&format!("triggers/{encoded}")).await.good();
        assert_eq!(got["name"], *name);
        assert_eq!(app.guest.delete(&format!("triggers/{encoded}")).await.good()["name"], *name);
    }
}

#[tokio::test]
async fn names_outside_the_grammar() {
    let app = TestApp::start();
    let long = "n".repeat(257);
    let longer = "Name segement longer than allowed: 257 > 256.";
    for (encoded, why) in [
        ("%20", ILLEGAL),
        ("%20a", ILLEGAL),
        ("a%20", ILLEGAL),
        ("hi+there", ILLEGAL),
        ("$hola", ILLEGAL),
        ("dora%3F", ILLEGAL),
        ("%7Cdora%7Cdora%3F", ILLEGAL),
        (".a", ILLEGAL),
        ("-a", ILLEGAL),
        ("a%2Fb", ILLEGAL),
        ("%C3%A9", ILLEGAL),
        ("%FF", ILLEGAL),
        ("a%00", ILLEGAL),
        ("a%2520b", ILLEGAL),
        (long.as_str(), longer),
    ] {
        for collection in ["actions", "packages", "triggers", "rules"] {
            app.guest.put(&format!("{collection}/{encoded}"), &json!({})).await.refused(400, why);
            app.guest.get(&format!("{collection}/{encoded}")).await.refused(400, why);
        }
        app.guest.put(&format!("actions/{encoded}/a"), &echo()).await.refused(400, why);
        app.guest.put(&format!("actions/p/{encoded}"), &echo()).await.refused(400, why);
    }
}

#[tokio::test]
async fn namespaces() {
    let app = TestApp::start();
    let long = "n".repeat(257);
    for (encoded, why) in [
        ("no+such", "The namespace contains illegal characters."),
        ("%20", "The namespace contains illegal characters."),
        (long.as_str(), "Namespace longer than allowed: 257 > 256."),
    ] {
        for path in ["actions", "actions/a", "activations", "limits", "packages/%20"] {
            app.guest.get(&format!("/api/v1/namespaces/{encoded}/{path}")).await.refused(400, why);
        }
    }
    app.guest.put("/api/v1/namespaces/guest/triggers/t", &json!({})).await.good();
    assert_eq!(app.guest.get("triggers/t").await.good()["namespace"], "guest");
    for (path, what) in [
        ("actions", "guest"),
        ("triggers", "guest"),
        ("rules", "guest"),
        ("activations", "guest"),
        ("actions/a", "guest/a"),
        ("triggers/t", "guest/t"),
        ("rules/r", "guest/r"),
        ("packages/missing", "guest/missing"),
        ("actions/p/a", "guest/p"),
        ("activations/0123456789abcdef0123456789abcdef", "guest"),
    ] {
        let why = format!("The supplied authentication is not authorized to access '{what}'.");
        app.system.get(&format!("/api/v1/namespaces/guest/{path}")).await.refused(403, &why);
    }
    for path in ["actions/a", "actions/p/a", "triggers/t", "rules/r", "packages/p"] {
        let what = path.split_once('/').unwrap().1;
        let why = format!("The supplied authentication is not authorized to access 'guest/{what}'.");
        app.system.put(&format!("/api/v1/namespaces/guest/{path}"), &echo()).await.refused(403, &why);
        app.system.delete(&format!("/api/v1/namespaces/guest/{path}")).await.refused(403, &why);
    }
    assert_eq!(app.guest.get("/api/v1/namespaces/nobody/packages").await.good(), json!([]));
    // The body of somebody who may not is not even read.
    let nonsense = app.system.request("PUT", "/api/v1/namespaces/guest/triggers/t").body("{");
    assert_eq!(app.system.send(nonsense).await.status, 403);
}

#[tokio::test]
async fn all_collections_share_one_key_space() {
    const OTHER: &str = "Resource by this name exists but is not in this collection.";
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("packages/p", &json!({})).await.good();
    app.guest.put("triggers/t", &json!({})).await.good();
    app.guest.put("rules/r", &kwsk_tests::rule("t", "a")).await.good();
    let owners = [("actions", "a"), ("packages", "p"), ("triggers", "t"), ("rules", "r")];
    for (collection, _) in owners {
        for (owner, name) in owners.into_iter().filter(|(owner, _)| *owner != collection) {
            let path = format!("{collection}/{name}");
            let body = match collection {
                "actions" => echo(),
                "rules" => kwsk_tests::rule("t", "a"),
                _ => json!({}),
            };
            app.guest.get(&path).await.refused(409, OTHER);
            app.guest.delete(&path).await.refused(409, OTHER);
            app.guest.put(&path, &body).await.refused(409, OTHER);
            app.guest.put(&format!("{path}?overwrite=true"), &body).await.refused(409, OTHER);
            assert_eq!(app.guest.get(&format!("{owner}/{name}")).await.status, 200);
        }
    }
    app.guest.put("actions/t/x", &echo()).await.refused(409, OTHER);
    app.guest.get("actions/a/x").await.refused(409, OTHER);
    app.guest.put("actions/p/t", &echo()).await.good();
}
