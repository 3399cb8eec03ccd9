//! The memory limit: a cgroup where one was delegated, and a watchdog that samples active runtimes everywhere.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::orphans;
use crate::process::Process;

const TICK: Duration = Duration::from_millis(50);
/// Looking at every process of the machine costs more than looking at one, so it is done every so many ticks.
const GROUP_EVERY: u32 = 4;
/// Ticks without an active run before the watchdog waits to be woken.
const IDLE_TICKS: u32 = 40;

/// Which memory controller a delegated directory belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Controller {
    V1,
    V2,
}

impl Controller {
    pub(crate) fn of(directory: &Path) -> Option<Self> {
        let controls = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
        if controls("cgroup.controllers").split_whitespace().any(|c| c == "memory") {
            return Some(Self::V2);
        }
        directory.join("memory.limit_in_bytes").exists().then_some(Self::V1)
    }
}

/// One process's own cgroup, removed when dropped.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    controller: Controller,
}

impl Cgroup {
    pub(crate) fn create(root: &Path, name: &str, pid: u32) -> Option<Self> {
        let controller = Controller::of(root)?;
        let path = root.join(name);
        let made = fs::create_dir(&path).and_then(|()| fs::write(path.join("cgroup.procs"), pid.to_string()));
        let cgroup = Self { path, controller };
        match made {
            Ok(()) => Some(cgroup),
            Err(error) => {
                tracing::warn!(%error, "a cgroup cannot be made; the watchdog alone limits memory");
                None
            }
        }
    }

    fn limit(&self, bytes: u64) {
        let files: &[&str] = match self.controller {
            Controller::V1 => &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
            Controller::V2 => &["memory.max"],
        };
        for file in files {
            // Swap accounting may be off; the watchdog remains in any case.
            fs::write(self.path.join(file), bytes.to_string()).ok();
        }
    }

    fn has_killed(&self) -> bool {
        let file = match self.controller {
            Controller::V1 => "memory.oom_control",
            Controller::V2 => "memory.events",
        };
        oom_kills(&self.path.join(file)) > 0
    }
}

/// How many processes the kernel killed for memory, as a cgroup's event file tells.
fn oom_kills(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// What the container's own cgroup had counted when a process began: growth since then explains its end.
#[derive(Debug)]
pub(crate) struct Surroundings {
    files: Vec<PathBuf>,
    before: u64,
}

impl Surroundings {
    pub(crate) fn now(files: &[PathBuf]) -> Self {
        let mut now = Self { files: files.to_vec(), before: 0 };
        now.before = now.count();
        now
    }

    fn count(&self) -> u64 {
        self.files.iter().map(|file| oom_kills(file)).sum()
    }

    /// True when the kernel killed something since.
    pub(crate) fn has_killed(&self) -> bool {
        self.count() > self.before
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails while a straggler is dying; an empty directory is all that stays.
        fs::remove_dir(&self.path).ok();
    }
}

/// What is known of one process's memory.
#[derive(Debug)]
pub(crate) struct Gauge {
    limit_bytes: AtomicU64,
    active: AtomicU32,
    exceeded: AtomicBool,
    cgroup: Option<Cgroup>,
}

impl Gauge {
    pub(crate) fn new(cgroup: Option<Cgroup>) -> Self {
        let limit_bytes = AtomicU64::new(u64::MAX);
        Self { limit_bytes, active: AtomicU32::new(0), exceeded: AtomicBool::new(false), cgroup }
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit_bytes.store(bytes, Ordering::Relaxed);
        if let Some(cgroup) = &self.cgroup {
            cgroup.limit(bytes);
        }
    }

    /// True when the process was, or is about to be, killed for its memory.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Acquire) || self.cgroup.as_ref().is_some_and(Cgroup::has_killed)
    }

    /// Compares what the processes hold now with the limit.
    pub(crate) fn check(&self, pids: &[u32]) -> bool {
        let used: u64 = pids.iter().map(|pid| used_bytes(*pid)).sum();
        if used > self.limit_bytes.load(Ordering::Relaxed) {
            self.exceeded.store(true, Ordering::Release);
        }
        self.exceeded.load(Ordering::Acquire)
    }
}

