use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use kwsk_model::activation::Outcome;
use kwsk_shim::{Launchpad, Report, Runtime, Sandbox, Shim};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::{
    Pad, a_run, command, developer_error, is_alive, logs, native, node, node_http, ok, python, result, run,
    source, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_first_calls_share_one_init() {
    let pad = Pad::new().await;
    let mark = pad.root.path().join("inits");
    let count = || std::fs::read_to_string(&mark).map_or(0, |text| text.len());
    let append = format!("require('fs').appendFileSync({:?}, 'x');", mark.to_string_lossy());
    for (end, good) in [("function main() { return {} }", true), ("throw new Error('no')", false)] {
        let mut spec = source(&format!("{append} {end}"));
        spec.concurrency = 10;
        let shim = pad.shim(&node(), spec);
        let before = count();
        let mut tasks = JoinSet::new();
        for _ in 0..if good { 100 } else { 10 } {
            let shim = shim.clone();
            tasks.spawn(async move { run(&shim, json!({})).await });
        }
        while let Some(report) = tasks.join_next().await {
            let report = report.unwrap();
            if good {
                ok(&report);
            } else {
                assert!(developer_error(&report).contains("Error: no"));
            }
        }
        assert_eq!(count() - before, 1);
        if !good {
            developer_error(&run(&shim, json!({})).await);
            assert_eq!(count() - before, 2, "the next call starts afresh");
        }
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_beyond_the_concurrency_wait() {
    let pad = Pad::new().await;
    let code =
        "let n = 0; function main() { n++; return new Promise(r => setTimeout(() => r({n: n--}), 5)) }";
    let shim = pad.shim(&node(), source(code));
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let shim = shim.clone();
        tasks.spawn(async move { ok(&run(&shim, json!({})).await) });
    }
    while let Some(result) = tasks.join_next().await {
        assert_eq!(result.unwrap(), json!({"n":1}));
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_runs_once() {
    let pad = Pad::new().await;
    let code =
        "let n = 0; async function main(a) { await new Promise(r => setTimeout(r, 20)); return {n: ++n} }";
    for concurrency in [1, 4] {
        let mut spec = source(code);
        spec.concurrency = concurrency;
        let shim = pad.shim(&node(), spec);
        let same = a_run(json!({}));
        let (first, second) = tokio::join!(shim.run(same.clone()), shim.run(same.clone()));
        let third = shim.run(same).await;
        assert!(first.repeated != second.repeated && third.repeated);
        for report in [first, second] {
            assert_eq!(Report { repeated: true, ..report }, third);
        }
        assert_eq!(ok(&run(&shim, json!({})).await), json!({"n":2}));
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_run_is_killed_and_answers_nobody() {
    let pad = Pad::new().await;
    let code = "async function main(a) { if (a.slow) await new Promise(r => setTimeout(r, 200)); return {got: a, pid: process.pid} }";
    for runtime in [node(), node_http("no-sentinel")] {
        let mut spec = source(code);
        spec.logs_bytes = 0;
        let shim = pad.shim(&runtime, spec);
        ok(&run(&shim, json!({})).await);
        let pid = u64::from(shim.pid().unwrap());
        let slow = a_run(json!({"slow":true}));
        let abandoned = tokio::time::timeout(Duration::from_millis(20), shim.run(slow.clone())).await;
        assert!(abandoned.is_err());
        until("the end of the abandoned runtime", || !is_alive(pid)).await;
        assert_eq!(ok(&run(&shim, json!({"n":2})).await)["got"], json!({"n":2}));
        // It may have run: it does not run again.
        assert_eq!(shim.run(slow).await.response.outcome, Outcome::WhiskError);
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_init_leaves_nothing() {
    let pad = Pad::new().await;
    let shim = pad.shim(&python(), source("import time\ntime.sleep(0.2)\ndef main(a): return {}"));
    let abandoned = tokio::time::timeout(Duration::from_millis(50), run(&shim, json!({}))).await;
    assert!(abandoned.is_err() && !shim.is_warm());
    until("an empty work root", || std::fs::read_dir(pad.work()).unwrap().count() == 1).await;
    ok(&run(&shim, json!({})).await);
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_died_while_idle_is_replaced() {
    let pad = Pad::new().await;
    let shim = pad.shim(
        &node(),
        source("function main(a) { if (a.die) setTimeout(() => process.exit(1), 1); return {} }"),
    );
    ok(&run(&shim, json!({"die":true})).await);
    until("the end of the runtime", || !shim.is_warm()).await;
    let report = run(&shim, json!({})).await;
    ok(&report);
    assert!(report.init_ms.is_some());
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping() {
    let pad = Pad::new().await;
    let shim = pad.shim(&node(), source("function main() { return {} }"));
    ok(&run(&shim, json!({})).await);
    let pid = u64::from(shim.pid().unwrap());
    shim.stop().await;
    assert!(!is_alive(pid) && !shim.is_warm());
    assert_eq!(std::fs::read_dir(pad.work()).unwrap().count(), 1);
    let report = run(&shim, json!({})).await;
    assert_eq!(report.response.outcome, Outcome::WhiskError);
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_interrupts() {
    let pad = Pad::new().await;
    let mark = pad.root.path().join("pid");
    let shell = format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 300", mark.display());
    let write = format!("require('fs').writeFileSync({mark:?}, process.pid + '\\n')");
    let init = format!("{write}; while (true) {{}}");
    let main = format!("function main() {{ {write}; return new Promise(() => {{}}) }}");
    for (runtime, code, ran) in [
        (native(), &shell, true),
        (node(), &main, true),
        (node(), &init, false),
        (node_http(""), &main, true),
    ] {
        let shim = pad.shim(&runtime, source(code));
        let (report, ()) = tokio::join!(run(&shim, json!({})), async {
            until("the run", || std::fs::read_to_string(&mark).is_ok_and(|text| text.ends_with('\n'))).await;
            let pid = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
            assert!(is_alive(pid));
            shim.stop().await;
            assert!(!is_alive(pid));
        });
        assert_eq!(report.response.outcome, Outcome::WhiskError, "{code}");
        let text = result(&report)["error"].as_str().unwrap().to_owned();
        assert_eq!(text.contains("was stopped before the run ended"), ran, "{text}");
        std::fs::remove_file(&mark).unwrap();
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_gently() {
    let pad = Pad::new().await;
    let mark = pad.root.path().join("ended");
    let code = format!(
        "process.on('SIGTERM', () => {{ require('fs').writeFileSync({mark:?}, ''); process.exit(0) }}); exports.main = () => ({{}})"
    );
    let shim = pad.shim(&node(), source(&code));
    assert!(!shim.signal(15), "there is nobody");
    ok(&run(&shim, json!({})).await);
    assert!(!shim.signal(4711) && shim.signal(28));
    shim.terminate(Duration::from_secs(20)).await;
    assert!(mark.exists());
    let shim = pad.shim(&node(), source("process.on('SIGTERM', () => {}); exports.main = () => ({})"));
    ok(&run(&shim, json!({})).await);
    let pid = u64::from(shim.pid().unwrap());
    shim.terminate(Duration::from_millis(50)).await;
    assert!(!is_alive(pid));
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_ahead_is_the_first_runs() {
    let pad = Pad::new().await;
    let code = "console.log('init'); function main() { console.log('run'); return {} }";
    for runtime in [node(), node_http("")] {
        let shim = pad.shim(&runtime, source(code));
        assert!(shim.is_ready());
        let init = shim.init_eagerly();
        assert!(!shim.is_ready());
        init.await;
        assert!(shim.is_ready() && shim.is_warm());
        shim.warm_up().await;
        let report = run(&shim, json!({})).await;
        ok(&report);
        assert!(report.init_ms.is_some());
        assert_eq!(logs(&report), ["stdout: init", "stdout: run"]);
        assert_eq!(run(&shim, json!({})).await.init_ms, None);
    }
    let shim = pad.shim(&node(), source("console.log('init'); throw new Error('no')"));
    shim.init_eagerly().await;
    shim.warm_up().await;
    assert!(shim.is_ready() && !shim.is_warm());
    let report = run(&shim, json!({})).await;
    assert!(developer_error(&report).contains("Error: no") && report.init_ms.is_some());
    assert_eq!(logs(&report)[0], "stdout: init");
    let second = run(&shim, json!({})).await;
    assert!(second.start_ms >= report.end_ms && second.init_ms.is_some());
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_the_runtimes_not_the_inits() {
    let pad = Pad::new().await;
    let mut tasks = JoinSet::new();
    for (manners, early) in [("hang-init", true), ("deaf", false)] {
        let mut spec = source("x");
        spec.timeout_ms = 1500;
        let shim = pad.shim(&node_http(manners), spec);
        tasks.spawn(shim.init_eagerly());
        if early {
            until("readiness", || shim.is_ready()).await;
            assert!(!tasks.is_empty() && tasks.try_join_next().is_none(), "the init is over");
        }
        tasks.join_next().await.unwrap().unwrap();
        assert!(shim.is_ready(), "{manners}");
        assert!(developer_error(&run(&shim, json!({})).await).contains("during initialization"));
    }
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_runtime_is_unready_until_it_is_replaced() {
    let pad = Pad::new().await;
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = || {
        tokio::process::Command::new("node")
            .args([crate::harness::fixture("http_server.js"), address.port().to_string()])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let runtime = Arc::new(Runtime::attached("test:1", address, false));
    let code = "function main(a) { require('fs').writeFileSync(a.mark, ''); return new Promise(() => {}) }";
    let shim = pad.shim(&runtime, source(code));
    let init = shim.init_eagerly();
    assert!(!shim.is_ready(), "nobody listens");
    let mut neighbour = start();
    init.await;
    assert!(shim.is_ready());
    let mark = pad.root.path().join("began");
    let (report, ()) = tokio::join!(run(&shim, json!({"mark": mark})), async {
        until("the run", || mark.exists()).await;
        neighbour.kill().await.unwrap();
    });
    developer_error(&report);
    assert!(!shim.is_ready());
    assert_eq!(run(&shim, json!({})).await.response.outcome, Outcome::WhiskError);
    let _neighbour = start();
    until("readiness", || shim.is_ready()).await;
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stem_cells() {
    let pad = Pad::new().await;
    let runtime = node();
    pad.pad.set_stem_cells(Arc::clone(&runtime), 2);
    until("two stem cells", || pad.pad.stem_cells("test:1") == 2).await;
    let shims: Vec<_> = (0..3).map(|_| pad.shim(&runtime, source("function main() { return {} }"))).collect();
    for shim in &shims {
        ok(&run(shim, json!({})).await);
    }
    until("two stem cells again", || pad.pad.stem_cells("test:1") == 2).await;
    pad.pad.set_stem_cells(runtime, 0);
    assert_eq!(pad.pad.stem_cells("test:1"), 0);
    let exec = command(&["{code}/exec"]);
    pad.pad.set_stem_cells(exec, 3);
    assert_eq!(pad.pad.stem_cells("test:1"), 0);
    pad.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warming_up() {
    let pad = Pad::new().await;
    let mark = pad.root.path().join("inits");
    let count = || std::fs::read_to_string(&mark).map_or(0, |text| text.len());
    let append = format!("require('fs').appendFileSync({:?}, 'x');", mark.to_string_lossy());
    let shim = pad.shim(&node(), source(&format!("{append} function main() {{ return process.env }}")));
    tokio::join!(shim.warm_up(), shim.warm_up());
    assert!(shim.is_warm());
    let report = run(&shim, json!({})).await;
    assert_eq!((report.init_ms, count()), (None, 1));
    assert_eq!(ok(&report)["__OW_ACTION_NAME"], json!("/_/act"));
    shim.warm_up().await;
    assert_eq!(count(), 1, "it was warm");

    let shim = pad.shim(&node(), source(&format!("{append} function main() {{ return {{}} }}")));
    let ((), report) = tokio::join!(shim.warm_up(), run(&shim, json!({})));
    ok(&report);
    assert_eq!((report.init_ms, count()), (None, 2), "they share the init");

    let once =
        format!("{append} if (require('fs').readFileSync({:?}).length < 4) throw new Error('no')", mark);
    let shim = pad.shim(&node(), source(&format!("{once}; exports.main = () => ({{}})")));
    shim.warm_up().await;
    assert!(!shim.is_warm());
    assert!(run(&shim, json!({})).await.init_ms.is_some());
    shim.stop().await;
    shim.warm_up().await;
    assert!(!shim.is_warm());
    pad.close().await;
}

/// Not a test of its own: the server that the next one kills. It runs only with a work root in its environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_to_be_killed() {
    let Some((_, root)) = std::env::vars().find(|(key, _)| key == VICTIM) else { return };
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let pad = Launchpad::new(Sandbox::new(root), tracker, stop).await.unwrap();
    // Does not end with its requests.
    let script = "read -r l; sleep 300 & echo \"{\\\"sleep\\\":$!}\" >&3; wait";
    let shim = Shim::new(Arc::new(source("x")), command(&["sh", "-c", script]), pad);
    let sleeper = ok(&run(&shim, json!({})).await)["sleep"].as_u64().unwrap();
    println!("{VICTIM} {} {sleeper}", shim.pid().unwrap());
    std::future::pending::<()>().await;
}

const VICTIM: &str = "KWSK_TEST_VICTIM";

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_killed_server_are_reaped() {
    let root = tempfile::tempdir().unwrap();
    let mut server = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::a_server_to_be_killed", "--nocapture"])
        .env(VICTIM, root.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let line = loop {
        let line = lines.next_line().await.unwrap().expect("the server does not start");
        // The harness writes its own text before ours, without a newline.
        if let Some(at) = line.find(VICTIM) {
            break line[at..].to_owned();
        }
    };
    let pids: Vec<u64> = line.split(' ').skip(1).map(|pid| pid.parse().unwrap()).collect();
    server.kill().await.unwrap();
    assert!(pids.iter().all(|pid| is_alive(*pid)), "nobody killed them");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 3);
    assert_eq!(kwsk_shim::reap_leftovers(root.path()), 1);
    until("the end of the leftovers", || !pids.iter().any(|pid| is_alive(*pid))).await;
    let left: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["launchers"]);
}
