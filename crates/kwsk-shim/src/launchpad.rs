//! Starts runtime processes, keeps prewarmed ones (stem cells) and watches over them.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::LaunchError;
use crate::interpreter::Interpreters;
use crate::memory::{Active, Watchdog};
use crate::orphans;
use crate::ports::{free_port, is_taken};
use crate::process::{Pipes, Plan, Process, Requests, WorkDir};
use crate::runtime::{Runtime, Sandbox, Style};

const NODE_LAUNCHER: &str = include_str!("../launchers/node.js");
const PYTHON_LAUNCHER: &str = include_str!("../launchers/python.py");
/// How often a fixed port is looked at before it counts as taken.
const PORT_TRIES: u32 = 200;
const PORT_PAUSE: Duration = Duration::from_millis(10);

/// Starts every runtime process of a server. Cheap to clone. All its tasks are in the tracker it was given and end
/// when the token is cancelled, killing every process.
#[derive(Debug, Clone)]
pub struct Launchpad(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sandbox: Sandbox,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Everything below this process is a runtime's.
    alone: bool,
    watchdog: Arc<Watchdog>,
    cells: Mutex<HashMap<String, Cells>>,
    refill: Notify,
    interpreters: Interpreters,
}

#[derive(Debug)]
struct Cells {
    runtime: Arc<Runtime>,
    wanted: usize,
    ready: VecDeque<Launched>,
}

/// A started process.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) process: Arc<Process>,
    pub(crate) pipes: Pipes,
    /// Where an HTTP runtime listens.
    pub(crate) port: u16,
}

impl Launchpad {
    /// Prepares the work root and starts the watchdog and the keeper of stem cells in `tracker`.
    ///
    /// # Errors
    /// When the work root cannot be written.
    pub async fn new(
        sandbox: Sandbox,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, LaunchError> {
        Ok(Self::start(prepared(sandbox).await?, tracker, stop, false))
    }

    /// The same for the first process of a container: what runtimes leave behind becomes its child, is waited for, and
    /// is killed with the runtime. Without `files` nothing is written, which only suits runtimes that
    /// [need none](Runtime::needs_no_files).
    ///
    /// # Errors
    /// When the work root cannot be written.
    pub async fn of_container(
        sandbox: Sandbox,
        tracker: TaskTracker,
        stop: CancellationToken,
        files: bool,
    ) -> Result<Self, LaunchError> {
        if let Err(error) = orphans::adopt() {
            tracing::warn!(%error, "what runtimes leave behind cannot be adopted");
        }
        let sandbox = if files { prepared(sandbox).await? } else { sandbox };
        let pad = Self::start(sandbox, tracker, stop, true);
        let watchdog = Arc::clone(&pad.0.watchdog);
        let burying = async move { orphans::bury(|pid| watchdog.owns(pid)).await };
        pad.0.tracker.spawn(pad.0.stop.clone().run_until_cancelled_owned(burying));
        Ok(pad)
    }

    fn start(sandbox: Sandbox, tracker: TaskTracker, stop: CancellationToken, alone: bool) -> Self {
        let inner = Arc::new(Inner {
            sandbox,
            tracker,
            stop,
            alone,
            watchdog: Arc::default(),
            cells: Mutex::default(),
            refill: Notify::new(),
            interpreters: Interpreters::default(),
        });
        let until = || inner.stop.clone();
        let watchdog = Arc::clone(&inner.watchdog);
        inner.tracker.spawn(until().run_until_cancelled_owned(async move { watchdog.watch().await }));
        let keeping = Arc::clone(&inner);
        inner.tracker.spawn(until().run_until_cancelled_owned(async move { keeping.keep_cells().await }));
        Self(inner)
    }

    /// What surrounds every process.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.0.sandbox
    }

    /// Keeps `count` processes of `runtime` waiting for code, from now on and in the background. Kinds that cannot
    /// start without their code have none.
    pub fn set_stem_cells(&self, runtime: Arc<Runtime>, count: usize) {
        let wanted = if runtime.is_prewarmable() { count } else { 0 };
        let mut cells = self.0.cells();
        let kind = runtime.kind().to_owned();
        let entry = cells.entry(kind).or_insert_with(|| Cells {
            runtime: Arc::clone(&runtime),
            wanted,
            ready: VecDeque::new(),
        });
        entry.wanted = wanted;
        entry.runtime = runtime;
        let surplus = entry.ready.len().saturating_sub(wanted);
        entry.ready.drain(..surplus).for_each(|cell| cell.process.kill());
        drop(cells);
        self.0.refill.notify_one();
    }

    /// How many processes of `kind` are waiting.
    #[must_use]
    pub fn stem_cells(&self, kind: &str) -> usize {
        self.0.cells().get(kind).map_or(0, |cells| cells.ready.len())
    }

