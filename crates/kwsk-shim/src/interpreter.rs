//! Which program a launcher's interpreter really is.
//!
//! Version managers put scripts named `python3` and `node` on the `PATH`. Starting through them costs a shell each time,
//! and what they choose may depend on variables that runtimes are not given; so the interpreter itself is asked once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::process::find;
use crate::runtime::Runtime;

const ASK_WAIT: Duration = Duration::from_secs(10);

/// What was found out, by the name that was looked for. `None`: the name is good as it is.
#[derive(Debug, Default)]
pub(crate) struct Interpreters(Mutex<HashMap<String, Arc<OnceCell<Option<String>>>>>);

impl Interpreters {
    /// Replaces `argv[0]` of one of our launchers by the program behind it, if that is another.
    pub(crate) async fn resolve(&self, runtime: &Runtime, path: &str, argv: &mut [String]) {
        let (Some(name), Some(question)) = (argv.first_mut(), question(runtime)) else { return };
        // Whoever names a file means that file.
        if name.contains('/') {
            return;
        }
        let cell = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(name.clone()).or_default())
        };
        if let Some(real) = cell.get_or_init(|| behind(find(name, path), question, path)).await {
            name.clone_from(real);
        }
    }
}

/// The arguments that make the interpreter print where it is.
fn question(runtime: &Runtime) -> Option<&'static [&'static str]> {
    let runs = |launcher: &str| runtime.command.argv.iter().any(|a| a == launcher);
    if runs("{launcher:python}") {
        Some(&["-c", "import sys; print(sys.executable)"])
    } else if runs("{launcher:node}") {
        Some(&["-p", "process.execPath"])
    } else {
        None
    }
}

/// The program that the script `found` starts; `None` when it is no script or does not say.
async fn behind(found: PathBuf, question: &[&str], path: &str) -> Option<String> {
    if !is_script(&found).await {
        return None;
    }
    let mut command = tokio::process::Command::new(&found);
    command.args(question).env("PATH", path).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let answer = match timeout(ASK_WAIT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => String::from_utf8(output.stdout).ok(),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    };
    let real = answer.map(|text| text.trim().to_owned()).filter(|text| text.starts_with('/'));
    match &real {
        Some(real) => tracing::debug!(script = %found.display(), %real, "an interpreter was found"),
        None => {
            tracing::warn!(script = %found.display(), "a script does not say which interpreter it starts")
        }
    }
    real
}

async fn is_script(program: &Path) -> bool {
    let mut magic = [0; 2];
    match tokio::fs::File::open(program).await {
        Ok(mut file) => file.read_exact(&mut magic).await.is_ok() && magic == *b"#!",
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kwsk_model::runtimes::{Protocol, RuntimeCommand};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn launcher(program: &str, launcher: &str) -> Runtime {
        let command = RuntimeCommand {
            protocol: Protocol::Actionloop,
            argv: vec![program.to_owned(), launcher.to_owned()],
            env: std::collections::BTreeMap::new(),
            prewarm: true,
            concurrent: true,
        };
        Runtime::new("test:1", command)
    }

    /// A directory with a script `python3` that counts how often it is started and says it is `answer`.
    fn manager(answer: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("python3");
        let count = dir.path().join("count");
        fs::write(&script, format!("#!/bin/sh\necho >> '{}'\n{answer}\n", count.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[tokio::test]
    async fn scripts_are_asked_once() {
        for (answer, expected) in
            [("echo /real/python", "/real/python"), ("echo nothing", "python3"), ("exit 1", "python3")]
        {
            let dir = manager(answer);
            let (interpreters, path) = (Interpreters::default(), dir.path().to_string_lossy());
            for _ in 0..2 {
                let mut argv = vec!["python3".to_owned(), "x".to_owned()];
                interpreters.resolve(&launcher("python3", "{launcher:python}"), &path, &mut argv).await;
                assert_eq!(argv, [expected, "x"]);
            }
            assert_eq!(fs::read_to_string(dir.path().join("count")).unwrap(), "\n");
        }
    }

    #[tokio::test]
    async fn others_are_left_alone() {
        let dir = manager("echo /real/python");
        let path = dir.path().to_string_lossy();
        let absolute = dir.path().join("python3").to_string_lossy().into_owned();
        for (program, file, path) in [
            ("sh", "{launcher:python}", "/bin"),
            ("python3", "{launcher:python}", "/nonexistent"),
            ("python3", "{launcher:other}", &*path),
            (&*absolute, "{launcher:python}", &*path),
        ] {
            let mut argv = vec![program.to_owned()];
            Interpreters::default().resolve(&launcher(program, file), path, &mut argv).await;
            assert_eq!(argv, [program]);
        }
        assert!(!dir.path().join("count").exists());
    }
}
