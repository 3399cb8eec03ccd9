//! Every crate can be packaged, and those meant for others say what others need to know.

use anyhow::ensure;
use toml::Value;

use crate::workspace::{self, Member, cargo, members};

const NEEDED: [&str; 4] = ["description", "license", "readme", "keywords"];

pub(crate) fn run() -> anyhow::Result<()> {
    let missing: Vec<String> =
        members()?.iter().filter(|member| member.is_publishable()).flat_map(missing).collect();
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    workspace::run(&mut cargo(&["package", "--workspace", "--allow-dirty", "--locked"]))
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
