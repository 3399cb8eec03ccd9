//! Processes and directories a killed server left behind.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process_group};

/// Prefix of every process's directory in the work root.
pub(crate) const DIRECTORY_PREFIX: &str = "run-";

/// Writes down which process uses `directory`, beside it.
pub(crate) fn record(directory: &Path, pid: u32) -> std::io::Result<()> {
    let started = start_time(pid).unwrap_or_default();
    fs::write(directory.with_extension("pid"), format!("{pid} {started}\n"))
}

/// Forgets it again.
pub(crate) fn forget(directory: &Path) {
    // The record may never have been written, and the directory may be on its way out with it.
    fs::remove_file(directory.with_extension("pid")).ok();
}

/// Kills every runtime that an earlier owner of `work_root` left running, and removes the directories of all.
/// A process is only killed when its start time is the recorded one, so a reused id harms nobody. Returns how many
/// groups were killed. Call it before a launchpad is made on the same root.
pub fn reap_leftovers(work_root: &Path) -> usize {
    let Ok(entries) = fs::read_dir(work_root) else { return 0 };
    let mut killed = 0;
    let mut directories = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|e| e == "pid") {
            killed += usize::from(reap(&path));
            fs::remove_file(&path).ok();
        } else if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(DIRECTORY_PREFIX)) {
            directories.push(path);
        }
    }
    for path in directories {
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "a leftover work directory cannot be removed");
        }
    }
    killed
}

fn reap(record: &Path) -> bool {
    let Ok(text) = fs::read_to_string(record) else { return false };
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|w| w.parse::<u32>().ok());
    let started = words.next().and_then(|w| w.parse::<u64>().ok());
    let (Some(pid), Some(started)) = (pid, started) else { return false };
    let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match group {
        Some(group) if start_time(pid) == Some(started) => kill_process_group(group, Signal::KILL).is_ok(),
        _ => false,
    }
}

/// Field 22 of `/proc/<pid>/stat`: when the process started, in clock ticks since boot.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat_field(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, 22)
}

/// A numeric field of `/proc/<pid>/stat`, counted from 1. The second one is in parentheses and may hold anything.
pub(crate) fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2";
        assert_eq!(stat_field(stat, 4), Some(1));
        assert_eq!(stat_field(stat, 5), Some(7));
        assert_eq!(stat_field(stat, 22), Some(12345));
        assert_eq!(stat_field(stat, 90), None);
        assert_eq!(stat_field("nothing", 5), None);
    }

    #[test]
    fn only_the_recorded_process_is_killed() {
        let root = tempfile::tempdir().unwrap();
        let own = std::process::id();
        fs::write(root.path().join("run-a.pid"), format!("{own} 1\n")).unwrap();
        fs::write(root.path().join("run-b.pid"), "nonsense").unwrap();
        fs::create_dir(root.path().join("run-a")).unwrap();
        fs::create_dir(root.path().join("launchers")).unwrap();
        assert_eq!(reap_leftovers(root.path()), 0);
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["launchers"]);
    }
}
