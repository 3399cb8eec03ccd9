//! What probes and scrapers see.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn metrics() {
    let mut spec = echo();
    spec.logs_bytes = 2;
    let served = served(spec).await;
    let address = served.address;
    let id = "a".repeat(32);
    let kwsk = [(header::ACTIVATION_ID, id.as_str())];
    for (headers, body) in [
        (&[][..], "{}"),
        (&[][..], r#"{"fail":1}"#),
        (&kwsk[..], "{}"),
        (&kwsk[..], "{}"),
        (&BINARY[..], r#"{"die":1}"#),
    ] {
        ask(address, "POST /", headers, body).await;
    }
    let samples = served.samples().await;
    for expected in [
        r#"kwsk_shim_runs_total{outcome="success",caller="plain"} 1"#,
        r#"kwsk_shim_runs_total{outcome="application_error",caller="plain"} 1"#,
        r#"kwsk_shim_runs_total{outcome="success",caller="kwsk"} 1"#,
        r#"kwsk_shim_runs_total{outcome="developer_error",caller="event"} 1"#,
        "kwsk_shim_repetitions_total 1",
        "kwsk_shim_run_duration_seconds_count 4",
        "kwsk_shim_logs_truncated_total 4",
    ] {
        assert!(samples.iter().any(|line| line == expected), "{expected}: {samples:?}");
    }
    // Logs that were cut cost the runtime.
    let inits = r#"kwsk_shim_inits_total{result="success"} 4"#;
    assert!(samples.iter().any(|line| line == inits), "{samples:?}");
    assert!(!samples.iter().any(|line| line.starts_with("kwsk_shim_runs_in_flight")), "{samples:?}");
    served.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_init_and_a_run_in_flight() {
    let broken = served(source("throw new Error('no')")).await;
    assert_eq!(ask(broken.address, "POST /", &[], "{}").await.status, 502);
    let samples = broken.samples().await;
    let failure = r#"kwsk_shim_inits_total{result="failure"} 1"#;
    assert!(samples.iter().any(|line| line == failure), "{samples:?}");
    assert!(!samples.iter().any(|line| line.starts_with("kwsk_shim_run_duration")), "{samples:?}");
    broken.close().await;

    let served = served(source("function main() { return new Promise(() => {}) }")).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(request("POST /", &[], "{}").as_bytes()).await.unwrap();
    until_async("a run in flight", async || served.samples().await == ["kwsk_shim_runs_in_flight 1"]).await;
    drop(stream);
    until_async("its end with its caller", async || served.samples().await.is_empty()).await;
    served.close().await;
}

async fn until_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(std::time::Instant::now() < deadline, "{what} did not come about");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes() {
    let served = served(echo()).await;
    let address = served.address;
    assert_eq!(ask(address, "GET /kwsk/ready", &[], "").await.json(), json!({"ok":true}));
    for line in ["HEAD /kwsk/ready", "HEAD /kwsk/metrics"] {
        let got = ask(address, line, &[("user-agent", "kube-probe/1.35")], "").await;
        assert_eq!((got.status, got.body.as_str()), (200, ""), "{line}");
    }
    assert_eq!(served.samples().await, [""; 0], "nothing ran, nothing counts");
    assert!(!served.shim.is_warm());
    served.close().await;
}
