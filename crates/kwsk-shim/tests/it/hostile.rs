//! Runtimes that break HTTP, processes or the peace, and what becomes of their activations.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kwsk_model::activation::Outcome;
use kwsk_shim::{ActionSpec, Report, Runtime, Shim};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;

use crate::fake::{self, Asked, Fake, hang, marks};
use crate::harness::{Pad, free_port, is_alive, logs, ok, result, run, runtime, source, until};

/// What the connection is still good for.
#[derive(PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Close,
}

/// Answers a request with the runtime's manner.
pub(crate) fn answer(fake: &Fake, asked: &Asked, mut stream: &TcpStream) -> Then {
    let run = asked.path == "/run";
    // Whoever asked may be gone.
    let mut send = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    match fake.manner.as_str() {
        "init-hangs" | "init-dies" | "init-137" if !run => end(fake),
        "run-hangs" | "run-dies" | "run-137" | "run-killed" if run => end(fake),
        "half" if run => {
            send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"half\":");
            return Then::Close;
        }
        "long-length" if run => {
            send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}");
            hang();
        }
        "short-length" if run => {
            send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"short\":true}");
            return Then::GoOn;
        }
        "drips" if run => {
            send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            drip(&mut send, " ");
        }
        "drips-headers" if run => drip(&mut send, "HTTP/1.1 200 OK\r\n"),
        "drips-init" if !run => drip(&mut send, "HTTP/1.1 200 OK\r\n"),
        "chunked" if run => {
            send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"chu\r\n7\r\nnks\":2}\r\n0\r\n\r\n",
            );
        }
        "bad-chunks" if run => {
            send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{}\r\n");
            return Then::Close;
        }
        "hints" if run => {
            send(
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            );
        }
        "switches" if run => {
            send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n{}");
        }
        "204" if run => {
            send("HTTP/1.1 204 No Content\r\n\r\n");
        }
        "302" if run => {
            send("HTTP/1.1 302 Found\r\nLocation: /run\r\nContent-Length: 0\r\n\r\n");
        }
        "empty" if run => {
            send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        "huge-headers" if run => {
            send(&format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\n{{}}",
                "x".repeat(2_000_000)
            ));
        }
        "many-headers" if run => {
            send(&format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\n{{}}", "X: x\r\n".repeat(1000)));
        }
        "garbage" if run => {
            send("SSH-2.0-OpenSSH_9.9\r\n");
        }
        "init-garbage" if !run => {
            send("SSH-2.0-OpenSSH_9.9\r\n");
        }
        "smuggles-late" if run => {
            send(&reply(200, &fake.result(asked).1));
            fake.sentinels();
            // The first answer is read by now, and nobody expects another.
            std::thread::sleep(Duration::from_millis(20));
            send(&reply(200, &json!({"smuggled": true})));
            fake.note("smuggled");
            return Then::GoOn;
        }
        "smuggles" if run => {
            let good = reply(200, &fake.result(asked).1);
            send(&format!("{good}{}", reply(200, &json!({"smuggled": true}))));
        }
        _ => return ordinarily(fake, asked, stream),
    }
    if run {
        fake.sentinels();
    }
    Then::GoOn
}

