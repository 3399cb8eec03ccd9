//! Every crate can be packaged, and those meant for others say what others need to know.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use toml::Value;

use crate::workspace::{self, Member, cargo, members};

const NEEDED: [&str; 4] = ["description", "license", "readme", "keywords"];

pub(crate) fn run() -> anyhow::Result<()> {
    let missing: Vec<String> =
        members()?.iter().filter(|member| member.is_publishable()).flat_map(missing).collect();
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    forget_earlier()?;
    workspace::run(&mut cargo(&["package", "--workspace", "--allow-dirty", "--locked"]))
}

/// Verification reads our crates from a registry that cargo makes for the occasion, and registries are taken to never
/// change: what an earlier run at the same place unpacked and compiled would be used again, however old.
fn forget_earlier() -> anyhow::Result<()> {
    let home = workspace::variable("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| workspace::variable("HOME").map(|home| Path::new(&home).join(".cargo")));
    let sources = home.map(|home| home.join("registry/src"));
    let occasional = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('-'));
    let unpacked = sources.iter().flat_map(|dir| entries(dir)).filter(occasional);
    let compiled = workspace::target_dir().join("debug/.fingerprint");
    for directory in unpacked.chain([compiled]) {
        for ours in entries(&directory) {
            if ours.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kwsk-")) {
                fs::remove_dir_all(&ours).with_context(|| format!("cannot remove {}", ours.display()))?;
            }
        }
    }
    Ok(())
}

/// What is in a directory; nothing when there is none.
fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn missing(member: &Member) -> Vec<String> {
    let package = member.manifest.get("package").and_then(Value::as_table);
    let has = |key: &str| package.is_some_and(|package| package.contains_key(key));
    let mut missing: Vec<String> = NEEDED
        .iter()
        .filter(|key| !has(key))
        .map(|key| format!("{}: package.{key} is missing", member.name))
        .collect();
    let readme = package.and_then(|p| p.get("readme")).and_then(Value::as_str);
    if readme.is_some_and(|readme| !workspace::root().join(&member.dir).join(readme).is_file()) {
        missing.push(format!("{}: the readme is not there", member.name));
    }
    missing
}
