use kwsk_model::activation::Outcome;
use serde_json::json;

use crate::harness::{
    Pad, developer_error, is_alive, logs, native, node, ok, python, result, run, source, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn time_of_init_and_run() {
    let pad = Pad::new().await;
    let init = "The action exceeded its time limits of 500 milliseconds during initialization.";
    let ran = "The action exceeded its time limits of 2000 milliseconds.";
    let mut tasks = tokio::task::JoinSet::new();
    for (runtime, code, text) in [
        (node(), "while (true) {}", init),
        (node(), "function main() { while (true) {} }", ran),
        (node(), "function main() { return new Promise(() => {}) }", ran),
        (python(), "import time\ntime.sleep(60)", init),
        (python(), "def main(a):\n    while True: pass", ran),
        (native(), "#!/bin/sh\nsleep 60", ran),
    ] {
        let mut spec = source(code);
        spec.timeout_ms = if text == init { 500 } else { 2000 };
        let (limit, shim) = (spec.timeout_ms, pad.shim(&runtime, spec));
        tasks.spawn(async move { (code, text, limit, run(&shim, json!({})).await, shim) });
    }
    while let Some(done) = tasks.join_next().await {
        let (code, text, limit, report, shim) = done.unwrap();
        assert_eq!(developer_error(&report), text, "{code}");
        assert!(report.timed_out && report.duration_ms >= limit, "{report:?}");
        assert!(!shim.is_warm(), "{code}");
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grandchildren_die_with_a_timeout() {
    let pad = Pad::new().await;
    let code = "const c = require('child_process').spawn('sleep', ['300']); console.log(c.pid);
        function main(a) { return a.hang ? new Promise(() => {}) : {pid: c.pid} }";
    let mut spec = source(code);
    spec.timeout_ms = 3000;
    let shim = pad.shim(&node(), spec);
    let sleeper = ok(&run(&shim, json!({})).await)["pid"].as_u64().unwrap();
    assert!(is_alive(sleeper));
    developer_error(&run(&shim, json!({"hang":true})).await);
    until("the end of the grandchild", || !is_alive(sleeper)).await;
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    let pad = Pad::new().await;
    let fills = "def main(a):\n    data = bytearray(256 * 1024 * 1024)\n    for i in range(0, len(data), 4096): data[i] = 1\n    return {}";
    for (runtime, code) in [
        (
            node(),
            "function main() { const all = []; for (let i = 0; i < 256; i++) all.push(Buffer.alloc(1024 * 1024, 1)); return {n: all.length} }",
        ),
        (python(), fills),
        (
            native(),
            "#!/usr/bin/env python3\ndata = bytearray(256 * 1024 * 1024)\nfor i in range(0, len(data), 4096): data[i] = 1\nprint('{}')",
        ),
    ] {
        let mut spec = source(code);
        spec.memory_mb = 128;
        let report = run(&pad.shim(&runtime, spec), json!({})).await;
        assert_eq!(developer_error(&report), "The action exhausted its memory and was aborted.");
    }
    let mut spec = source(fills);
    spec.memory_mb = 512;
    ok(&run(&pad.shim(&python(), spec), json!({})).await);
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_children_counts() {
    let pad = Pad::new().await;
    let child = "import time; data = bytearray(256 * 1024 * 1024); data[::4096] = b'x' * len(data[::4096]); time.sleep(60)";
    let code = format!(
        "import subprocess\ndef main(a):\n    subprocess.run(['python3', '-c', \"{child}\"])\n    return {{}}"
    );
    let mut spec = source(&code);
    spec.memory_mb = 128;
    let report = run(&pad.shim(&python(), spec), json!({})).await;
    assert_eq!(developer_error(&report), "The action exhausted its memory and was aborted.");
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("memory.events");
    std::fs::write(&events, "oom 1\noom_kill 1\n").unwrap();
    let pad = Pad::with(|sandbox| sandbox.oom_events = vec![events.clone()]).await;
    let exhausted = "The action exhausted its memory and was aborted.";
    let died = "The action did not produce a valid response and exited unexpectedly.";
    // The kernel counts before the process is gone; the process stands in for it.
    let events = events.to_string_lossy();
    let node = format!(
        "const fs = require('fs'); function main(a) {{ if (a.count) fs.writeFileSync('{events}', 'oom_kill ' + a.count); if (a.code) process.exit(a.code); process.kill(process.pid, 'SIGKILL'); while (true) {{}} }}"
    );
    let shim = pad.shim(&crate::harness::node(), source(&node));
    for (arguments, text) in [
        (json!({}), died),
        (json!({"code":137}), died),
        (json!({"count":2}), exhausted),
        (json!({}), died),
        (json!({"count":3,"code":137}), exhausted),
        (json!({"count":4,"code":1}), died),
    ] {
        assert_eq!(developer_error(&run(&shim, arguments.clone()).await), text, "{arguments}");
    }
    let program = format!("#!/bin/sh\necho 'oom_kill 9' > '{events}'\necho '{{}}'\nkill -9 $$");
    assert_eq!(developer_error(&run(&pad.shim(&native(), source(&program)), json!({})).await), exhausted);
    let init = format!(
        "require('fs').writeFileSync('{events}', 'oom_kill 10'); process.kill(process.pid, 'SIGKILL')"
    );
    let report = run(&pad.shim(&crate::harness::node(), source(&init)), json!({})).await;
    assert_eq!(developer_error(&report), exhausted);
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files() {
    let pad = Pad::new().await;
    let code = "const fs = require('fs'); function main(a) { const open = []; try { for (let i = 0; i < a.n; i++) open.push(fs.openSync('/dev/zero')) } catch (e) { return {code: e.code, errno: e.errno} } finally { open.forEach(fd => fs.closeSync(fd)) } return {open: open.length} }";
    let shim = pad.shim(&node(), source(code));
    assert_eq!(ok(&run(&shim, json!({"n":990})).await), json!({"open":990}));
    assert_eq!(ok(&run(&shim, json!({"n":1025})).await), json!({"code":"EMFILE","errno":-24}));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_cut_by_lines() {
    let pad = Pad::new().await;
    let code = "function main(a) { for (let i = 0; i < a.n; i++) console.log('0123456789abcde'); if (a.fail) throw 'x'; return {} }";
    let truncated =
        "stderr: Logs were truncated because the total bytes size exceeds the limit of 1048576 bytes.";
    let mut spec = source(code);
    spec.logs_bytes = 1024 * 1024;
    let shim = pad.shim(&node(), spec);
    let report = run(&shim, json!({"n":65536})).await;
    assert_eq!((ok(&report), report.logs.len(), shim.is_warm()), (json!({}), 65536, true));
    let report = run(&shim, json!({"n":70000})).await;
    ok(&report);
    assert_eq!((report.logs.len(), logs(&report)[65536]), (65537, truncated));
    assert!(!shim.is_warm());
    let report = run(&shim, json!({"n":70000,"fail":true})).await;
    developer_error(&report);
    assert_eq!((report.logs.len(), logs(&report)[65536]), (65538, truncated));
    let mut spec = source(code);
    spec.logs_bytes = 0;
    let report = run(&pad.shim(&node(), spec), json!({"n":70000,"fail":true})).await;
    developer_error(&report);
    assert!(report.logs.is_empty());
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_cut() {
    let pad = Pad::new().await;
    let python_code = "def main(a): return {'msg': 'a' * a['n']}";
    for (runtime, code) in
        [(node(), "function main(a) { return {msg: 'a'.repeat(a.n)} }"), (python(), python_code)]
    {
        let shim = pad.shim(&runtime, source(code));
        ok(&run(&shim, json!({"n":1_048_566})).await);
        let report = run(&shim, json!({"n":1_048_576})).await;
        assert_eq!(report.response.outcome, Outcome::ApplicationError);
        let text = result(&report)["error"].as_str().unwrap().to_owned();
        let start = "The action produced a response that exceeded the allowed length: 1048586 > 1048576 bytes. The truncated response was: {\"msg\":\"a";
        assert!(text.starts_with(start) && text.ends_with('a'), "{}", &text[..200]);
        assert!(shim.is_warm());
        ok(&run(&shim, json!({"n":1})).await);
    }
    let script = "#!/bin/sh\nprintf '{\"a\":\"'; head -c 2000000 /dev/zero | tr '\\0' b; echo '\"}'";
    let report = run(&pad.shim(&native(), source(script)), json!({})).await;
    assert!(result(&report)["error"].as_str().unwrap().contains("2000008 > 1048576"));
    pad.close().await;
}
