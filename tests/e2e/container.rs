//! One container with an action in it, spoken to from inside its network, as Knative's queue-proxy does.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::node::Node;

const ENVELOPE: &str = "application/vnd.kwsk.activation+json";
/// What the pods of the platform have on top of the action's memory.
const RESERVE_MB: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(60);
/// What containers have unless they are told otherwise.
const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// What is mounted at `/kwsk/action`.
pub(crate) struct Action {
    runtime: Value,
    code: Option<String>,
}

impl Action {
    /// An action with OpenWhisk's default limits.
    pub(crate) fn new(kind: &str, code: &str) -> Self {
        let sha256: String = Sha256::digest(code).iter().map(|byte| format!("{byte:02x}")).collect();
        let runtime = json!({
            "action": "guest/pkg/act",
            "kind": kind,
            "binary": false,
            "code": { "sha256": sha256, "bytes": code.len() },
            "limits": { "timeout": 60_000, "memory": 256, "logs": 10, "concurrency": 1 },
        });
        Self { runtime, code: Some(code.to_owned()) }
    }

    pub(crate) fn limit(mut self, name: &str, value: u64) -> Self {
        self.runtime["limits"][name] = value.into();
        self
    }

    pub(crate) fn member(mut self, name: &str, value: Value) -> Self {
        self.runtime[name] = value;
        self
    }

    /// What is mounted is not what the record says.
    pub(crate) fn with_other_code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    fn memory_mb(&self) -> u64 {
        self.runtime["limits"]["memory"].as_u64().unwrap_or(256)
    }

    fn write(&self, dir: &Path) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("runtime"), self.runtime.to_string()).unwrap();
        if let Some(code) = &self.code {
            fs::write(dir.join("code"), code).unwrap();
        }
    }
}

/// How a container differs from a plain one.
#[derive(Default)]
pub(crate) struct Options {
    action: Option<Action>,
    read_only: bool,
    no_capabilities: bool,
    temporary: bool,
    env: Vec<String>,
    command: Vec<String>,
    network_of: Option<u32>,
}

impl Options {
    pub(crate) fn of(action: Action) -> Self {
        Self { action: Some(action), ..Self::default() }
    }

    /// The root filesystem cannot be written.
    pub(crate) fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// `/tmp` is memory.
    pub(crate) fn temporary(mut self) -> Self {
        self.temporary = true;
        self
    }

    pub(crate) fn no_capabilities(mut self) -> Self {
        self.no_capabilities = true;
        self
    }

    pub(crate) fn env(mut self, variable: &str) -> Self {
        self.env.push(variable.to_owned());
        self
    }

    /// Instead of the image's `Entrypoint` and `Cmd`.
    pub(crate) fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// In the network of another container, as in one pod.
    pub(crate) fn beside(mut self, other: &Container) -> Self {
        self.network_of = Some(other.pid);
        self
    }
}

/// A running container. Killed and removed when dropped.
pub(crate) struct Container {
    id: String,
    child: Child,
    /// Of its first process, as the machine counts.
    pub(crate) pid: u32,
    log: PathBuf,
    _scratch: TempDir,
}

