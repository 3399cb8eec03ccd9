//! One child process with its group, pipes and directory.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use crate::error::LaunchError;
use crate::leftovers::{self, DIRECTORY_PREFIX};
use crate::memory::{Cgroup, Gauge, Surroundings, Watchdog};
use crate::orphans;
use crate::runtime::Sandbox;

const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(1);
/// The code a shell makes of a child's SIGKILL; it is the first process of many an image.
const KILLED_CODE: i32 = 137;

/// A runtime's own directory, removed with everything in it when dropped.
#[derive(Debug)]
pub(crate) struct WorkDir(tempfile::TempDir);

impl WorkDir {
    pub(crate) fn create(root: &Path) -> Result<Self, LaunchError> {
        let made = tempfile::Builder::new().prefix(DIRECTORY_PREFIX).tempdir_in(root).and_then(|dir| {
            fs::create_dir(dir.path().join("code"))?;
            Ok(Self(dir))
        });
        made.map_err(|source| LaunchError::WorkDir { path: root.to_owned(), source })
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where the action's code is unpacked.
    pub(crate) fn code(&self) -> PathBuf {
        self.path().join("code")
    }
}

/// A process that may be alive. Whoever holds it can kill its whole group; an owned task reaps it.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    code: PathBuf,
    pub(crate) gauge: Gauge,
    /// Set once the process is a zombie or less.
    exited: CancellationToken,
    /// Set once nothing is left of it.
    gone: CancellationToken,
    reaped: Mutex<bool>,
    surroundings: Surroundings,
    killed: AtomicBool,
}

/// Our ends of the pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// Its stdin, or its file descriptor 4.
    pub(crate) requests: Sender,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
    /// Its file descriptor 3.
    pub(crate) answers: Receiver,
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Working directory, when it is not the work directory.
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) requests: Requests,
}

/// Where a process reads its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requests {
    Stdin,
    /// File descriptor 4, with nothing on stdin: children that inherit stdin cannot take requests away.
    Own,
}

impl Process {
    /// Starts `plan`. The child that is returned has to be given to [`Process::reap`].
    pub(crate) fn spawn(
        plan: &Plan,
        dir: Option<&WorkDir>,
        sandbox: &Sandbox,
    ) -> Result<(Arc<Self>, Pipes, Child), LaunchError> {
        let surroundings = Surroundings::now(&sandbox.oom_events);
        let program = plan.argv.first().cloned().unwrap_or_default();
        let (answers, answering) = pipe()?;
        let (asked, requests) = pipe()?;
        let mut command = command(plan, dir, sandbox, answering, asked)?;
        let mut child = spawn_when_free(&mut command).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LaunchError::NoProgram { program: program.clone() },
            _ => LaunchError::Spawn { program: program.clone(), source },
        })?;
        drop(command);
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return Err(LaunchError::NoProgram { program }) };
        let pipes = Pipes::of(&mut child, requests, answers).map_err(LaunchError::Pipe)?;
        confine(pid, sandbox);
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        if let Some(Err(error)) = dir.map(|dir| leftovers::record(dir.path(), number)) {
            tracing::warn!(%error, "a process cannot be recorded and would outlive a crash");
        }
        let name = dir.and_then(|dir| dir.path().file_name()).map_or_else(
            || format!("{DIRECTORY_PREFIX}{number}"),
            |name| name.to_string_lossy().into_owned(),
        );
        let cgroup = sandbox.cgroup.as_deref().and_then(|root| Cgroup::create(root, &name, number));
        let process = Self {
            pid,
            code: dir.map(WorkDir::code).unwrap_or_default(),
            gauge: Gauge::new(cgroup),
            exited: CancellationToken::new(),
            gone: CancellationToken::new(),
            reaped: Mutex::new(false),
            surroundings,
            killed: AtomicBool::new(false),
        };
        Ok((Arc::new(process), pipes, child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) fn code(&self) -> &Path {
        &self.code
    }

    /// Kills the whole group, unless its id may already belong to someone else.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends the whole group a signal, likewise.
    pub(crate) fn signal(&self, signal: Signal) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            // Fails only when nobody is left in the group.
            kill_process_group(self.pid, signal).ok();
        }
    }

    /// True when the process was killed while the kernel was killing in its container for memory.
    pub(crate) fn was_killed_for_memory(&self) -> bool {
        self.killed.load(Ordering::Acquire) && self.surroundings.has_killed()
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exited.is_cancelled()
    }

    pub(crate) async fn exited(&self) {
        self.exited.cancelled().await;
    }

    /// Waits until it is reaped and its directory removed.
    pub(crate) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Waits for the end of the process, or ends it when `stop` says so; then kills what is left of its group, while
    /// the zombie still keeps the id from being reused, and cleans up. With `alone` also what left the group.
    pub(crate) async fn reap(
        self: Arc<Self>,
        mut child: Child,
        dir: Option<Arc<WorkDir>>,
        stop: CancellationToken,
        alone: Option<&Watchdog>,
    ) {
        tokio::select! {
            () = zombie(self.pid, &mut child) => {}
            () = stop.cancelled() => {
                self.kill();
                zombie(self.pid, &mut child).await;
            }
        }
        self.killed.store(ended_by_kill(self.pid), Ordering::Release);
        self.exited.cancel();
        self.kill();
        if let Some(watchdog) = alone {
            orphans::kill_strays(&watchdog.living()).await;
        }
        *self.reaped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        if let Err(error) = child.wait().await {
            tracing::warn!(%error, "a runtime process cannot be reaped");
        }
        if let Some(dir) = dir {
            leftovers::forget(dir.path());
            let removed = tokio::task::spawn_blocking(move || drop(dir)).await;
            if let Err(error) = removed {
                tracing::warn!(%error, "a work directory cannot be removed");
            }
        }
        self.gone.cancel();
    }
}

