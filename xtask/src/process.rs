//! Child processes: started, looked at through /proc, and surely ended.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

const GRACE: Duration = Duration::from_secs(10);
/// Of utime and stime in /proc, on every architecture of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child that does not outlive this value.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a command whose output goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Resident memory in MB, without children.
    pub(crate) fn rss(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib = line.split_whitespace().next().context("VmRSS is empty")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    /// Seconds of CPU time its own threads have used; children are not in it.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        Ok(Stat::read(self.pid()).context("the process is gone")?.cpu)
    }

    /// Waits until neither it nor a descendant does anything any more.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        const QUIET: u32 = 4;
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut last, mut quiet) = (family_cpu(self.pid()), 0);
        while quiet < QUIET {
            if Instant::now() > deadline {
                bail!("the process is still busy after a minute");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = family_cpu(self.pid());
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already.
            kill_process(pid, Signal::TERM).ok();
        }
        let deadline = Instant::now() + GRACE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What is needed of /proc/PID/stat.
struct Stat {
    parent: u32,
    cpu: f64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field, the name in brackets, may contain spaces.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some(Self { parent: fields.get(1)?.parse().ok()?, cpu: ticks / TICKS_PER_SECOND })
    }
}

/// CPU time of a process and all its living descendants, by process.
fn family_cpu(ancestor: u32) -> Vec<(u32, u64)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: Vec<(u32, Stat)> = pids.filter_map(|pid| Some((pid, Stat::read(pid)?))).collect();
    let mut family = vec![ancestor];
    let mut known = 0;
    while known < family.len() {
        let parent = family[known];
        family.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        known += 1;
    }
    let mut used: Vec<(u32, u64)> = all
        .iter()
        .filter(|(pid, _)| family.contains(pid))
        .map(|(pid, stat)| (*pid, (stat.cpu * TICKS_PER_SECOND) as u64))
        .collect();
    used.sort_unstable();
    used
}