/// An answer from inside.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Container {
    /// Starts an image and waits until its first process is there.
    pub(crate) fn start(image: &str, options: Options) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let node = Node::get();
        node.pull(image);
        let id = format!("c{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = tempfile::tempdir().unwrap();
        let (pid_file, log) = (scratch.path().join("pid"), scratch.path().join("log"));
        let mut command = node.ctr();
        command.args(["run", "--rm", "--pid-file"]).arg(&pid_file);
        // As the container runtime interface of Kubernetes does.
        command.args(["--mount", "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro:nosuid:noexec:nodev"]);
        if let Some(action) = &options.action {
            let dir = scratch.path().join("action");
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
            action.write(&dir);
            let memory = (action.memory_mb() + RESERVE_MB) * 1024 * 1024;
            command.arg("--memory-limit").arg(memory.to_string());
            let mount = format!("type=bind,src={},dst=/kwsk/action,options=rbind:ro", dir.display());
            command.arg("--mount").arg(mount);
        }
        if options.read_only {
            command.arg("--read-only");
        }
        if options.temporary {
            command.args(["--mount", "type=tmpfs,src=tmpfs,dst=/tmp,options=mode=1777"]);
        }
        if options.no_capabilities {
            command.args(CAPABILITIES.map(|name| format!("--cap-drop=CAP_{name}")));
        }
        if let Some(pid) = options.network_of {
            command.arg("--with-ns").arg(format!("network:/proc/{pid}/ns/net"));
        }
        command.args(options.env.iter().map(|variable| format!("--env={variable}")));
        command.arg(image).arg(&id).args(&options.command);
        let output = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = command.spawn().unwrap();
        let pid = wait("the container's first process", || {
            let ended = child.try_wait().unwrap();
            let log = || fs::read_to_string(&log).unwrap();
            assert!(ended.is_none(), "the container ended: {ended:?}\n{}", log());
            fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
        });
        Self { id, child, pid, log, _scratch: scratch }
    }

    /// The same, and waits until it says that it is ready.
    pub(crate) fn ready(image: &str, options: Options) -> Self {
        let container = Self::start(image, options);
        let is_ready = || {
            let answer = container.try_call(Method::GET, "/kwsk/ready", HeaderMap::new(), Vec::new());
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        };
        let began = Instant::now();
        while is_ready().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not become ready:\n{}", container.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        container
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// `POST /` with plain JSON.
    pub(crate) fn post(&self, arguments: &Value) -> Answer {
        self.post_with(arguments, HeaderMap::new())
    }

    /// `POST /` as kwsk does it: the whole report.
    pub(crate) fn report(&self, arguments: &Value) -> Value {
        let answer = self.post_with(arguments, [("accept", ENVELOPE)].as_headers());
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.log());
        answer.body
    }

    pub(crate) fn post_with(&self, arguments: &Value, headers: HeaderMap) -> Answer {
        self.call(Method::POST, "/", headers, arguments.to_string().into())
    }

    pub(crate) fn call(&self, method: Method, path: &str, headers: HeaderMap, body: Vec<u8>) -> Answer {
        let answer = self.try_call(method, path, headers, body);
        answer.unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()))
    }

    /// From a thread in the container's network: there is no way in from outside.
    fn try_call(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> reqwest::Result<Answer> {
        let network = File::open(format!("/proc/{}/ns/net", self.pid)).unwrap();
        let url = format!("http://127.0.0.1:8090{path}");
        let inside = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::builder().timeout(PATIENCE).no_proxy().build()?;
                let response = client.request(method, url).headers(headers).body(body).send().await?;
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                let text = response.text().await?;
                let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
                Ok(Answer { status, headers, body })
            })
        });
        inside.join().unwrap()
    }

    /// Sends a signal to its first process.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits until it ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait("the container's end", || self.child.try_wait().unwrap())
    }

    /// The processes in it, each as its command line.
    pub(crate) fn processes(&self) -> Vec<String> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&self.pid.to_string());
        let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        let all = all.filter_map(|name| name.into_string().ok()).filter(|name| namespace(name) == own);
        let command = |pid: String| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok();
        all.filter_map(command).map(|line| line.replace('\0', " ").trim_end().to_owned()).collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            drop(std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("-- {}\n{log}\n", self.id).as_bytes(),
            ));
        }
    }
}

/// Header literals.
pub(crate) trait AsHeaders {
    fn as_headers(&self) -> HeaderMap;
}

impl<const N: usize> AsHeaders for [(&'static str, &'static str); N] {
    fn as_headers(&self) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), HeaderValue::from_static(value))
        };
        self.iter().map(pair).collect()
    }
}

/// Polls for something outside our processes, where nobody can tell us.
pub(crate) fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
