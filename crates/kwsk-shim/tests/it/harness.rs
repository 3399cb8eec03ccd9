//! A launchpad in a temporary directory, and shims on it.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use kwsk_model::activation::Outcome;
use kwsk_model::json::RawJson;
use kwsk_shim::{ActionSpec, CodeSource, Launchpad, Report, Run, Runtime, Sandbox, Shim};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zip::write::SimpleFileOptions;

/// Owns everything a test starts.
pub(crate) struct Pad {
    pub(crate) pad: Launchpad,
    pub(crate) root: tempfile::TempDir,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Pad {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// In a sandbox that `change` has been at.
    pub(crate) async fn with(change: impl FnOnce(&mut Sandbox)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut sandbox = Sandbox::new(root.path().join("work"));
        let (_, path) = std::env::vars().find(|(key, _)| key == "PATH").unwrap();
        sandbox.path = path;
        sandbox.api_host = Some("http://api:1".into());
        change(&mut sandbox);
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let pad = Launchpad::new(sandbox, tracker.clone(), stop.clone()).await.unwrap();
        Self { pad, root, tracker, stop }
    }

    pub(crate) fn shim(&self, runtime: &Arc<Runtime>, spec: ActionSpec) -> Shim {
        Shim::new(Arc::new(spec), Arc::clone(runtime), self.pad.clone())
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// Ends everything and checks that nothing is left.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(Duration::from_secs(10), self.tracker.wait())
            .await
            .expect("a task does not end");
        let left: Vec<_> = std::fs::read_dir(self.work()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["launchers"]);
    }
}

pub(crate) fn runtime(command: Value) -> Arc<Runtime> {
    Arc::new(Runtime::new("test:1", serde_json::from_value(command).unwrap()))
}

pub(crate) fn node() -> Arc<Runtime> {
    runtime(
        json!({"protocol":"actionloop","argv":["node","{launcher:node}"],"prewarm":true,"concurrent":true}),
    )
}

pub(crate) fn python() -> Arc<Runtime> {
    runtime(
        json!({"protocol":"actionloop","argv":["python3","{launcher:python}"],"prewarm":true,"concurrent":true}),
    )
}

pub(crate) fn native() -> Arc<Runtime> {
    runtime(json!({"protocol":"actionloop","argv":["{native}"]}))
}

pub(crate) fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtimes").join(name).to_string_lossy().into_owned()
}

pub(crate) fn node_http(manners: &str) -> Arc<Runtime> {
    let prewarm = manners.is_empty();
    runtime(
        json!({"protocol":"http","argv":["node",fixture("http_server.js"),"{port}",manners],"prewarm":prewarm,"concurrent":true}),
    )
}

pub(crate) fn python_http() -> Arc<Runtime> {
    runtime(json!({"protocol":"http","argv":["python3",fixture("http_server.py"),"{port}"]}))
}

pub(crate) fn foreign_loop(first_lines: &[&str]) -> Arc<Runtime> {
    let mut argv = vec!["python3".to_owned(), fixture("loop.py")];
    argv.extend(first_lines.iter().map(|&l| l.to_owned()));
    let mut env = json!({"GIVEN":"yes"});
    if !first_lines.is_empty() {
        env["OW_WAIT_FOR_ACK"] = json!("1");
    }
    runtime(json!({"protocol":"actionloop","argv":argv,"env":env}))
}

pub(crate) fn command(argv: &[&str]) -> Arc<Runtime> {
    runtime(json!({"protocol":"actionloop","argv":argv}))
}

pub(crate) fn source(code: &str) -> ActionSpec {
    let mut spec = ActionSpec::new("act", "test:1", Some(CodeSource::Inline(code.into())));
    spec.timeout_ms = 20_000;
    spec
}

pub(crate) fn archive(files: &[(&str, &str)]) -> ActionSpec {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    binary(&writer.finish().unwrap().into_inner())
}

pub(crate) fn binary(bytes: &[u8]) -> ActionSpec {
    let mut spec = source(&base64::engine::general_purpose::STANDARD.encode(bytes));
    spec.binary = true;
    spec
}

/// A port on which nobody listens and that no other test is told: not one of those that the system hands out, since
/// another may have it before the runtime does, nor one of the shim's own.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    let candidates = (0..10_000).map(|_| start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let mut ports = candidates.map(|number| 10_000 + number as u16);
    // Nothing listens meanwhile: children that are just being started inherit the socket for a moment.
    let is_free = |port: &u16| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], *port).into()).is_ok()
    };
    ports.find(is_free).unwrap()
}

static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) fn a_run(arguments: Value) -> Run {
    let mut context = ActionSpec::new("act", "test:1", None).identity;
    context.activation_id = format!("{:032x}", NEXT.fetch_add(1, Ordering::Relaxed));
    context.namespace = "guest".into();
    context.deadline = "1".into();
    context.transaction_id = "tid".into();
    Run { context, arguments: RawJson::from(arguments) }
}

pub(crate) async fn run(shim: &Shim, arguments: Value) -> Report {
    shim.run(a_run(arguments)).await
}

pub(crate) fn result(report: &Report) -> Value {
    report.response.result.as_ref().map_or(Value::Null, RawJson::to_value)
}

pub(crate) fn ok(report: &Report) -> Value {
    assert_eq!(report.response.outcome, Outcome::Success, "{report:?}");
    result(report)
}

/// The text of a developer error, having checked that it is one.
pub(crate) fn developer_error(report: &Report) -> String {
    assert_eq!(report.response.outcome, Outcome::DeveloperError, "{report:?}");
    if !report.logs.is_empty() {
        let last = "stderr: The action did not initialize or run as expected. Log data might be missing.";
        assert!(report.logs.last().unwrap().ends_with(last), "{report:?}");
    }
    result(report)["error"].as_str().unwrap_or_else(|| panic!("{report:?}")).to_owned()
}

/// `stdout: text` and so on, without the time.
pub(crate) fn logs(report: &Report) -> Vec<&str> {
    report.logs.iter().map(|line| &line[31..]).collect()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// True for a process that is more than a zombie.
pub(crate) fn is_alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}
