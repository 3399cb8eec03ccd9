//! The directory for code and launchers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

const PREFIX: &str = "kwsk-shim-";

/// A directory of this process alone, removed when dropped.
#[derive(Debug)]
pub(crate) struct Work {
    directory: tempfile::TempDir,
    /// Held while the process lives; others see by it that the directory is in use.
    _lock: File,
}

impl Work {
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// In the first of `parents` that can be written and, if there is one, whose programs can be run. The error says
    /// what became of each.
    pub(crate) fn within(parents: &[PathBuf]) -> Result<Self, String> {
        let (good, no_programs): (Vec<_>, Vec<_>) = parents.iter().partition(|parent| runs_programs(parent));
        let mut tried = Vec::new();
        for parent in good.into_iter().chain(no_programs) {
            match Self::create(parent) {
                Ok(work) => return Ok(work),
                Err(error) => tried.push(format!("{} ({})", parent.display(), error.kind())),
            }
        }
        Err(format!(
            "No directory can be written: {}; mount an emptyDir at /tmp or name another directory with --work.",
            tried.join(", ")
        ))
    }

    fn create(parent: &Path) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::open(directory.path())?;
        lock.lock()?;
        remove_unused(parent, directory.path());
        Ok(Self { directory, _lock: lock })
    }
}

fn runs_programs(parent: &Path) -> bool {
    statvfs(parent).is_ok_and(|system| !system.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// A volume survives the container: whoever was killed there left its directory behind.
fn remove_unused(parent: &Path, own: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if path == own || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if File::open(&path).is_ok_and(|directory| directory.try_lock().is_ok()) {
            // Another user's stays.
            fs::remove_dir_all(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_that_can_be_written() {
        let good = tempfile::tempdir().unwrap();
        let work = Work::within(&["/nonexistent".into(), good.path().into()]).unwrap();
        assert!(work.path().starts_with(good.path()));
        let error = Work::within(&["/nonexistent".into(), "/proc".into()]).unwrap_err();
        assert!(
            error.contains("/nonexistent (") && error.contains("/proc (") && error.contains("--work"),
            "{error}"
        );
    }

    #[test]
    fn what_nobody_uses_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir_all(parent.path().join("kwsk-shim-dead/launchers")).unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        let parents = [parent.path().to_owned()];
        let first = Work::within(&parents).unwrap();
        let second = Work::within(&parents).unwrap();
        assert!(first.path().is_dir() && second.path().is_dir());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 3);
        drop((first, second));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