/// Good HTTP, whatever else it does.
fn ordinarily(fake: &Fake, asked: &Asked, mut stream: &TcpStream) -> Then {
    let run = asked.path == "/run";
    let mut send = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    match fake.manner.as_str() {
        "floods" if run => {
            let line = format!("{}\n", "x".repeat(9_999));
            for _ in 0..10_000 {
                fake.out(&line);
            }
        }
        "daemon-dies" | "daemon" if run => {
            let command = "setsid sleep 300 >&5 2>&6 & echo daemon $!";
            let daemon = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
            fake.note(String::from_utf8(daemon.stdout).unwrap().trim());
            if fake.is("daemon-dies") {
                std::process::exit(0);
            }
        }
        "forges" if run => {
            let text = String::from_utf8_lossy(&asked.body);
            let name = if text.contains("\"first\"") { "first" } else { "second" };
            for end in ["before", "after"] {
                fake.out(&format!("{name} {end}\n"));
                fake.err(&format!("{name} {end}\n"));
                if end == "before" {
                    fake.sentinels();
                }
            }
        }
        _ => {}
    }
    let (mut status, mut result) = fake.result(asked);
    if fake.is("leaves") && run && fake.runs() > 1 {
        (status, result) = (503, json!({"error": "shutting down"}));
    }
    send(&reply(status, &result));
    if run {
        if fake.is("forges") {
            // The true ones come when the run is long over.
            std::thread::sleep(Duration::from_millis(20));
        }
        fake.sentinels();
    }
    if fake.is("closes") && run { Then::Close } else { Then::GoOn }
}

