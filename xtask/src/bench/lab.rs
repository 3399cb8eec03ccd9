//! What the rows measure with: the release binaries, a scratch directory, a runtime for the clients.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::http::{Client, Request, storm, wait_listening};
use crate::process::Process;
use crate::workspace::variable;

/// The well-known key of OpenWhisk's guest.
const GUEST: &str =
    "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";
const PATIENCE: Duration = Duration::from_secs(20);
const ACTIONS: &str = "/api/v1/namespaces/_/actions";

/// Node.js actions and runtimes used by several rows.
pub(crate) const NODE_ACTION: &str = "function main(args) { return { greeting: 'hello ' + args.name }; }";
pub(crate) const PYTHON_ACTION: &str = "def main(args):\n    return {'greeting': 'hello ' + args['name']}\n";
/// A Node.js runtime of OpenWhisk's HTTP contract.
pub(crate) const HTTP_JS: &str = include_str!("runtimes/node.js");
pub(crate) const ARGUMENTS: &str = r#"{"name":"stranger","n":1}"#;

/// The place where everything is measured.
pub(crate) struct Lab {
    runtime: Runtime,
    binaries: PathBuf,
    shim: PathBuf,
    scratch: TempDir,
    quick: bool,
}

/// A process that listens.
pub(crate) struct Listening {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Lab {
    pub(crate) fn new(target: &Path, shim: &Path, quick: bool) -> anyhow::Result<Self> {
        // In the target directory, because the system's temporary one may be memory, which makes fdatasync free.
        let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(target)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (binaries, shim) = (target.canonicalize()?.join("release"), shim.canonicalize()?);
        Ok(Self { runtime, binaries, shim, scratch, quick })
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// How often, given how often in a full run.
    pub(crate) fn rounds(&self, full: usize) -> usize {
        if self.quick { (full / 4).max(3) } else { full }
    }

    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// A new directory.
    pub(crate) fn directory(&self) -> anyhow::Result<PathBuf> {
        Ok(tempfile::Builder::new().tempdir_in(self.scratch.path())?.keep())
    }

    /// A new file.
    pub(crate) fn file(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let file = self.directory()?.join(name);
        fs::write(&file, content)?;
        Ok(file)
    }

    /// Starts something that will listen, with its output in a file.
    pub(crate) fn listen(&self, command: &mut Command, address: SocketAddr) -> anyhow::Result<Listening> {
        let log = self.directory()?.join("log");
        let process = Process::start(command, &log)?;
        let listening = self.block_on(wait_listening(address, PATIENCE));
        listening.with_context(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("{:?} does not start: {}", command.get_program(), log.trim_end())
        })?;
        Ok(Listening { process, address })
    }

    /// Starts one of the baselines of this program.
    pub(crate) fn helper(&self, name: &str, more: &[&str]) -> anyhow::Result<Listening> {
        let address = free_address()?;
        let mut command = Command::new(self.binary("xtask"));
        command.args(["bench-helper", name, "--listen", &address.to_string()]).args(more);
        self.listen(&mut command, address)
    }

    /// The binary that is in the images.
    pub(crate) fn shim_binary(&self) -> &Path {
        &self.shim
    }

    /// Starts a shim of its own for an action.
    pub(crate) fn shim(&self, runtime: &Value, action: &Path) -> anyhow::Result<Listening> {
        let address = free_address()?;
        self.listen(&mut self.shim_command(runtime, action, address)?, address)
    }

    /// The command line of a shim.
    pub(crate) fn shim_command(
        &self,
        runtime: &Value,
        action: &Path,
        address: SocketAddr,
    ) -> anyhow::Result<Command> {
        let port = free_address()?.port().to_string();
        let argv = runtime["argv"].as_array().context("a command without argv")?;
        let argv = argv.iter().filter_map(Value::as_str).map(|arg| arg.replace("{port}", &port));
        let mut command = bare_command(&self.shim.to_string_lossy());
        command.args(["exec", "--main", "main", "--listen", &address.to_string(), "--port", &port, "--code"]);
        command.arg(action).arg("--protocol").arg(runtime["protocol"].as_str().unwrap_or_default());
        if runtime["concurrent"] == true {
            command.arg("--concurrent");
        }
        command.arg("--").args(argv);
        Ok(command)
    }

