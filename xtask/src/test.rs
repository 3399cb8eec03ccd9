//! The workspace's tests.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use regex::Regex;

use crate::workspace::{cargo, files, root, shown, target_dir};

/// Run the workspace's tests.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// How many tests passed and failed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    pub(crate) fn summary(self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// An error when something failed.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        ensure!(self.failed == 0, "{} tests failed", self.failed);
        Ok(())
    }
}

/// `counts` grows whether or not the tests pass.
pub(crate) fn run(args: &Args, counts: &mut Counts) -> anyhow::Result<()> {
    let snapshots = Snapshots::new()?;
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--locked"]);
    command.args(args.filter.as_deref());
    snapshots.record(&mut command, "no");
    run_and_count(&mut command, counts)?;
    snapshots.check(args.filter.is_none())
}

/// Runs `cargo test`, adds its results to `counts`, and fails if some of its tests did.
pub(crate) fn run_and_count(command: &mut Command, counts: &mut Counts) -> anyhow::Result<()> {
    let own = run_cargo_test(command)?;
    counts.add(own);
    own.check()
}

/// Runs `cargo test`, showing and counting its results.
pub(crate) fn run_cargo_test(command: &mut Command) -> anyhow::Result<Counts> {
    println!("$ {}", shown(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no stdout")?;
    let result = Regex::new(r"^test result: .* (\d+) passed; (\d+) failed;")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(found) = result.captures(&line) {
            counts.passed += found[1].parse::<u64>()?;
            counts.failed += found[2].parse::<u64>()?;
        }
    }
    let status = child.wait()?;
    println!("{}", counts.summary());
    if counts.failed == 0 && !status.success() {
        bail!("cargo test failed: {status}");
    }
    Ok(counts)
}

/// insta's files: which exist, and which the tests refer to.
pub(crate) struct Snapshots {
    references: PathBuf,
}

impl Snapshots {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let references = target_dir().join("snapshot-references");
        fs::create_dir_all(target_dir())?;
        fs::write(&references, "")?;
        Ok(Self { references })
    }

    /// Makes a test run say which snapshots it refers to, and update them or not.
    pub(crate) fn record(&self, command: &mut Command, update: &str) {
        command.env("INSTA_UPDATE", update).env("INSTA_WORKSPACE_ROOT", root());
        command.env("INSTA_SNAPSHOT_REFERENCES_FILE", &self.references).env_remove("INSTA_FORCE_PASS");
    }

    /// Fails on pending snapshots and, after a `complete` run, on those that no test refers to.
    pub(crate) fn check(&self, complete: bool) -> anyhow::Result<()> {
        let pending = pending()?;
        ensure!(pending.is_empty(), "pending snapshots: {pending:?}");
        let unreferenced = if complete { self.unreferenced()? } else { Vec::new() };
        ensure!(unreferenced.is_empty(), "no test refers to {unreferenced:?}; `cargo xtask golden --accept`");
        Ok(())
    }

    /// Snapshots that no test refers to.
    pub(crate) fn unreferenced(&self) -> anyhow::Result<Vec<PathBuf>> {
        let references = fs::read_to_string(&self.references)?;
        let referenced: HashSet<PathBuf> =
            references.lines().filter_map(|line| root().join(line).canonicalize().ok()).collect();
        let snapshots = files()?.into_iter().filter(|file| file.extension().is_some_and(|e| e == "snap"));
        let snapshots = snapshots.filter_map(|file| root().join(file).canonicalize().ok());
        Ok(snapshots.filter(|file| !referenced.contains(file)).collect())
    }
}

/// Snapshots that wait for a decision; git does not know them.
fn pending() -> anyhow::Result<Vec<PathBuf>> {
    let dirs: HashSet<PathBuf> = files()?
        .iter()
        .filter(|file| file.extension().is_some_and(|e| e == "snap" || e == "rs"))
        .flat_map(|file| [file.parent(), file.parent().and_then(|p| p.parent())])
        .flatten()
        .flat_map(|dir| [root().join(dir), root().join(dir).join("snapshots")])
        .collect();
    let mut pending = Vec::new();
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.to_string_lossy();
            if name.ends_with(".snap.new") || name.ends_with(".pending-snap") {
                pending.push(path);
            }
        }
    }
    Ok(pending)
}
