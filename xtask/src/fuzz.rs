//! The fuzz targets of `fuzz/`, for a bounded time.
//!
//! They are built with the compiler that builds everything else: the coverage that libFuzzer steers by is a pass of LLVM
//! that needs no nightly. `cargo fuzz run --sanitizer none` works on the same directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use toml::{Table, Value};

use crate::workspace::{self, cargo, root, shown, target_dir};

/// What cargo-fuzz passes, without a sanitizer: the crates forbid `unsafe`, so there is little for one to find.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Seconds per input after which a target is stuck.
const TIMEOUT: u32 = 10;
/// Bytes of the longest input that is tried; what there is to find is found with less.
const LONGEST: u32 = 4096;
/// MiB that a target may use.
const MEMORY: u32 = 1024;

/// Run the fuzz targets.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this target.
    target: Option<String>,
    /// For how long each target is run.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Add to the checked-in corpus what reached something new.
    #[arg(long)]
    keep: bool,
}

impl Args {
    /// What CI runs.
    pub(crate) fn ci() -> Self {
        Self { target: None, seconds: 20, keep: false }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let all = targets()?;
    let chosen: Vec<&str> = match &args.target {
        None => all.iter().map(String::as_str).collect(),
        Some(name) if all.contains(name) => vec![name],
        Some(name) => bail!("there is no fuzz target '{name}'; there are {}", all.join(", ")),
    };
    workspace::run(&mut fuzz_cargo(&["fmt", "--check"]))?;
    let host = host()?;
    build(&host, args.target.as_deref())?;
    let mut failed = Vec::new();
    for name in chosen {
        let target = Target::new(name, &host)?;
        if let Err(error) = target.run(args.seconds) {
            println!("{name}: {error:#}");
            failed.push(name);
        } else if args.keep {
            target.keep()?;
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn dir() -> PathBuf {
    root().join("fuzz")
}

/// Apart from the workspace's own: other flags would build everything anew each time.
fn output_dir() -> PathBuf {
    target_dir().join("fuzz")
}

/// `cargo` in the fuzz targets' workspace.
fn fuzz_cargo(args: &[&str]) -> Command {
    let mut command = cargo(args);
    command.current_dir(dir()).env("CARGO_TARGET_DIR", output_dir());
    command
}

/// The names in the manifest, in its order.
fn targets() -> anyhow::Result<Vec<String>> {
    let manifest = dir().join("Cargo.toml");
    let text =
        fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let table: Table = text.parse().with_context(|| format!("{} is not TOML", manifest.display()))?;
    let bins = table.get("bin").and_then(Value::as_array).context("fuzz/Cargo.toml has no [[bin]]")?;
    let names = bins.iter().map(|bin| bin.get("name").and_then(Value::as_str).map(str::to_owned));
    names.collect::<Option<_>>().context("fuzz/Cargo.toml has a [[bin]] without a name")
}

/// The triple has to be named, or build scripts and macros would be instrumented too and could not be linked.
fn host() -> anyhow::Result<String> {
    let version = workspace::output(Command::new("rustc").arg("-vV").current_dir(root()))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

fn build(host: &str, only: Option<&str>) -> anyhow::Result<()> {
    let mut command = fuzz_cargo(&["build", "--release", "--locked", "--target", host]);
    match only {
        Some(name) => command.args(["--bin", name]),
        None => command.arg("--bins"),
    };
    workspace::run(command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")))
}

struct Target {
    name: String,
    program: PathBuf,
    /// Checked in.
    corpus: PathBuf,
    /// What earlier runs found; kept, so that each run starts where the last one ended.
    found: PathBuf,
    /// Inputs that failed.
    artifacts: PathBuf,
    log: PathBuf,
}

impl Target {
    fn new(name: &str, host: &str) -> anyhow::Result<Self> {
        let corpus = dir().join("corpus").join(name);
        let output = output_dir();
        let target = Self {
            name: name.to_owned(),
            program: output.join(host).join("release").join(name),
            found: output.join("corpus").join(name),
            artifacts: dir().join("artifacts").join(name),
            log: output.join(name).with_extension("log"),
            corpus,
        };
        for dir in [&target.corpus, &target.found, &target.artifacts] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(target)
    }

    fn run(&self, seconds: u32) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={TIMEOUT}"),
            format!("-max_len={LONGEST}"),
            format!("-rss_limit_mb={MEMORY}"),
            format!("-artifact_prefix={}/", self.artifacts.display()),
            "-print_final_stats=1".to_owned(),
        ]);
        // libFuzzer writes what it finds to the first.
        command.args([&self.found, &self.corpus]);
        let status = self.logged(&mut command)?;
        let log = String::from_utf8_lossy(&fs::read(&self.log)?).into_owned();
        if !status.success() {
            bail!("{status}\n{}\nthe whole of it is in {}", complaint(&log), self.log.display());
        }
        let of = |key: &str| log.lines().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim);
        println!(
            "{}: {} inputs tried, {} of them new and kept",
            self.name,
            of("stat::number_of_executed_units:"),
            of("stat::new_units_added:")
        );
        Ok(())
    }

    /// Counts of edges and values are left out of account: the corpus is to stay small enough to be read.
    fn keep(&self) -> anyhow::Result<()> {
        let before = count(&self.corpus)?;
        let mut command = Command::new(&self.program);
        command.args(["-merge=1", "-use_counters=0", "-use_value_profile=0"]);
        let status = self.logged(command.args([&self.corpus, &self.found]))?;
        ensure!(status.success(), "{}: merging failed: {status}; see {}", self.name, self.log.display());
        println!("{}: {} files added to {}", self.name, count(&self.corpus)? - before, self.corpus.display());
        Ok(())
    }

    /// libFuzzer says a line per find; they are worth reading only after a failure.
    fn logged(&self, command: &mut Command) -> anyhow::Result<std::process::ExitStatus> {
        println!("$ {}", shown(command));
        let log =
            fs::File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        command.current_dir(dir()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.status().with_context(|| format!("cannot start {}", self.program.display()))
    }
}

/// From the panic, or libFuzzer's own error, to where the input is.
fn complaint(log: &str) -> String {
    let is_error = |line: &&str| line.contains(" panicked at ") || line.contains("ERROR: libFuzzer");
    let is_place = |line: &&str| line.contains("Test unit written to");
    let head = log.lines().skip_while(|line| !is_error(line)).take(4);
    head.chain(log.lines().filter(is_place)).collect::<Vec<_>>().join("\n")
}

fn count(dir: &Path) -> anyhow::Result<usize> {
    Ok(fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_file_and_its_corpus() {
        let names = targets().expect("the manifest is read");
        assert!(!names.is_empty());
        for name in &names {
            assert!(dir().join("fuzz_targets").join(name).with_extension("rs").is_file(), "{name}");
            assert!(count(&dir().join("corpus").join(name)).is_ok_and(|files| files > 0), "{name}");
        }
        let files = count(&dir().join("fuzz_targets")).expect("there are targets");
        assert_eq!(files, names.len(), "a file of fuzz_targets is not in the manifest");
    }

    #[test]
    fn complaints_are_short() {
        let log = "#1 INITED\nthread 'a' (1) panicked at a.rs:1:1:\nassertion failed\n  left: 1\n right: 2\nstack backtrace:\n\
                   artifact_prefix='a/'; Test unit written to a/crash-1\nBase64: eA==\n";
        let expected = "thread 'a' (1) panicked at a.rs:1:1:\nassertion failed\n  left: 1\n right: 2\n\
                        artifact_prefix='a/'; Test unit written to a/crash-1";
        assert_eq!(complaint(log), expected);
        assert_eq!(complaint("#1 INITED\n"), "");
    }
}
