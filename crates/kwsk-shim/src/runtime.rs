//! How a kind is started ([`Runtime`]) and what surrounds every process ([`Sandbox`]).

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kwsk_model::runtimes::{Protocol, RuntimeCommand, RuntimeKind};
use serde::Serialize;

/// `argv[0]` of kinds whose program is run once per activation (upstream's docker skeleton).
pub(crate) const NATIVE: &str = "{native}";

/// How one kind is started and spoken to.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(crate) kind: String,
    pub(crate) command: RuntimeCommand,
    pub(crate) style: Style,
    pub(crate) sentinelled: bool,
    pub(crate) home: Option<Arc<Home>>,
}

/// The container a runtime has to itself, with the shim as its first process: one runtime process at a time, and the
/// image's own surroundings.
#[derive(Clone, Default)]
pub struct Home {
    /// The environment, without what is the shim's own.
    pub env: Vec<(OsString, OsString)>,
    /// Where HTTP runtimes are started; the others are started in a directory of their own.
    pub cwd: PathBuf,
    /// Where an HTTP runtime listens.
    pub port: u16,
}

impl fmt::Debug for Home {
    /// Without the values, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").field("cwd", &self.cwd).field("port", &self.port).finish_non_exhaustive()
    }
}

/// What the shim does with a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// kwsk's own launcher: ActionLoop with frames.
    Launcher,
    /// Anyone's ActionLoop.
    Loop,
    /// One process per activation.
    Native,
    /// An HTTP runtime that is spawned.
    Http,
    /// An HTTP runtime that is there already.
    Attached(SocketAddr),
}

impl Runtime {
    /// A kind started by `command`.
    #[must_use]
    pub fn new(kind: impl Into<String>, command: RuntimeCommand) -> Self {
        let style = match command.protocol {
            Protocol::Http => Style::Http,
            Protocol::Actionloop if command.argv.first().is_some_and(|a| a == NATIVE) => Style::Native,
            Protocol::Actionloop if command.argv.iter().any(|a| a.contains("{launcher:")) => Style::Launcher,
            Protocol::Actionloop => Style::Loop,
        };
        Self { kind: kind.into(), command, style, sentinelled: true, home: None }
    }

    /// The same in a container of its own.
    #[must_use]
    pub fn at_home(self, home: Home) -> Self {
        Self { home: Some(Arc::new(home)), ..self }
    }

    /// The same, of which nobody expects that it says when its logs are complete.
    #[must_use]
    pub fn without_sentinels(self) -> Self {
        Self { sentinelled: false, ..self }
    }

    /// A kind of the manifest; `None` when it has no command.
    #[must_use]
    pub fn of_kind(kind: &RuntimeKind) -> Option<Self> {
        let runtime = Self::new(kind.kind.clone(), kind.command.clone()?);
        Some(Self { sentinelled: kind.sentinelled_logs, ..runtime })
    }

    /// An HTTP runtime that someone else started, such as the neighbour container of a sidecar.
    #[must_use]
    pub fn attached(kind: impl Into<String>, address: SocketAddr, concurrent: bool) -> Self {
        let command = RuntimeCommand {
            protocol: Protocol::Http,
            argv: Vec::new(),
            env: Default::default(),
            prewarm: false,
            concurrent,
        };
        Self { kind: kind.into(), command, style: Style::Attached(address), sentinelled: false, home: None }
    }

    /// The kind's name.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// True when the shim writes nothing for it: neither code nor a launcher.
    #[must_use]
    pub fn needs_no_files(&self) -> bool {
        match self.style {
            Style::Attached(_) => true,
            Style::Http => self.home.is_some(),
            Style::Launcher | Style::Loop | Style::Native => false,
        }
    }

    /// True when someone else starts and ends it.
    pub(crate) fn is_attached(&self) -> bool {
        matches!(self.style, Style::Attached(_))
    }

    /// True when a process of it can wait for code.
    #[must_use]
    pub fn is_prewarmable(&self) -> bool {
        self.command.prewarm && matches!(self.style, Style::Launcher | Style::Http)
    }

    /// How many activations at a time an instance of it may run, of the `wanted`.
    pub(crate) fn concurrency(&self, wanted: u32) -> u32 {
        let able = self.command.concurrent
            && matches!(self.style, Style::Launcher | Style::Http | Style::Attached(_));
        if able { wanted.max(1) } else { 1 }
    }

    /// The command line with every placeholder filled in.
    pub(crate) fn argv(&self, launchers: &Path, code: &Path, port: u16) -> Vec<String> {
        let fill = |arg: &String| {
            arg.replace("{launcher:node}", &launchers.join("node.js").to_string_lossy())
                .replace("{launcher:python}", &launchers.join("python.py").to_string_lossy())
                .replace("{code}", &code.to_string_lossy())
                .replace("{port}", &port.to_string())
        };
        self.command.argv.iter().map(fill).collect()
    }
}

/// What surrounds every runtime process.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// `__OW_API_HOST`.
    pub api_host: Option<String>,
    /// `PATH`.
    pub path: String,
    /// Every process has its own directory in here. Not to be shared with another launchpad.
    pub work_root: PathBuf,
    /// Open files, soft and hard.
    pub nofile: u64,
    /// Processes of the user, soft and hard; left alone when the shim runs as root, whose other processes count too.
    pub nproc: Option<u64>,
    /// A cgroup directory delegated to kwsk (v2, or v1's memory controller); each process gets a child of it with the
    /// action's memory limit. `None`: the watchdog alone. Never guessed: an undelegated hierarchy has another owner.
    pub cgroup: Option<PathBuf>,
    /// The event files of the cgroup all of it is in: they tell whether the kernel killed for memory.
    pub oom_events: Vec<PathBuf>,
}

impl Sandbox {
    /// Upstream's limits, with work directories under `work_root`.
    #[must_use]
    pub fn new(work_root: impl Into<PathBuf>) -> Self {
        Self {
            api_host: None,
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            work_root: work_root.into(),
            nofile: 1024,
            nproc: None,
            cgroup: None,
            oom_events: ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
                .map(PathBuf::from)
                .into(),
        }
    }

    /// What holds on this machine.
    #[must_use]
    pub fn features(&self) -> Features {
        Features {
            process_groups: true,
            rlimits: true,
            nproc: self.nproc().is_some(),
            memory_watchdog: true,
            memory_cgroup: self.cgroup.as_deref().and_then(crate::memory::Controller::of).is_some(),
        }
    }

    /// The process limit to set, if any.
    pub(crate) fn nproc(&self) -> Option<u64> {
        self.nproc.filter(|_| !rustix::process::geteuid().is_root())
    }
}

/// Which protections are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Every runtime is killed with its children.
    pub process_groups: bool,
    /// Open files are limited.
    pub rlimits: bool,
    /// Processes are limited.
    pub nproc: bool,
    /// Memory is sampled.
    pub memory_watchdog: bool,
    /// Memory is limited by the kernel.
    pub memory_cgroup: bool,
}
