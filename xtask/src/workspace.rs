//! Where the workspace is, what is in it, and how its commands are started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use toml::{Table, Value};

/// The workspace's root directory.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// `cargo` with arguments, in the root directory.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(variable("CARGO").as_deref().unwrap_or("cargo"));
    command.args(args).current_dir(root());
    // Set for a build script's or `cargo run`'s child, and no business of the next cargo.
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    ensure!(status.success(), "{} failed: {status}", shown(command));
    Ok(())
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}\n{}", shown(command), output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The command line, without the directories.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}

/// An environment variable.
#[expect(
    clippy::disallowed_methods,
    reason = "xtask has no other configuration than cargo's and the user's environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// One crate of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    /// The package's name.
    pub(crate) name: String,
    /// Relative to the root.
    pub(crate) dir: PathBuf,
    /// Its `Cargo.toml`.
    pub(crate) manifest: Table,
}

impl Member {
    /// True unless the manifest says `publish = false`.
    pub(crate) fn is_publishable(&self) -> bool {
        self.manifest.get("package").and_then(|p| p.get("publish")) != Some(&Value::Boolean(false))
    }

    /// The dependency tables: normal, dev, build, and those of targets.
    pub(crate) fn dependency_tables(&self) -> Vec<(&'static str, &Table)> {
        const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
        let targets = self.manifest.get("target").and_then(Value::as_table);
        let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
        let holders = std::iter::once(&self.manifest).chain(targets);
        holders
            .flat_map(|holder| KINDS.map(|kind| (kind, holder.get(kind).and_then(Value::as_table))))
            .filter_map(|(kind, table)| Some((kind, table?)))
            .collect()
    }
}

/// The workspace's crates, in the manifest's order.
pub(crate) fn members() -> anyhow::Result<Vec<Member>> {
    let manifest = read_toml(&root().join("Cargo.toml"))?;
    let members = manifest.get("workspace").and_then(|w| w.get("members")).and_then(Value::as_array);
    let dirs = members.context("Cargo.toml has no workspace.members")?.iter().filter_map(Value::as_str);
    dirs.map(|dir| {
        let manifest = read_toml(&root().join(dir).join("Cargo.toml"))?;
        let name = manifest.get("package").and_then(|p| p.get("name")).and_then(Value::as_str);
        let name = name.with_context(|| format!("{dir} has no package name"))?.to_owned();
        Ok(Member { name, dir: dir.into(), manifest })
    })
    .collect()
}

fn read_toml(path: &Path) -> anyhow::Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", path.display()))
}

/// Every file that is, or could be, in version control, relative to the root.
pub(crate) fn files() -> anyhow::Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(root());
    let mut files = match output(&mut git) {
        Ok(list) => {
            list.split_terminator('\0').map(PathBuf::from).filter(|f| root().join(f).is_file()).collect()
        }
        Err(_) => walked(root())?,
    };
    files.sort();
    files.dedup();
    Ok(files)
}

/// The same for an unpacked archive.
fn walked(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    const SKIPPED: [&str; 4] = [".git", "target", "node_modules", "__pycache__"];
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
            files.extend(walked(&entry.path())?);
        } else if kind.is_file() {
            files.extend(entry.path().strip_prefix(root()).map(Path::to_path_buf));
        }
    }
    Ok(files)
}

/// The user's cache directory for things of kwsk.
pub(crate) fn cache_dir() -> anyhow::Result<PathBuf> {
    let base = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("kwsk"))
}
