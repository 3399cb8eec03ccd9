//! In local mode, with a key everybody knows, a web page must not be able to drive the platform.

use kwsk_tests::{TestApp, echo};

#[tokio::test]
async fn foreign_pages_are_refused_whatever_they_ask() {
    let app = TestApp::start();
    app.guest.put("actions/a", &echo()).await.good();
    for origin in ["http://evil.example", "http://localhost:8080", "null", "file://"] {
        for (method, path) in [
            ("GET", "actions"),
            ("PUT", "actions/b"),
            ("POST", "actions/a"),
            ("OPTIONS", "actions/a"),
            ("GET", "/ping"),
        ] {
            let reply = app.guest.send(app.guest.request(method, path).header("origin", origin)).await;
            assert_eq!(reply.status, 403, "{reply:?}");
            let text = reply.json()["error"].as_str().unwrap().to_owned();
            assert!(text.contains("--allow-origin") && text.contains(origin), "{text}");
            assert_eq!(reply.header("access-control-allow-origin"), None, "{reply:?}");
        }
    }
    assert_eq!(app.guest.get("actions/b").await.status, 404);
}

#[tokio::test]
async fn foreign_hosts_are_refused() {
    let app = TestApp::start();
    let port = app.address.port();
    for (host, status) in [
        (format!("localhost:{port}"), 200),
        (format!("127.0.0.1:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        ("localhost".to_owned(), 200),
        (format!("rebound.example:{port}"), 403),
        ("localhost.evil.example".to_owned(), 403),
        (format!("10.1.2.3:{port}"), 403),
    ] {
        let reply = app.guest.send(app.guest.request("GET", "actions").header("host", &host)).await;
        assert_eq!(reply.status, status, "{host}: {reply:?}");
        if status == 403 {
            assert!(reply.json()["error"].as_str().unwrap().contains("--api-host"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn own_pages_and_allowed_origins_are_admitted() {
    let app = TestApp::configure()
        .flag("allow-origin", "http://localhost:8080")
        .flag("api-host", "http://kwsk.example")
        .start();
    let own = format!("http://{}", app.address);
    for (origin, status) in [
        (own.as_str(), 200),
        ("http://localhost:8080", 200),
        ("http://localhost:8081", 403),
        ("https://localhost:8080", 403),
    ] {
        let reply = app.guest.send(app.guest.request("GET", "actions").header("origin", origin)).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
    let reply = app.guest.send(app.guest.request("GET", "actions").header("host", "kwsk.example")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}