    /// A process of `runtime` that has no code yet: a stem cell if there is one.
    pub(crate) async fn blank(&self, runtime: &Runtime, concurrent: bool) -> Result<Launched, LaunchError> {
        // An HTTP runtime learns of concurrency from the environment it starts with.
        let fits = !concurrent || runtime.style == Style::Launcher;
        match fits.then(|| self.0.take_cell(runtime.kind())).flatten() {
            Some(cell) => Ok(cell),
            None => self.0.launch_blank(runtime, concurrent).await,
        }
    }

    /// A process whose code is in `dir` already.
    pub(crate) fn loaded(
        &self,
        runtime: &Runtime,
        dir: Arc<WorkDir>,
        argv: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Result<Launched, LaunchError> {
        let cwd = Some(dir.code());
        let own = env.into_iter().map(|(key, value)| (key.into(), value.into()));
        let env = self.0.environment(runtime, Some(&dir), false).into_iter().chain(own).collect();
        self.0.launch(&Plan { argv, env, cwd, requests: Requests::Stdin }, Some(dir), 0)
    }

    /// A directory for code that no process uses yet.
    pub(crate) fn work_dir(&self) -> Result<Arc<WorkDir>, LaunchError> {
        WorkDir::create(&self.0.sandbox.work_root).map(Arc::new)
    }

    /// Puts the process under the watchdog's eyes while the guard lives.
    pub(crate) fn watch<'a>(&'a self, process: &'a Process) -> Active<'a> {
        self.0.watchdog.enter(&process.gauge)
    }

    pub(crate) fn launchers(&self) -> PathBuf {
        self.0.sandbox.work_root.join("launchers")
    }

    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.0.tracker
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stop
    }
}