    /// The server's command line, with its state in a new directory.
    pub(crate) fn server_command(&self, stem_cells: usize, address: SocketAddr) -> anyhow::Result<Command> {
        let manifest = json!({ "runtimes": {
            "nodejs": [kind("nodejs:20", &node_launcher())],
            "python": [kind("python:3.11", &python_launcher())],
            "echo": [kind("echo:1", &self.echo_loop())],
        }});
        let mut command = Command::new(self.binary("kwsk-server"));
        command.arg("--listen").arg(address.to_string());
        command.arg("--data").arg(self.directory()?.join("data"));
        command.arg("--runtimes").arg(self.file("runtimes.json", &manifest.to_string())?);
        command.arg("--stem-cells").arg(stem_cells.to_string());
        for limit in ["INVOCATIONS_PER_MINUTE", "FIRES_PER_MINUTE", "CONCURRENT_INVOCATIONS"] {
            command.env(format!("KWSK_LIMITS_{limit}"), "10000000");
        }
        Ok(command)
    }

    /// Starts a server without actions.
    pub(crate) fn server(&self, stem_cells: usize) -> anyhow::Result<Listening> {
        let address = free_address()?;
        self.listen(&mut self.server_command(stem_cells, address)?, address)
    }

    /// The command of an ActionLoop that answers what it is asked.
    pub(crate) fn echo_loop(&self) -> Value {
        let program = self.binary("xtask");
        json!({ "protocol": "actionloop", "argv": [program, "bench-helper", "actionloop-echo"] })
    }
}

/// kwsk's own launchers.
pub(crate) fn node_launcher() -> Value {
    json!({ "protocol": "actionloop", "argv": ["node", "{launcher:node}"], "prewarm": true, "concurrent": true })
}

fn python_launcher() -> Value {
    json!({ "protocol": "actionloop", "argv": ["python3", "{launcher:python}"], "prewarm": true, "concurrent": true })
}

fn kind(name: &str, command: &Value) -> Value {
    json!({ "kind": name, "default": true, "image": { "name": "bench" }, "command": command })
}

/// A runtime of a baseline, in as bare an environment as kwsk's: what Node.js reads from there may double its start.
pub(crate) fn bare_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", variable("PATH").unwrap_or_default()).env("LANG", "C.UTF-8");
    command
}

/// An address of the loopback interface that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Requests per second of a process's own CPU time. What it puts off is over before the clock is read.
pub(crate) async fn rate(
    listening: &Listening,
    connections: usize,
    count: usize,
    request: Request,
) -> anyhow::Result<f64> {
    let before = listening.process.cpu()?;
    storm(listening.address, connections, count, move |_| request.clone()).await?;
    listening.process.settle().await?;
    Ok(count as f64 / (listening.process.cpu()? - before))
}

/// A request with the guest's key.
fn as_guest(method: Method, path: String, body: String, expect: StatusCode) -> Request {
    let authorization = Some(format!("Basic {}", STANDARD.encode(GUEST)));
    Request { method, path, authorization, body: body.into(), expect }
}

/// Creates an action.
pub(crate) fn create(name: &str, kind: &str, code: &str) -> Request {
    let body = json!({ "exec": { "kind": kind, "code": code } });
    as_guest(Method::PUT, format!("{ACTIONS}/{name}"), body.to_string(), StatusCode::OK)
}

/// Deletes an action.
pub(crate) fn delete(name: &str) -> Request {
    as_guest(Method::DELETE, format!("{ACTIONS}/{name}"), String::new(), StatusCode::OK)
}

/// Invokes an action and waits for its result.
pub(crate) fn invoke(name: &str) -> Request {
    let path = format!("{ACTIONS}/{name}?blocking=true&result=true");
    as_guest(Method::POST, path, ARGUMENTS.to_owned(), StatusCode::OK)
}

/// Hands in an invocation.
pub(crate) fn enqueue(name: &str) -> Request {
    as_guest(Method::POST, format!("{ACTIONS}/{name}"), ARGUMENTS.to_owned(), StatusCode::ACCEPTED)
}

/// Sends a request once and checks that the answer contains something.
pub(crate) async fn probe(client: &mut Client, request: &Request, needle: &str) -> anyhow::Result<()> {
    let answer = client.send(request).await?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.contains(needle), "{} is answered by {answer}", request.path);
    Ok(())
}
