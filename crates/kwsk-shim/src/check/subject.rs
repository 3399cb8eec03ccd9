//! The runtime under test: a process with its output, or an address.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwsk_model::proxy::LOG_SENTINEL;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::call::shown;
use super::samples::Sample;

const PORT: &str = "{port}";
const RETRY: Duration = Duration::from_millis(5);
/// Between the request to end and the order.
const GRACE: Duration = Duration::from_secs(2);
/// As long as the shim waits for sentinels.
const OUTPUT_WAIT: Duration = Duration::from_secs(2);
const OUTPUT_MAX: usize = 16 * 1024 * 1024;

/// A runtime, with what is known of it.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) address: SocketAddr,
    /// What it was initialised with; nothing for the image's own action.
    pub(super) initialised: Option<Option<Sample>>,
    process: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    group: Pid,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
    _readers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Output {
    bytes: Mutex<Vec<u8>>,
    more: Notify,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when nobody is left in the group.
        kill_process_group(self.group, Signal::KILL).ok();
    }
}

impl Subject {
    pub(super) fn running(address: SocketAddr) -> Self {
        Self { address, initialised: None, process: None }
    }

    /// Starts `argv` and waits until it accepts; otherwise says what happened instead.
    pub(super) async fn start(
        argv: &[String],
        port: u16,
        concurrent: bool,
        patience: Duration,
    ) -> Result<Self, String> {
        let argv: Vec<String> = argv.iter().map(|arg| arg.replace(PORT, &port.to_string())).collect();
        let process =
            Running::spawn(&argv, concurrent).map_err(|error| format!("it cannot be started: {error}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut subject = Self { address, initialised: None, process: Some(process) };
        subject.accepts(patience).await?;
        Ok(subject)
    }

    /// Waits until it accepts connections.
    pub(super) async fn accepts(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            if TcpStream::connect(self.address).await.is_ok() {
                return Ok(());
            }
            if let Some(process) = &mut self.process
                && let Ok(Some(status)) = process.child.try_wait()
            {
                let said = shown(String::from_utf8_lossy(&process.stderr.bytes()).trim());
                return Err(format!("it ended ({status}) and said: {said}"));
            }
            if Instant::now() >= deadline {
                return Err(format!("nobody listens on {} after {} ms", self.address, patience.as_millis()));
            }
            sleep(RETRY).await;
        }
    }

    /// The lines on stdout and on stderr so far, once `enough` says that they are complete; `None` when there is no
    /// process to read from.
    pub(super) async fn printed(
        &self,
        enough: impl Fn(&[Vec<String>; 2]) -> bool,
    ) -> Option<[Vec<String>; 2]> {
        let process = self.process.as_ref()?;
        let deadline = sleep(OUTPUT_WAIT);
        tokio::pin!(deadline);
        loop {
            let (out, err) = (process.stdout.more.notified(), process.stderr.more.notified());
            let lines = [process.stdout.lines(), process.stderr.lines()];
            if enough(&lines) {
                return Some(lines);
            }
            tokio::select! {
                () = out => {}
                () = err => {}
                () = &mut deadline => return Some([process.stdout.lines(), process.stderr.lines()]),
            }
        }
    }

    /// Asks the process to end, then ends it.
    pub(super) async fn stop(mut self) {
        let Some(process) = &mut self.process else { return };
        // Both fail only when nobody is left in the group.
        kill_process_group(process.group, Signal::TERM).ok();
        if timeout(GRACE, process.child.wait()).await.is_err() {
            kill_process_group(process.group, Signal::KILL).ok();
            if let Err(error) = process.child.wait().await {
                tracing::warn!(%error, "the runtime cannot be waited for");
            }
        }
    }
}

/// How many sentinels there are.
pub(super) fn sentinels(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.ends_with(LOG_SENTINEL)).count()
}

impl Running {
    fn spawn(argv: &[String], concurrent: bool) -> std::io::Result<Self> {
        let (program, args) = argv.split_first().ok_or(std::io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        // The runtime's own port, not the shim's.
        command.args(args).env_remove("PORT").process_group(0).kill_on_drop(true);
        if concurrent {
            command.env("__OW_ALLOW_CONCURRENT", "true");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = pid.ok_or(std::io::ErrorKind::NotFound)?;
        let mut readers = JoinSet::new();
        let (stdout, stderr) = (Arc::<Output>::default(), Arc::<Output>::default());
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            readers.spawn(Arc::clone(&stdout).collect(out));
            readers.spawn(Arc::clone(&stderr).collect(err));
        }
        Ok(Self { child, group, stdout, stderr, _readers: readers })
    }
}

impl Output {
    async fn collect(self: Arc<Self>, mut pipe: impl AsyncRead + Unpin) {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            let mut bytes = self.bytes();
            // What is beyond is read all the same: a full pipe would stop the runtime.
            if bytes.len() < OUTPUT_MAX {
                bytes.extend_from_slice(&chunk[..read]);
            }
            drop(bytes);
            self.more.notify_one();
        }
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.bytes()).lines().map(str::to_owned).collect()
    }
}