/// Samples the processes that are running something.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    processes: Mutex<HashMap<u32, Arc<Process>>>,
    awake: AtomicBool,
    wake: Notify,
}

/// Held during a run: the watchdog looks at the process while there is one.
pub(crate) struct Active<'a>(&'a Gauge);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watchdog {
    pub(crate) fn add(&self, process: Arc<Process>) {
        self.lock().insert(process.pid(), process);
    }

    pub(crate) fn remove(&self, pid: u32) {
        self.lock().remove(&pid);
    }

    /// True for a process that is waited for.
    pub(crate) fn owns(&self, pid: u32) -> bool {
        self.lock().contains_key(&pid)
    }

    /// The processes that are more than zombies.
    pub(crate) fn living(&self) -> Vec<u32> {
        self.lock().iter().filter(|(_, process)| !process.has_exited()).map(|(pid, _)| *pid).collect()
    }

    pub(crate) fn enter<'a>(&self, gauge: &'a Gauge) -> Active<'a> {
        gauge.active.fetch_add(1, Ordering::Relaxed);
        if !self.awake.load(Ordering::Relaxed) {
            self.wake.notify_one();
        }
        Active(gauge)
    }

    /// Runs until it is dropped.
    pub(crate) async fn watch(&self) {
        loop {
            self.wake.notified().await;
            self.awake.store(true, Ordering::Relaxed);
            let mut idle = 0;
            let mut tick = 0;
            while idle < IDLE_TICKS {
                tokio::time::sleep(TICK).await;
                tick += 1;
                idle = if self.sample(tick % GROUP_EVERY == 0) { 0 } else { idle + 1 };
            }
            self.awake.store(false, Ordering::Relaxed);
            // A run that began between the last sample and here saw a waking watchdog and did not notify it.
            if !self.active().is_empty() {
                self.wake.notify_one();
            }
        }
    }

    fn sample(&self, whole_groups: bool) -> bool {
        let active = self.active();
        let groups = if whole_groups && !active.is_empty() { groups() } else { HashMap::new() };
        for process in &active {
            let alone = [process.pid()];
            let pids = groups.get(&process.pid()).map_or(&alone[..], Vec::as_slice);
            if process.gauge.check(pids) {
                process.kill();
            }
        }
        !active.is_empty()
    }

    fn active(&self) -> Vec<Arc<Process>> {
        let is_active = |p: &&Arc<Process>| p.gauge.active.load(Ordering::Relaxed) > 0;
        self.lock().values().filter(is_active).cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Process>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Process group → its processes, of the whole machine.
fn groups() -> HashMap<u32, Vec<u32>> {
    let mut groups: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in orphans::table() {
        groups.entry(entry.group).or_default().push(entry.pid);
    }
    groups
}

/// Memory that is the process's own: not the pages of program files, which it shares. The peak counts too, so that
/// a run that gave everything back before the next sample is still seen.
fn used_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|l| l.trim_start_matches(':').trim().split(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let now = kilobytes("RssAnon") + kilobytes("RssShmem") + kilobytes("VmSwap");
    let peak = kilobytes("VmHWM").saturating_sub(kilobytes("RssFile"));
    now.max(peak) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_seen() {
        let own = std::process::id();
        assert!(used_bytes(own) > 100 * 1024);
        assert_eq!(used_bytes(0), 0);
        assert!(groups().values().flatten().any(|pid| *pid == own));
        let gauge = Gauge::new(None);
        assert!(!gauge.check(&[own]));
        gauge.set_limit(1024);
        assert!(gauge.check(&[own]) && gauge.is_exceeded());
    }

    #[test]
    fn kills_of_the_container_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (v2, absent) = (dir.path().join("memory.events"), dir.path().join("absent"));
        fs::write(&v2, "low 0\noom 4\noom_kill 3\noom_group_kill 0\n").unwrap();
        let surroundings = Surroundings::now(&[v2.clone(), absent]);
        assert!(!surroundings.has_killed());
        fs::write(&v2, "oom_kill 4\n").unwrap();
        assert!(surroundings.has_killed());
        fs::write(&v2, "oom_kill x\n").unwrap();
        assert!(!surroundings.has_killed());
    }

    #[test]
    fn no_controller_in_an_ordinary_directory() {
        assert!(Controller::of(Path::new("/")).is_none());
    }
}