fn reply(status: u16, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn end(fake: &Fake) -> ! {
    match fake.manner.split_once('-').map_or("", |(_, how)| how) {
        "hangs" => hang(),
        "137" => std::process::exit(137),
        "killed" => {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
            hang()
        }
        _ => std::process::exit(1),
    }
}

fn drip(send: &mut impl FnMut(&str) -> bool, text: &str) -> ! {
    for byte in text.split("").cycle().filter(|byte| !byte.is_empty()) {
        if !send(byte) {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    hang()
}

/// Kills what a test started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// How the shim comes to the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Exec,
    Attach,
}

/// A shim on a runtime with a manner.
struct Pair {
    shim: Shim,
    mark: PathBuf,
    pad: Pad,
    runtime: Option<Running>,
}

impl Pair {
    async fn new(manner: &str, mode: Mode, change: impl FnOnce(&mut ActionSpec)) -> Self {
        let pad = Pad::new().await;
        let mark = pad.root.path().join("mark");
        let argv = fake::command(manner, &mark);
        let mut spec = source("echo");
        change(&mut spec);
        let (runtime, process) = match mode {
            Mode::Exec => (runtime(json!({"protocol": "http", "argv": argv, "concurrent": true})), None),
            Mode::Attach => {
                let port = free_port();
                let argv: Vec<String> =
                    argv.iter().map(|arg| arg.replace("{port}", &port.to_string())).collect();
                let mut command = std::process::Command::new(&argv[0]);
                command.args(&argv[1..]).stdout(Stdio::null()).stderr(Stdio::null());
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                let process = Running(command.spawn().unwrap());
                (Arc::new(Runtime::attached("test:1", address, true)), Some(process))
            }
        };
        Self { shim: pad.shim(&runtime, spec), mark, pad, runtime: process }
    }

    /// Ends everything; a runtime of someone else's first, since it writes its marks to the end.
    async fn close(self) {
        self.shim.stop().await;
        drop(self.runtime);
        self.pad.close().await;
    }

    fn marks(&self, what: &str) -> usize {
        marks(&self.mark, what)
    }
}

const LIMIT: u64 = 2000;
const INIT_LATE: &str = "The action exceeded its time limits of 2000 milliseconds during initialization.";
const INIT_DIED: &str = "The action did not initialize and exited unexpectedly.";
const LATE: &str = "The action exceeded its time limits of 2000 milliseconds.";
const DIED: &str = "The action did not produce a valid response and exited unexpectedly.";
const INVALID: &str = "The action did not produce a valid JSON or JSON Array response";

/// The manner, and the developer error that the activation ends with; `""` for success.
const MANNERS: &[(&str, &str)] = &[
    ("deaf", INIT_LATE),
    ("init-hangs", INIT_LATE),
    ("drips-init", INIT_LATE),
    ("init-dies", INIT_DIED),
    ("init-137", INIT_DIED),
    ("init-garbage", INIT_DIED),
    ("run-hangs", LATE),
    ("drips", LATE),
    ("drips-headers", LATE),
    ("long-length", LATE),
    ("run-dies", DIED),
    ("run-137", DIED),
    ("run-killed", DIED),
    ("half", DIED),
    ("bad-chunks", DIED),
    ("huge-headers", DIED),
    ("many-headers", DIED),
    ("garbage", DIED),
    ("daemon-dies", DIED),
    ("switches", "."),
    ("204", "."),
    ("302", "."),
    ("empty", "."),
    ("short-length", ": {\"sho"),
    ("chunked", ""),
    ("hints", ""),
    ("smuggles", ""),
    ("closes", ""),
    ("daemon", ""),
    ("forges", ""),
    ("ignores-term", ""),
];

/// One activation with an outcome as the table has it, and what must be true of every manner.
async fn one(manner: &'static str, mode: Mode, text: &'static str) {
    let pair = Pair::new(manner, mode, |spec| spec.timeout_ms = LIMIT).await;
    let began = Instant::now();
    let report = run(&pair.shim, json!({"n": 1})).await;
    let what = format!("{manner}, {mode:?}: {report:?}");
    let late = text == LATE || text == INIT_LATE;
    assert_eq!(report.timed_out, late, "{what}");
    assert!(began.elapsed() < Duration::from_millis(LIMIT * 2 + 5000), "{what}");
    if text.is_empty() {
        assert_eq!(report.response.outcome, Outcome::Success, "{what}");
        assert!(pair.shim.is_warm(), "{what}");
    } else {
        let whole = if text.starts_with(['.', ':']) { format!("{INVALID}{text}") } else { text.to_owned() };
        assert_eq!(report.response.outcome, Outcome::DeveloperError, "{what}");
        assert_eq!(result(&report), json!({ "error": whole }), "{what}");
        assert!(!pair.shim.is_warm(), "{what}");
    }
    assert_eq!(pair.marks("run"), usize::from(![INIT_LATE, INIT_DIED].contains(&text)), "{what}");
    assert!(pair.marks("init") <= 1, "{what}");
    if mode == Mode::Exec && !text.is_empty() && !late {
        // Never again in that process.
        run(&pair.shim, json!({"n": 2})).await;
        assert_eq!(pair.marks("init"), 2, "{what}");
    }
    let daemons = std::fs::read_to_string(&pair.mark).unwrap_or_default();
    for pid in daemons.lines().filter_map(|line| line.strip_prefix("daemon ")) {
        end_daemon(pid.parse().unwrap());
    }
    pair.close().await;
}

fn end_daemon(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    // It may have been one of the group that was killed.
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
}

async fn all(mode: Mode) {
    let mut running = JoinSet::new();
    let mut waiting = MANNERS.iter();
    let mut wrong = Vec::new();
    loop {
        while running.len() < 8
            && let Some((manner, text)) = waiting.next()
        {
            running.spawn(one(manner, mode, text));
        }
        match running.join_next().await {
            Some(Ok(())) => {}
            Some(Err(panic)) => wrong.push(panic.to_string()),
            None => break,
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn started_ones() {
    all(Mode::Exec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_ones() {
    all(Mode::Attach).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_lose_no_run_and_repeat_none() {
    for mode in [Mode::Exec, Mode::Attach] {
        let pair = Pair::new("closes", mode, |spec| spec.timeout_ms = 5000).await;
        for n in 0..30 {
            let report = run(&pair.shim, json!({ "n": n })).await;
            // Each run came with a connection that the runtime closed without a word.
            assert_eq!(ok(&report), json!({ "n": n }), "{mode:?}, run {n}");
            until("the end of the connection", || pair.marks("closed") > n).await;
        }
        assert_eq!((pair.marks("run"), pair.marks("init")), (30, 1), "{mode:?}");
        pair.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_connections_repeat_no_run() {
    for mode in [Mode::Exec, Mode::Attach] {
        let pair = Pair::new("closes", mode, |spec| spec.timeout_ms = 5000).await;
        let mut asked = 0;
        for n in 0..100 {
            // The next request may cross the end of its connection: then nobody knows whether it was read.
            let report = run(&pair.shim, json!({ "n": n })).await;
            asked += 1;
            match report.response.outcome {
                Outcome::Success => assert_eq!(result(&report), json!({ "n": n })),
                _ => assert_eq!(result(&report), json!({ "error": DIED })),
            }
            assert!(pair.marks("run") <= asked, "{mode:?}");
            if mode == Mode::Attach && report.response.outcome != Outcome::Success {
                break;
            }
        }
        pair.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_shuts_down_takes_no_run_with_it() {
    for mode in [Mode::Exec, Mode::Attach] {
        let pair = Pair::new("leaves", mode, |_| ()).await;
        assert_eq!(ok(&run(&pair.shim, json!({"n": 1})).await), json!({"n": 1}));
        // Answered 503: it was not run, and may be run by another.
        let report = run(&pair.shim, json!({"n": 2})).await;
        match mode {
            Mode::Exec => {
                assert_eq!(ok(&report), json!({"n": 2}));
                assert_eq!((pair.marks("run"), pair.marks("init")), (3, 2));
            }
            // Nobody here can start another: the platform's fault, not the action's.
            Mode::Attach => assert_eq!(report.response.outcome, Outcome::WhiskError, "{report:?}"),
        }
        pair.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smuggled_answer_is_nobodys() {
    for (manner, mode) in [
        ("smuggles", Mode::Exec),
        ("smuggles", Mode::Attach),
        ("smuggles-late", Mode::Exec),
        ("smuggles-late", Mode::Attach),
    ] {
        let pair = Pair::new(manner, mode, |_| ()).await;
        for n in 0..10 {
            let report = run(&pair.shim, json!({ "n": n })).await;
            assert_eq!(ok(&report), json!({ "n": n }), "{manner}, {mode:?}");
            until("the smuggled answer", || manner == "smuggles" || pair.marks("smuggled") > n).await;
        }
        assert_eq!(pair.marks("run"), 10, "{manner}, {mode:?}");
        pair.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_sentinel_mixes_no_logs() {
    let pair = Pair::new("forges", Mode::Exec, |_| ()).await;
    for name in ["first", "second", "second"] {
        let report = run(&pair.shim, json!({"name": name})).await;
        assert_eq!(ok(&report), json!({"name": name}));
        let mut lines = logs(&report);
        lines.sort_unstable();
        let wanted = ["stderr: ", "stdout: "]
            .map(|stream| ["after", "before"].map(|end| format!("{stream}{name} {end}")));
        assert_eq!(lines, wanted.concat());
    }
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ignores_sigterm_ends_all_the_same() {
    let pair = Pair::new("ignores-term", Mode::Exec, |_| ()).await;
    ok(&run(&pair.shim, json!({})).await);
    let pid = pair.shim.pid().unwrap();
    let term = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(term, rustix::process::Signal::TERM).unwrap();
    ok(&run(&pair.shim, json!({})).await);
    assert_eq!(pair.shim.pid(), Some(pid), "it does not ignore it");
    let began = Instant::now();
    pair.shim.stop().await;
    assert!(!is_alive(pid.into()) && began.elapsed() < Duration::from_secs(5));
    pair.close().await;
}

const FLOODED: &str = "KWSK_TEST_FLOODED";

/// Not a test of its own: the shim whose memory the next one looks at. It runs only with this in its environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_shim_to_be_flooded() {
    if !std::env::vars().any(|(key, _)| key == FLOODED) {
        return;
    }
    let pair = Pair::new("floods", Mode::Exec, |spec| {
        spec.timeout_ms = 60_000;
        spec.logs_bytes = 1_000_000;
    });
    let pair = pair.await;
    pair.shim.warm_up().await;
    let before = peak_kilobytes();
    let report = run(&pair.shim, json!({})).await;
    ok(&report);
    assert_eq!(report.logs.len(), 101, "a hundred lines fit");
    println!("{FLOODED} {} {}", peak_kilobytes() - before, report.logs[100]);
    assert!(!pair.shim.is_warm(), "its logs are incomplete");
    pair.close().await;
}

fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_logs_take_no_memory() {
    let mut shim = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::a_shim_to_be_flooded", "--nocapture"])
        .env(FLOODED, "yes")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(shim.stdout.take().unwrap()).lines();
    let line = loop {
        let line = lines.next_line().await.unwrap().expect("the shim says nothing");
        // The harness writes its own text before ours, without a newline.
        if let Some(at) = line.find(FLOODED) {
            break line[at..].to_owned();
        }
    };
    assert!(shim.wait().await.unwrap().success());
    let grown: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(grown < 32 * 1024, "{grown} KiB more");
    let remark =
        "stderr: Logs were truncated because the total bytes size exceeds the limit of 1000000 bytes.";
    assert!(line.ends_with(remark), "{line}");
}

/// As many calls at once as there are, of one shim.
async fn at_once(shim: &Shim, calls: usize, arguments: impl Fn(usize) -> Value) -> Vec<Report> {
    let mut running = JoinSet::new();
    for n in 0..calls {
        let (shim, arguments) = (shim.clone(), arguments(n));
        running.spawn(async move { (n, run(&shim, arguments).await) });
    }
    let mut reports = running.join_all().await;
    reports.sort_by_key(|(n, _)| *n);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn action(word: &str, concurrency: u32) -> impl FnOnce(&mut ActionSpec) {
    let code = Some(kwsk_shim::CodeSource::Inline(word.into()));
    move |spec| {
        spec.code = code;
        spec.concurrency = concurrency;
        spec.timeout_ms = 60_000;
        spec.logs_bytes = 0;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_concurrency_1_runs_are_alone() {
    for mode in [Mode::Exec, Mode::Attach] {
        let pair = Pair::new("good", mode, action("inside", 1)).await;
        for report in at_once(&pair.shim, 40, |_| json!({})).await {
            assert_eq!(ok(&report), json!({"inside": 1}), "{mode:?}");
        }
        assert_eq!((pair.marks("run"), pair.marks("init")), (40, 1), "{mode:?}");
        pair.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_concurrency_100_all_are_in_flight() {
    for mode in [Mode::Exec, Mode::Attach] {
        let pair = Pair::new("good", mode, action("together", 100)).await;
        for _ in 0..2 {
            for report in at_once(&pair.shim, 100, |_| json!({"together": 100})).await {
                assert_eq!(ok(&report), json!({"together": 100}), "{mode:?}");
            }
        }
        assert_eq!((pair.marks("run"), pair.marks("init")), (200, 1), "{mode:?}");
        pair.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_first_calls() {
    for (mode, instances, concurrency) in [(Mode::Exec, 1, 100), (Mode::Attach, 1, 100), (Mode::Exec, 4, 1)] {
        let mut pairs = Vec::new();
        for _ in 0..instances {
            pairs.push(Pair::new("good", mode, action("echo", concurrency)).await);
        }
        let calls = 1000 / instances;
        let mut running = JoinSet::new();
        for pair in &pairs {
            let shim = pair.shim.clone();
            running.spawn(async move { at_once(&shim, calls, |n| json!({ "n": n })).await });
        }
        for reports in running.join_all().await {
            assert_eq!(reports.len(), calls);
            for (n, report) in reports.iter().enumerate() {
                assert_eq!(ok(report), json!({ "n": n }), "{mode:?}");
            }
            assert_eq!(reports.iter().filter(|report| report.init_ms.is_some()).count(), 1, "{mode:?}");
        }
        for pair in pairs {
            assert_eq!((pair.marks("run"), pair.marks("init")), (calls, 1), "{mode:?}");
            pair.close().await;
        }
    }
}

#[test]
fn marks_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mark: &Path = &directory.path().join("mark");
    assert_eq!(marks(mark, "run"), 0);
    std::fs::write(mark, "init\nrun\nrun\nclosed\n").unwrap();
    assert_eq!(marks(mark, "run"), 2);
}
