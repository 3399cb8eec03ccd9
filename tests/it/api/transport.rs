//! What holds for every request: transaction ids, credentials, methods, CORS, sizes, media types.

use kwsk_tests::{TestApp, echo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ORIGIN: &str = "access-control-allow-origin";
const NO_ROUTE: &str = "The requested resource could not be found.";
const NO_KEY: &str = "The resource requires authentication, which was not supplied with the request";
const WRONG_KEY: &str = "The supplied authentication is invalid";

#[tokio::test]
async fn transaction_ids() {
    let app = TestApp::start();
    for (sent, kept) in [("mine", true), ("0123456789abcdef0123456789abcdef", true), ("sid_mine", false)] {
        for path in ["/ping", "actions", "actions/missing", "/nowhere"] {
            let reply = app.guest.send(app.guest.request("GET", path).header("x-request-id", sent)).await;
            assert_eq!(reply.header("x-request-id") == Some(sent), kept, "{reply:?}");
        }
    }
    let generated = app.guest.get("actions").await;
    let id = generated.header("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
    let again = app.guest.get("actions").await;
    assert_ne!(again.header("x-request-id"), Some(id));
}

#[tokio::test]
async fn credentials() {
    let app = TestApp::start();
    for path in
        ["actions", "actions/x", "activations/nonsense", "/api/v1/namespaces", "/api/v1/nowhere", "packages"]
    {
        for (client, text) in [(&app.anon, NO_KEY), (&app.wrong, WRONG_KEY)] {
            let reply = client.get(path).await;
            reply.refused(401, text);
            assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"OpenWhisk secure realm\""));
            assert_eq!(reply.header(ORIGIN), None);
        }
    }
    for (header, text) in [
        ("Basic xxx", WRONG_KEY),
        ("Basic Z3Vlc3Q6c2VjcmV0", WRONG_KEY),
        ("Basic", WRONG_KEY),
        ("Bearer abc", NO_KEY),
        ("", NO_KEY),
    ] {
        app.anon
            .send(app.anon.request("GET", "actions").header("authorization", header))
            .await
            .refused(401, text);
    }
    // The right name with the wrong secret.
    let (uuid, secret) = kwsk_server::app::GUEST_KEY.split_once(':').unwrap();
    let secret = secret.replace('1', "2");
    app.anon
        .send(app.anon.request("GET", "actions").basic_auth(uuid, Some(secret)))
        .await
        .refused(401, WRONG_KEY);
    assert_eq!(app.guest.get("/api/v1/namespaces").await.good(), json!(["guest"]));
    assert_eq!(app.system.get("/api/v1/namespaces/").await.good(), json!(["whisk.system"]));
}

#[tokio::test]
async fn wrong_methods_and_paths_are_404_with_credentials_and_401_without() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    for (method, path) in [
        ("POST", "actions"),
        ("DELETE", "actions"),
        ("PUT", "actions/"),
        ("PUT", "actions/a/"),
        ("DELETE", "triggers/"),
        ("PATCH", "actions/a"),
        ("POST", "packages/p"),
        ("PUT", "activations/0123456789abcdef0123456789abcdef"),
        ("DELETE", "activations/0123456789abcdef0123456789abcdef"),
        ("POST", "activations"),
        ("PUT", "limits"),
        ("GET", "nonsense"),
        ("GET", "actions/a/b/c"),
        ("GET", "triggers/a/b"),
        ("GET", "/api/v1/namespaces/guest"),
        ("POST", "/api/v1/namespaces"),
        ("GET", "/api/v1/nowhere"),
        ("POST", "/api/v1"),
        ("HEAD", "actions"),
        ("HEAD", "actions/a"),
    ] {
        let reply = app.guest.send(app.guest.request(method, path)).await;
        assert_eq!(reply.status, 404, "{reply:?}");
        assert_eq!(reply.header(ORIGIN), None, "{reply:?}");
        if method != "HEAD" {
            reply.refused(404, NO_ROUTE);
        }
        let reply = app.anon.send(app.anon.request(method, path)).await;
        assert_eq!(reply.status, 401, "{reply:?}");
    }
    for (method, path) in
        [("GET", "/nowhere"), ("POST", "/ping"), ("HEAD", "/ping"), ("HEAD", "/"), ("DELETE", "/")]
    {
        let reply = app.anon.send(app.anon.request(method, path)).await;
        assert_eq!(reply.status, 404, "{reply:?}");
    }
}

#[tokio::test]
async fn cors() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    for path in ["/api/v1", "actions", "/api/v1/namespaces/no such/actions/x", "/api/v1/nowhere", "/nowhere"]
    {
        let reply = app.anon.send(app.anon.request("OPTIONS", path)).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, ""), "{reply:?}");
        assert_eq!(reply.header(ORIGIN).is_some(), path != "/nowhere", "{reply:?}");
    }
    for (path, status, cors) in [
        ("actions", 200, true),
        ("actions/a", 200, true),
        ("actions/missing", 404, true),
        ("triggers/a", 409, true),
        ("/api/v1/namespaces/other/actions", 403, true),
        ("/api/v1", 200, true),
        ("actions?limit=x", 400, false),
        ("/api/v1/nowhere", 404, false),
        ("/ping", 200, false),
    ] {
        let reply = app.guest.get(path).await;
        assert_eq!((reply.status, reply.header(ORIGIN).is_some()), (status, cors), "{reply:?}");
    }
    let reply = app.guest.get("actions").await;
    assert_eq!(reply.header(ORIGIN), Some("*"));
    assert_eq!(
        reply.header("access-control-allow-headers"),
        Some("Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent")
    );
    assert_eq!(reply.header("access-control-allow-methods"), Some("GET, DELETE, POST, PUT, HEAD"));
}

