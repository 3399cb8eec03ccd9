//! Licences, duplicates and sources of the dependencies.

use std::process::Stdio;

use crate::workspace::{self, cache_dir, cargo};

const VERSION: &str = "0.20.2";

/// Check the dependencies.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Also check for known vulnerabilities. Needs the advisory database, which is fetched by git.
    #[arg(long)]
    advisories: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !is_installed() {
        install()?;
    }
    let mut command = cargo(&["deny", "--workspace", "--locked", "check", "bans", "licenses", "sources"]);
    if args.advisories {
        command.arg("advisories");
    }
    workspace::run(&mut command)
}

fn is_installed() -> bool {
    let mut probe = cargo(&["deny", "--version"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Unoptimised, because it is built more often than it runs long.
fn install() -> anyhow::Result<()> {
    let mut command = cargo(&["install", "--locked", "--profile", "dev", "cargo-deny", "--version", VERSION]);
    workspace::run(command.env("CARGO_TARGET_DIR", cache_dir()?.join("cargo-deny")))
}