/// True when the process, which is a zombie now, did not end by itself.
fn ended_by_kill(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let Ok(Some(status)) = waitid(WaitId::Pid(pid), look) else { return false };
    status.terminating_signal() == Some(Signal::KILL.as_raw()) || status.exit_status() == Some(KILLED_CODE)
}

#[expect(deprecated, reason = "its successor is unsafe; an owned descriptor cannot change under it")]
/// Waits for the process to end without reaping it. Kernels without process descriptors reap at once.
async fn zombie(pid: Pid, child: &mut Child) {
    let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK);
    if let Some(fd) = descriptor.ok().and_then(|fd| AsyncFd::new(fd).ok())
        && fd.readable().await.is_ok()
    {
        return;
    }
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "a runtime process cannot be waited for");
    }
}

/// A program we have just written counts as busy while another thread's child, between its fork and its exec, holds a
/// copy of the descriptor it was written through. That takes well under a millisecond.
fn spawn_when_free(command: &mut tokio::process::Command) -> io::Result<Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            spawned => return spawned,
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| LaunchError::Pipe(e.into()))
}

fn command(
    plan: &Plan,
    dir: Option<&WorkDir>,
    sandbox: &Sandbox,
    answers: OwnedFd,
    requests: OwnedFd,
) -> Result<tokio::process::Command, LaunchError> {
    use std::os::unix::process::CommandExt as _;
    let (program, args) =
        plan.argv.split_first().ok_or_else(|| LaunchError::NoProgram { program: String::new() })?;
    let mut command = std::process::Command::new(find(program, &sandbox.path));
    command.arg0(program).args(args).env_clear().envs(plan.env.iter().map(|(k, v)| (k, v)));
    if let Some(cwd) = plan.cwd.as_deref().or(dir.map(WorkDir::path)) {
        command.current_dir(cwd);
    }
    command.process_group(0);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut mappings = vec![FdMapping { parent_fd: answers, child_fd: 3 }];
    match plan.requests {
        Requests::Stdin => drop(command.stdin(requests)),
        Requests::Own => {
            command.stdin(Stdio::null());
            mappings.push(FdMapping { parent_fd: requests, child_fd: 4 });
        }
    }
    command.fd_mappings(mappings).map_err(|e| LaunchError::Pipe(io::Error::other(e)))?;
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    Ok(command)
}

/// The program as the sandbox's `PATH` has it: the shim's own may differ.
pub(crate) fn find(program: &str, path: &str) -> PathBuf {
    if program.contains('/') {
        return PathBuf::from(program);
    }
    let found = std::env::split_paths(path).map(|dir| dir.join(program)).find(|p| p.is_file());
    found.unwrap_or_else(|| PathBuf::from(format!("/nonexistent/{program}")))
}

fn confine(pid: Pid, sandbox: &Sandbox) {
    let limits = [
        (Resource::Nofile, Some(sandbox.nofile)),
        (Resource::Core, Some(0)),
        (Resource::Nproc, sandbox.nproc()),
    ];
    for (resource, limit) in limits {
        if limit.is_none() {
            continue;
        }
        if let Err(error) = prlimit(Some(pid), resource, Rlimit { current: limit, maximum: limit }) {
            tracing::warn!(%error, "a resource limit cannot be set");
        }
    }
}

impl Pipes {
    fn of(child: &mut Child, requests: OwnedFd, answers: OwnedFd) -> io::Result<Self> {
        let missing = || io::Error::other("a standard stream is missing");
        let stdout = child.stdout.take().ok_or_else(missing)?.into_owned_fd()?;
        let stderr = child.stderr.take().ok_or_else(missing)?.into_owned_fd()?;
        Ok(Self {
            requests: Sender::from_owned_fd(requests)?,
            stdout: Receiver::from_owned_fd(stdout)?,
            stderr: Receiver::from_owned_fd(stderr)?,
            answers: Receiver::from_owned_fd(answers)?,
        })
    }
}
