//! The binary as a container runs it: a child process, mounted files, signals.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kwsk_model::activation::Outcome;
use kwsk_shim::{REPORT_MEDIA_TYPE, Report};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{developer_error, fixture, is_alive, logs, ok, result, until};

mod attached;
mod fetched;
mod lifecycle;

const PATIENCE: Duration = Duration::from_secs(20);

/// A shim that was started, with what it says on stderr.
pub(crate) struct Container {
    child: Child,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
    _reading: JoinSet<()>,
}

fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let (_, path) = std::env::vars().find(|(key, _)| key == "PATH").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kwsk-shim"));
    command.args(arguments).env_clear().env("PATH", path).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Container {
    /// `how` is the command and its options without the address.
    pub(crate) async fn start(how: &[&str], environment: &[(&str, &str)]) -> Self {
        let arguments = [&how[..1], &["--listen", "127.0.0.1:0"], &how[1..]].concat();
        let mut child = command(&arguments, environment).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = Arc::new(Mutex::new(Vec::new()));
        let saying = Arc::clone(&said);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                saying.lock().unwrap().push(line);
            }
        });
        let first = timeout(PATIENCE, stdout.next_line()).await.unwrap().unwrap();
        let first = first.unwrap_or_else(|| panic!("it ended at once: {:?}", said.lock().unwrap()));
        let address = first.strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { child, address, said, _reading: reading }
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    pub(crate) async fn run(&self, arguments: Value) -> Report {
        self.try_run(&arguments).await.unwrap()
    }

    async fn try_run(&self, arguments: &Value) -> io::Result<Report> {
        let (_, body) = ask(self.address, "POST / ", &arguments.to_string()).await?;
        Ok(serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    /// What a run that is not begun is answered with.
    async fn refused(&self, arguments: Value) -> String {
        let (status, body) = ask(self.address, "POST / ", &arguments.to_string()).await.unwrap();
        assert_eq!(status, 503, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }

    async fn is_ready(&self) -> bool {
        ask(self.address, "GET /kwsk/ready ", "").await.is_ok_and(|(status, _)| status == 200)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn ended(&mut self) -> i32 {
        timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap().code().unwrap()
    }

    /// Ends it as Kubernetes does.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().await, 0, "{:?}", self.said());
        self.said()
    }
}

/// One request on its own connection: status and body.
async fn ask(address: SocketAddr, line: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{line}HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: {REPORT_MEDIA_TYPE}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("no answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What kwsk mounts for `code`.
fn description(code: &str) -> Value {
    json!({"action":"guest/pack/hello","kind":"test:1","binary":false,
        "code":{"sha256":sha256(code),"bytes":code.len()},
        "limits":{"timeout":20_000,"memory":256,"logs":10,"concurrency":1}})
}

fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn mounted(code: &str) -> tempfile::TempDir {
    mount(&[("runtime", &description(code).to_string()), ("code", code)])
}

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}

/// An HTTP runtime whose processes are each in the next of the `moods`; `file` counts them.
fn moody(moods: &str, file: &Path, port: &str) -> Vec<String> {
    ["node", &fixture("moody.js"), port, path(file), moods].map(str::to_owned).into()
}

/// The text of a platform error.
fn whisk_error(report: &Report) -> String {
    assert_eq!(report.response.outcome, Outcome::WhiskError, "{report:?}");
    result(report)["error"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn entrypoints_of_images() {
    let node = "console.log('begin'); function main(a) { console.log('out'); return {a, env: process.env, cwd: process.cwd()} }";
    let python = "import os\nprint('begin', flush=True)\ndef main(a):\n    print('out', flush=True)\n    return {'a': a, 'env': dict(os.environ), 'cwd': os.getcwd()}";
    let parameters = json!([{"key":"p","value":1},{"key":"E","value":{"x":1},"init":true}]).to_string();
    for (program, file, code) in [("node", "http_server.js", node), ("python3", "http_server.py", python)] {
        let described = description(code).to_string();
        let files = [
            ("runtime", described.as_str()),
            ("code", code),
            ("parameters", &parameters),
            ("api-key", "u:k\n"),
        ];
        let (mount, tmp, port) = (mount(&files), tempfile::tempdir().unwrap(), free_port().to_string());
        let script = fixture(file);
        let own = ["exec", "--action", path(mount.path()), "--port", &port, "--", program, &script, &port];
        let environment = [
            ("PORT", "1"),
            ("K_SERVICE", "s"),
            ("K_REVISION", "r"),
            ("K_CONFIGURATION", "c"),
            ("KWSK_X", "x"),
            ("OWN", "yes"),
            ("__OW_API_HOST", "http://api"),
            ("TMPDIR", path(tmp.path())),
        ];
        let container = Container::start(&own, &environment).await;
        let report = container.run(json!({"n":1})).await;
        let got = ok(&report);
        let env = &got["env"];
        assert_eq!(got["a"], json!({"n":1,"p":1}));
        assert_eq!(got["cwd"], json!(std::env::current_dir().unwrap()));
        for (key, value) in [
            ("OWN", json!("yes")),
            ("__OW_API_HOST", json!("http://api")),
            ("__OW_API_KEY", json!("u:k")),
            ("__OW_ACTION_NAME", json!("/guest/pack/hello")),
            ("E", json!("{\"x\":1}")),
            ("PORT", Value::Null),
            ("K_SERVICE", Value::Null),
            ("K_REVISION", Value::Null),
            ("K_CONFIGURATION", Value::Null),
            ("KWSK_X", Value::Null),
            ("__OW_ALLOW_CONCURRENT", Value::Null),
        ] {
            assert_eq!(env[key], value, "{key}");
        }
        assert_eq!(logs(&report), ["stdout: begin", "stdout: out"]);
        assert!(report.init_ms.is_some());
        let second = container.run(json!({})).await;
        assert_eq!((second.init_ms, logs(&second)), (None, vec!["stdout: out"]));
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "nothing is written for an image");
        assert_eq!(container.stop().await, [] as [&str; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_launchers_and_programs() {
    let node = "function main(a) { return {a, own: process.env.OWN, k: process.env.K_SERVICE, home: process.env.HOME} }";
    let python = "import os\ndef main(a): return {'a': a, 'own': os.environ['OWN'], 'k': os.environ.get('K_SERVICE'), 'home': os.environ['HOME']}";
    let program = "#!/bin/sh\necho \"{\\\"a\\\":$1,\\\"own\\\":\\\"$OWN\\\",\\\"home\\\":\\\"$HOME\\\",\\\"k\\\":null$K_SERVICE}\"";
    let answering = "#!/bin/sh\nwhile read -r line; do echo \"{\\\"a\\\":{\\\"n\\\":1},\\\"own\\\":\\\"$OWN\\\",\\\"home\\\":\\\"$HOME\\\",\\\"k\\\":null$K_SERVICE}\" >&3; done";
    for (code, argv) in [
        (node, &["node", "{launcher:node}"][..]),
        (python, &["python3", "{launcher:python}"]),
        (program, &["{native}"]),
        (answering, &["{code}/exec"]),
    ] {
        let (mount, tmp) = (mounted(code), tempfile::tempdir().unwrap());
        let how = [
            &["exec", "--action", path(mount.path()), "--protocol", "actionloop", "--concurrent", "--"],
            argv,
        ];
        let environment =
            [("OWN", "yes"), ("HOME", "/root"), ("K_SERVICE", "s"), ("TMPDIR", path(tmp.path()))];
        let container = Container::start(&how.concat(), &environment).await;
        for first in [true, false] {
            let report = container.run(json!({"n":1})).await;
            let got = ok(&report);
            assert_eq!((&got["a"], &got["own"]), (&json!({"n":1}), &json!("yes")), "{argv:?}");
            assert!(
                got["k"].is_null() && got["home"].as_str().unwrap().starts_with(path(tmp.path())),
                "{got}"
            );
            assert_eq!(report.init_ms.is_some(), first);
        }
        container.stop().await;
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "{argv:?} leaves something behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_runs_at_a_time() {
    let code = "let n = 0, go; const all = new Promise(r => go = r); function main(a) { if (++n === 3) go(); return all.then(() => ({n, may: process.env.__OW_ALLOW_CONCURRENT})) }";
    let mount = mounted(code);
    let (port, script) = (free_port().to_string(), fixture("http_server.js"));
    let http = ["--port", &port, "--logs", "0", "--", "node", &script, &port];
    let launcher = ["--protocol", "actionloop", "--", "node", "{launcher:node}"];
    for how in [&http[..], &launcher] {
        let common = ["exec", "--action", path(mount.path()), "--concurrent", "--concurrency", "3"];
        let container = Container::start(&[&common, how].concat(), &[]).await;
        let (a, b, c) =
            tokio::join!(container.run(json!({})), container.run(json!({})), container.run(json!({})));
        assert_eq!(ok(&a)["n"], json!(3));
        assert_eq!(ok(&b)["n"], ok(&c)["n"]);
        assert_eq!([&a, &b, &c].iter().filter(|report| report.init_ms.is_some()).count(), 1);
        container.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_win_over_the_mount() {
    let mount = mounted("function main() { return {never: 1} }");
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&other, "function go() { return {name: process.env.__OW_ACTION_NAME} }").unwrap();
    let how = [
        "exec",
        "--action",
        path(mount.path()),
        "--code",
        path(other.path()),
        "--main",
        "go",
        "--name",
        "/a/b",
        "--protocol",
        "actionloop",
        "--",
        "node",
        "{launcher:node}",
    ];
    let container = Container::start(&how, &[]).await;
    assert_eq!(ok(&container.run(json!({})).await), json!({"name":"/a/b"}));
    container.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_that_cannot_be_used() {
    let code = "function main() { return {} }";
    let (whole, other) = (description(code).to_string(), description("other").to_string());
    let no_digest =
        json!({"action":"guest/a","kind":"k","binary":false,"code":{"bytes":3},"limits":{}}).to_string();
    for (files, part) in [
        (vec![("runtime", "{\"action\":"), ("code", code)], "runtime is no description of an action (EOF"),
        (vec![("runtime", ""), ("code", code)], "runtime is no description of an action"),
        (vec![("runtime", no_digest.as_str())], "missing field `sha256`"),
        (vec![("runtime", other.as_str()), ("code", code)], "create the action anew"),
        (vec![("runtime", whole.as_str())], "since KWSK_CODE_URL is not set"),
        (
            vec![("runtime", whole.as_str()), ("code", code), ("parameters", "[1]")],
            "parameters is no list of parameters",
        ),
    ] {
        let mount = mount(&files);
        let how = node_with(&mount);
        refuses(&how, &[], part).await;
    }
    // Nobody may read a directory as a file, whoever one is.
    for name in ["runtime", "code", "parameters", "api-key"] {
        let described = [("runtime", whole.as_str())];
        let mount = mount(if name == "runtime" { &[] } else { &described });
        std::fs::create_dir(mount.path().join(name)).unwrap();
        let how = node_with(&mount);
        refuses(&how, &[], &format!("{name} cannot be read (")).await;
    }
}

/// Our Node.js launcher with what is mounted.
fn node_with(mount: &tempfile::TempDir) -> [&str; 8] {
    let action = path(mount.path());
    ["exec", "--action", action, "--protocol", "actionloop", "--", "node", "{launcher:node}"]
}

/// Each run is answered with `part`, and nothing else is wrong.
async fn refuses(how: &[&str], environment: &[(&str, &str)], part: &str) {
    let container = Container::start(how, environment).await;
    for _ in 0..2 {
        let error = whisk_error(&container.run(json!({})).await);
        assert!(error.contains(part), "{error}");
    }
    assert!(container.is_ready().await);
    let said = container.stop().await;
    assert!(
        said.iter().any(|line| line.starts_with("kwsk-shim: ERROR: ") && line.contains(part)),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_code_at_all() {
    let mount = mount(&[]);
    let how = ["exec", "--action", path(mount.path()), "--protocol", "actionloop", "--", "{native}"];
    let container = Container::start(&how, &[]).await;
    let report = container.run(json!({})).await;
    assert!(developer_error(&report).contains("failed to generate or locate a binary"));
    container.stop().await;
    let port = free_port().to_string();
    let how = ["exec", "--port", &port, "--", "no-such-program", "x"];
    let container = Container::start(&how, &[]).await;
    let report = container.run(json!({})).await;
    assert_eq!(developer_error(&report), "exec: \"no-such-program\": executable file not found in $PATH");
    container.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    for (arguments, environment, part) in [
        (&["exec"][..], &[][..], "no command for the runtime is given"),
        (&["exec", "--port", "x", "--", "node"], &[], "--port: 'x' is no whole number"),
        (&["exec", "--frobnicate", "--", "node"], &[], "'--frobnicate'"),
        (&["exec", "--", "node"], &[("PORT", "8080")], "cannot both have port 8080"),
        (&["exec", "--", "node"], &[("PORT", "many")], "PORT is 'many', which is no port"),
        (&["exec", "--listen", &address, "--", "node"], &[], "cannot be listened on: Address already in use"),
        (&["exec", "--", "node"], &[("KWSK_LOG", "loud")], "KWSK_LOG is 'loud'"),
        (
            &[
                "exec",
                "--listen",
                "127.0.0.1:0",
                "--work",
                "/proc",
                "--protocol",
                "actionloop",
                "--",
                "{native}",
            ],
            &[],
            "--work: No directory can be written: /proc (",
        ),
        (&["attach", "--runtime", "nowhere"], &[], "--runtime: 'nowhere' is no address and port"),
        (&["attach"], &[("PORT", "8080")], "would ask itself"),
        (&["attach", "--", "node"], &[], "unexpected argument"),
        (&["install"], &[], "no directory is given"),
        (&["install", path(file.path())], &[], "cannot be written"),
        (&["frobnicate"], &[], "there is no command 'frobnicate'"),
    ] {
        let output = timeout(PATIENCE, command(arguments, environment).output()).await.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with("kwsk-shim: ") && said.contains(part), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_install() {
    for how in [&["exec", "--help"][..], &["attach", "-h"], &["install", "--help"], &["--help"]] {
        let output = command(how, &[]).output().await.unwrap();
        assert!(
            output.status.success() && String::from_utf8(output.stdout).unwrap().contains("Usage: kwsk-shim")
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    for _ in 0..2 {
        assert!(command(&["install", path(&bin)], &[]).status().await.unwrap().success());
    }
    let output = Command::new(bin.join("shim")).arg("--version").output().await.unwrap();
    assert!(output.status.success());
    assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 1);
}
