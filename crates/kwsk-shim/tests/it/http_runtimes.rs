use kwsk_model::activation::Outcome;
use serde_json::json;

use crate::harness::{Pad, developer_error, logs, node_http, ok, python_http, result, run, source, until};

const NODE: &str = "function main(a) { console.log('out'); console.error('err'); return {got: a, id: process.env.__OW_ACTIVATION_ID} }";

#[tokio::test(flavor = "multi_thread")]
async fn runs() {
    let pad = Pad::new().await;

    let python = "def main(a):\n    print('out')\n    import sys\n    print('err', file=sys.stderr)\n    return {'got': a}";
    for (runtime, code) in [(node_http(""), NODE), (python_http(), python)] {
        let shim = pad.shim(&runtime, source(code));
        for n in 0..3 {
            let report = run(&shim, json!({ "n": n })).await;
            assert_eq!(ok(&report)["got"], json!({ "n": n }));
            let mut lines = logs(&report);
            lines.sort_unstable();
            assert_eq!(lines, ["stderr: err", "stdout: out"]);
            assert_eq!(report.init_ms.is_some(), n == 0);
        }
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_fails() {
    let pad = Pad::new().await;
    let unexpected = "The action did not initialize and exited unexpectedly.";
    let timeout = "The action exceeded its time limits of 300 milliseconds during initialization.";
    for (manners, code, text) in [
        ("no-code", "", "Missing main/no code to execute."),
        ("syntax", "function main(", "Initialization has failed due to: SyntaxError"),
        ("die-init", "x", unexpected),
        ("hang-init", "x", timeout),
        ("deaf", "x", timeout),
    ] {
        let mut spec = source(code);
        if text == timeout {
            spec.timeout_ms = 300;
        }
        let report = run(&pad.shim(&node_http(manners), spec), json!({})).await;
        let error = developer_error(&report);
        assert!(error.starts_with(text), "{manners}: {error}");
        assert_eq!(report.timed_out, text == timeout);
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_fail() {
    let pad = Pad::new().await;
    let code = "function main(a) { if (a.exit) process.exit(1); return {} }";
    let died = "The action did not produce a valid response and exited unexpectedly.";
    for (manners, arguments, text) in [
        ("half", json!({}), died),
        ("exits", json!({"exit":true}), died),
        ("text", json!({}), "The action did not produce a valid JSON or JSON Array response: not json"),
    ] {
        let shim = pad.shim(&node_http(manners), source(code));
        assert_eq!(developer_error(&run(&shim, arguments).await), text, "{manners}");
        assert!(!shim.is_warm());
    }
    let report = run(&pad.shim(&node_http("huge"), source(code)), json!({})).await;
    assert_eq!(report.response.outcome, Outcome::ApplicationError);
    let text = result(&report)["error"].as_str().unwrap().to_owned();
    assert!(text.contains("allowed length: 3145738 > 1048576 bytes.") && text.ends_with('a'));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_sentinel_is_remarked() {
    let pad = Pad::new().await;
    let shim = pad.shim(&node_http("no-sentinel"), source("function main() { console.log('x'); return {} }"));
    let report = run(&shim, json!({})).await;
    ok(&report);
    let remark = "stderr: There was an issue while collecting your logs. Data might be missing.";
    assert_eq!(logs(&report), ["stdout: x", remark]);
    assert!(!shim.is_warm());
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prewarmed_one_is_taken() {
    let pad = Pad::new().await;
    let runtime = node_http("");
    pad.pad.set_stem_cells(std::sync::Arc::clone(&runtime), 1);
    until("a stem cell", || pad.pad.stem_cells("test:1") == 1).await;
    let shim = pad.shim(&runtime, source("function main() { return {pid: process.pid} }"));
    assert!(ok(&run(&shim, json!({})).await)["pid"].is_number());
    until("another stem cell", || pad.pad.stem_cells("test:1") == 1).await;
    pad.close().await;
}