impl Inner {
    fn cells(&self) -> MutexGuard<'_, HashMap<String, Cells>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_cell(&self, kind: &str) -> Option<Launched> {
        let mut cells = self.cells();
        let ready = &mut cells.get_mut(kind)?.ready;
        let cell = std::iter::from_fn(|| ready.pop_front()).find(|cell| !cell.process.has_exited());
        drop(cells);
        self.refill.notify_one();
        cell
    }

    async fn keep_cells(&self) {
        loop {
            self.refill.notified().await;
            while let Some(runtime) = self.lacking() {
                match self.launch_blank(&runtime, false).await {
                    Ok(cell) => self.keep(&runtime, cell),
                    Err(error) => {
                        tracing::warn!(kind = runtime.kind(), %error, "a stem cell cannot be started");
                        break;
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    }

    fn lacking(&self) -> Option<Arc<Runtime>> {
        let mut cells = self.cells();
        cells.values_mut().for_each(|c| c.ready.retain(|cell| !cell.process.has_exited()));
        cells.values().find(|c| c.ready.len() < c.wanted).map(|c| Arc::clone(&c.runtime))
    }

    fn keep(&self, runtime: &Runtime, cell: Launched) {
        match self.cells().get_mut(runtime.kind()) {
            Some(cells) if cells.ready.len() < cells.wanted => cells.ready.push_back(cell),
            _ => cell.process.kill(),
        }
    }

    async fn launch_blank(&self, runtime: &Runtime, concurrent: bool) -> Result<Launched, LaunchError> {
        if let (Style::Http, Some(home)) = (runtime.style, &runtime.home) {
            vacant(home.port).await?;
            let plan = Plan {
                argv: runtime.command.argv.clone(),
                env: self.environment(runtime, None, concurrent),
                cwd: Some(home.cwd.clone()),
                requests: Requests::Stdin,
            };
            return self.launch(&plan, None, home.port);
        }
        let dir = Arc::new(WorkDir::create(&self.sandbox.work_root)?);
        let port = if runtime.style == Style::Http { free_port().map_err(LaunchError::Pipe)? } else { 0 };
        let mut argv = runtime.argv(&self.sandbox.work_root.join("launchers"), &dir.code(), port);
        let mut requests = Requests::Stdin;
        if runtime.style == Style::Launcher {
            requests = Requests::Own;
            self.interpreters.resolve(runtime, &self.sandbox.path, &mut argv).await;
        }
        let env = self.environment(runtime, Some(&dir), concurrent);
        self.launch(&Plan { argv, env, cwd: None, requests }, Some(dir), port)
    }

    fn launch(&self, plan: &Plan, dir: Option<Arc<WorkDir>>, port: u16) -> Result<Launched, LaunchError> {
        if self.stop.is_cancelled() {
            return Err(LaunchError::Stopping);
        }
        let (process, pipes, child) = Process::spawn(plan, dir.as_deref(), &self.sandbox)?;
        self.watchdog.add(Arc::clone(&process));
        let watchdog = Arc::clone(&self.watchdog);
        let (reaped, stop, alone) = (Arc::clone(&process), self.stop.clone(), self.alone);
        self.tracker.spawn(async move {
            let pid = reaped.pid();
            reaped.reap(child, dir, stop, alone.then_some(&*watchdog)).await;
            watchdog.remove(pid);
        });
        Ok(Launched { process, pipes, port })
    }

    /// The container's environment, and over it what is ours; the entrypoint of an image has no directory from us.
    fn environment(
        &self,
        runtime: &Runtime,
        dir: Option<&WorkDir>,
        concurrent: bool,
    ) -> Vec<(OsString, OsString)> {
        let mut env = runtime.home.as_ref().map_or_else(Vec::new, |home| home.env.clone());
        let mut set = |key: &str, value: &str| env.push((key.into(), value.into()));
        if let Some(dir) = dir {
            let home = dir.path().to_string_lossy();
            set("PATH", &self.sandbox.path);
            set("HOME", &home);
            set("TMPDIR", &home);
            set("LANG", "C.UTF-8");
        }
        if let Some(host) = &self.sandbox.api_host {
            set("__OW_API_HOST", host);
        }
        if concurrent {
            set("__OW_ALLOW_CONCURRENT", "true");
        }
        runtime.command.env.iter().for_each(|(key, value)| set(key, value));
        env
    }
}

/// Makes the work root and writes the launchers into it.
async fn prepared(sandbox: Sandbox) -> Result<Sandbox, LaunchError> {
    let root = sandbox.work_root.clone();
    let failed = |source| LaunchError::WorkDir { path: root.clone(), source };
    let launchers = root.join("launchers");
    tokio::fs::create_dir_all(&launchers).await.map_err(failed)?;
    tokio::fs::write(launchers.join("node.js"), NODE_LAUNCHER).await.map_err(failed)?;
    tokio::fs::write(launchers.join("python.py"), PYTHON_LAUNCHER).await.map_err(failed)?;
    // Children are started in other directories than ours.
    let root = fs::canonicalize(&root).map_err(failed)?;
    Ok(Sandbox { work_root: root, ..sandbox })
}

/// Waits until nobody listens on `port` any more: whoever did is being killed, or is not ours.
async fn vacant(port: u16) -> Result<(), LaunchError> {
    for _ in 0..PORT_TRIES {
        if !is_taken(port) {
            return Ok(());
        }
        tokio::time::sleep(PORT_PAUSE).await;
    }
    Err(LaunchError::PortTaken { port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    use kwsk_model::runtimes::{Protocol, RuntimeCommand};
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    fn runtime(program: &str, launcher: &str) -> Runtime {
        let command = RuntimeCommand {
            protocol: Protocol::Actionloop,
            argv: vec![program.to_owned(), launcher.to_owned()],
            env: Default::default(),
            prewarm: true,
            concurrent: true,
        };
        Runtime::new("test:1", command)
    }

    /// Sends a line and reads the answer.
    async fn ask(cell: &mut Launched, request: serde_json::Value) -> String {
        cell.pipes.requests.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with('\n') {
            let mut bytes = [0; 256];
            let read = timeout(Duration::from_secs(20), cell.pipes.answers.read(&mut bytes)).await;
            let read = read.expect("no answer").unwrap();
            assert!(read > 0, "no answer");
            answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn launchers_end_with_their_requests() {
        let root = tempfile::tempdir().unwrap();
        let mut sandbox = Sandbox::new(root.path());
        sandbox.path = std::env::vars().find(|(key, _)| key == "PATH").unwrap().1;
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let pad = Launchpad::new(sandbox, tracker.clone(), stop.clone()).await.unwrap();
        let python = runtime("python3", "{launcher:python}");
        let node = runtime("node", "{launcher:node}");
        let busy = "def main(a):\n    print('on', flush=True)\n    while True: pass";
        for (runtime, code, run) in [
            (&python, None, false),
            (&node, None, false),
            (&python, Some(busy), true),
            (&node, Some("function main() {}"), false),
            (&node, Some("function main() { console.log('on'); return new Promise(() => {}) }"), true),
        ] {
            let mut cell = pad.blank(runtime, false).await.unwrap();
            if let Some(code) = code {
                fs::write(cell.process.code().join("exec"), code).unwrap();
                let init = json!({"name":"a","main":"main","path":cell.process.code(),"archive":false,"env":{},"concurrent":false});
                assert_eq!(ask(&mut cell, json!({ "init": init })).await, "=200 {\"ok\":true}\n");
            }
            if run {
                cell.pipes.requests.write_all(b"{\"value\":{}}\n").await.unwrap();
                let mut bytes = [0; 8];
                let printed = timeout(Duration::from_secs(20), cell.pipes.stdout.read(&mut bytes)).await;
                assert_eq!(&bytes[..printed.expect("it does not run").unwrap()], b"on\n");
            }
            assert!(!cell.process.has_exited());
            let Launched { process, pipes, .. } = cell;
            let began = Instant::now();
            drop(pipes.requests);
            timeout(Duration::from_secs(20), process.exited()).await.expect("the launcher lives on");
            assert!(began.elapsed() < Duration::from_secs(10));
        }
        stop.cancel();
        tracker.close();
        tracker.wait().await;
    }
}