#[tokio::test]
async fn media_types_and_missing_bodies() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    let unsupported = |sent: &str| {
        format!("The request's Content-Type [{sent}] is not supported. Expected:\napplication/json")
    };
    for (method, path) in [
        ("PUT", "actions/x"),
        ("PUT", "packages/x"),
        ("PUT", "triggers/x"),
        ("PUT", "rules/x"),
        ("POST", "rules/x"),
        ("POST", "actions/a"),
        ("POST", "triggers/x"),
    ] {
        for sent in ["application/x-www-form-urlencoded", "text/plain; charset=utf-8"] {
            let request = app.guest.request(method, path).header("content-type", sent).body("{}");
            app.guest.send(request).await.refused(415, &unsupported(sent));
        }
    }
    for (method, path) in
        [("PUT", "actions/x"), ("PUT", "packages/x"), ("PUT", "triggers/x"), ("POST", "rules/x")]
    {
        let reply = app.guest.send(app.guest.request(method, path)).await;
        reply.refused(400, "Request entity expected but not supplied");
    }
    for sent in [Some("application/json"), Some("Application/JSON; charset=UTF-8"), None] {
        let mut request = app.guest.request("PUT", "packages/p?overwrite=true").body("{}");
        if let Some(sent) = sent {
            request = request.header("content-type", sent);
        }
        app.guest.send(request).await.good();
    }
    for body in ["[]", "1", "null", "\"x\"", "{", "{}}", "{\"a\":\"\u{1}\"}"] {
        for (method, path) in [("PUT", "packages/x"), ("PUT", "actions/x"), ("POST", "actions/a")] {
            let reply = app.guest.send(app.guest.request(method, path).body(body)).await;
            assert_eq!(reply.status, 400, "{body}: {reply:?}");
            assert!(
                reply.json()["error"].as_str().unwrap().starts_with("The request content was malformed:\n")
            );
        }
    }
}

#[tokio::test]
async fn long_uris() {
    let app = TestApp::start();
    let reply = app.guest.get(&format!("actions?name={}", "a".repeat(8 * 1024))).await;
    reply.refused(414, "414 Request-URI Too Large");
    let reply = app.guest.get(&format!("actions/{}", "a".repeat(8 * 1024 - 100))).await;
    reply.refused(400, "Name segement longer than allowed: 8092 > 256.");
}

#[tokio::test]
async fn sizes() {
    const MB: usize = 1024 * 1024;
    let app = TestApp::start();
    let code = |bytes: usize| json!({"exec": {"kind": "nodejs:default", "code": "/".repeat(bytes)}});
    app.guest
        .put("actions/large", &code(48 * MB + 1))
        .await
        .refused(413, "exec larger than allowed: 50331649 > 50331648 bytes.");
    app.guest
        .put("actions/large", &code(51 * MB))
        .await
        .refused(413, "The request content is larger than the server is willing or able to process.");
    let stream = format!("{{\"x\":\"{}\"}}", "x".repeat(60 * MB));
    app.guest
        .send(app.guest.request("PUT", "actions/large").body(stream))
        .await
        .refused(413, "The request content is larger than the server is willing or able to process.");
    assert_eq!(app.guest.get("actions/large").await.status, 404);
    assert_eq!(app.guest.put("actions/large", &code(48 * MB)).await.status, 200);
    assert_eq!(app.guest.get("actions/large?code=false").await.good()["version"], "0.0.1");

    app.guest.put("actions/a", &echo()).await.good();
    app.guest.put("triggers/t", &json!({})).await.good();
    let body = json!({"p": "x".repeat(MB)});
    for path in ["actions/a?blocking=true", "triggers/t"] {
        app.guest
            .post(path, &body)
            .await
            .refused(413, "Request larger than allowed: 1048584 > 1048576 bytes.");
    }
    let body = json!({"p": "x".repeat(MB - 100)});
    assert_eq!(app.guest.post("actions/a?blocking=true&result=true", &body).await.good(), body);
    let large = json!([{"key": "k", "value": "x".repeat(MB)}]);
    for (field, what) in [("parameters", "parameters"), ("annotations", "annotations")] {
        let mut put = echo();
        put[field] = large.clone();
        let reply = app.guest.put("actions/b", &put).await;
        assert_eq!(reply.status, 413, "{}", reply.status);
        assert!(
            reply.json()["error"].as_str().unwrap().starts_with(&format!("{what} larger than allowed: "))
        );
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_before_it_sends() {
    let app = TestApp::start();
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = "PUT /api/v1/namespaces/_/actions/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_nonsense_harms_nobody() {
    let app = TestApp::start();
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("pong"), "{answer}");
    }
    for nonsense in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    }
    assert_eq!(app.anon.get("/ping").await.text, "pong");
}
