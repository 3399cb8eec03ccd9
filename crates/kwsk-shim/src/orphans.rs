//! What the first process of a container has to do: take in processes whose parents are gone, bury those that ended,
//! and leave none behind that slipped out of its runtime's process group.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, set_child_subreaper, waitid, waitpid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::leftovers::stat_field;

/// A zombie that nobody has waited for after this long is nobody's.
const UNCLAIMED: Duration = Duration::from_millis(200);
/// Looks for strays; what forks faster than that many kills is left to the memory limit.
const ROUNDS: u32 = 60;
const ROUND: Duration = Duration::from_millis(2);

/// One line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) zombie: bool,
}

/// Every process that can be seen.
pub(crate) fn table() -> Vec<Entry> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| entry(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

fn entry(pid: u32, stat: &str) -> Option<Entry> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let number = |field| stat_field(stat, field).and_then(|n| u32::try_from(n).ok());
    Some(Entry { pid, parent: number(4)?, group: number(5)?, zombie: rest.starts_with(['Z', 'X']) })
}

/// From now on processes whose parents end become children of this one, as they do of a container's first.
pub(crate) fn adopt() -> io::Result<()> {
    set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)
}

/// Buries adopted processes, for ever. `is_owned` tells which children someone else waits for.
pub(crate) async fn bury(is_owned: impl Fn(u32) -> bool) {
    let Ok(mut ended) = signal(SignalKind::child()) else {
        tracing::warn!("adopted processes are not waited for: SIGCHLD cannot be handled");
        return;
    };
    while ended.recv().await.is_some() {
        let mut seen = HashSet::new();
        loop {
            let zombies = unclaimed(&is_owned);
            for pid in zombies.intersection(&seen) {
                // Another may have been quicker.
                waitpid(to_pid(*pid), WaitOptions::NOHANG).ok();
            }
            if zombies.is_empty() {
                break;
            }
            seen = zombies;
            tokio::time::sleep(UNCLAIMED).await;
        }
    }
}

fn unclaimed(is_owned: &impl Fn(u32) -> bool) -> HashSet<u32> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, look), Ok(Some(_))) {
        return HashSet::new();
    }
    let own = std::process::id();
    let zombies = table().into_iter().filter(|e| e.zombie && e.parent == own && !is_owned(e.pid));
    zombies.map(|e| e.pid).collect()
}

/// Kills every descendant of this process that is neither one of `keep` nor below one.
pub(crate) async fn kill_strays(keep: &[u32]) {
    for _ in 0..ROUNDS {
        let strays = strays(&table(), std::process::id(), keep);
        if strays.is_empty() {
            return;
        }
        for pid in strays.into_iter().filter_map(to_pid) {
            // It may have ended meanwhile.
            kill_process(pid, Signal::KILL).ok();
        }
        tokio::time::sleep(ROUND).await;
    }
    tracing::warn!("processes that a runtime started keep appearing after its end");
}

fn strays(table: &[Entry], own: u32, keep: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<&Entry>> = HashMap::new();
    for entry in table {
        children.entry(entry.parent).or_default().push(entry);
    }
    let mut found = Vec::new();
    let mut parents = vec![own];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if !keep.contains(&child.pid) {
                parents.push(child.pid);
                found.extend((!child.zombie).then_some(child.pid));
            }
        }
    }
    found
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let stat = "7 (a) Z b) S 1 9 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2";
        assert_eq!(entry(7, stat), Some(Entry { pid: 7, parent: 1, group: 9, zombie: false }));
        assert!(entry(7, "7 (a) Z 1 9").unwrap().zombie);
        assert_eq!(entry(7, "7 (a) R x 9"), None);
        assert_eq!(entry(7, "nonsense"), None);
        assert!(table().iter().any(|e| e.pid == std::process::id() && !e.zombie));
    }

    #[test]
    fn strays_are_those_below_us_and_below_nobody_else() {
        let entry = |pid, parent, zombie| Entry { pid, parent, group: pid, zombie };
        let table = [
            entry(1, 0, false),
            entry(2, 1, false),
            entry(10, 2, false),
            entry(11, 10, false),
            entry(20, 2, true),
            entry(21, 20, false),
            entry(30, 1, false),
        ];
        let sorted = |keep: &[u32]| {
            let mut all = strays(&table, 2, keep);
            all.sort_unstable();
            all
        };
        assert_eq!(sorted(&[]), [10, 11, 21]);
        assert_eq!(sorted(&[10]), [21]);
        assert_eq!(sorted(&[10, 20]), [] as [u32; 0]);
    }
}
