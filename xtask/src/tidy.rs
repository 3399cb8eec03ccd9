//! What rustc does not check: crate direction, inherited settings, links, leftovers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use regex::Regex;
use toml::{Table, Value};

use crate::workspace::{Member, cargo, files, members, output, root};

/// Which crates may not be among the normal dependencies of which, however indirectly.
const ABSENT: [(&str, &[&str]); 5] = [
    (
        "kwsk-model",
        &["tokio", "http", "hyper", "reqwest", "axum", "kube", "kube-core", "kube-client", "k8s-openapi"],
    ),
    ("kwsk-translate", &["tokio", "reqwest", "hyper", "axum", "kube-client"]),
    ("kwsk-shim", &["kwsk-knative", "kwsk-server", "axum", "reqwest", "kube-client"]),
    ("kwsk-knative", &["kwsk-server", "axum"]),
    ("xtask", &["kwsk-model", "kwsk-translate", "kwsk-shim", "kwsk-knative", "kwsk-server"]),
];

/// What is not to be left behind. Put together here so that this file does not contain them.
const LEFTOVERS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/home/", "us"),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let members = members()?;
    let mut faults = Vec::new();
    faults.extend(direction(&members)?);
    faults.extend(members.iter().flat_map(settings));
    faults.extend(links()?);
    faults.extend(leftovers()?);
    ensure!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    println!("{} crates are tidy", members.len());
    Ok(())
}

fn direction(members: &[Member]) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for (name, absent) in ABSENT {
        ensure!(members.iter().any(|member| member.name == name), "the workspace has no {name}");
        let tree = ["tree", "--locked", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}"];
        let tree = output(&mut cargo(&tree))?;
        let present: BTreeSet<&str> =
            tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let present = absent.iter().filter(|unwanted| present.contains(*unwanted));
        faults.extend(present.map(|unwanted| format!("{name} depends on {unwanted}")));
    }
    Ok(faults)
}

/// Edition, lints and the versions of dependencies come from the workspace.
fn settings(member: &Member) -> Vec<String> {
    let mut faults = Vec::new();
    let name = &member.name;
    let package = member.manifest.get("package").and_then(Value::as_table);
    for key in ["edition", "rust-version", "license"] {
        if !package.and_then(|p| p.get(key)).is_some_and(is_inherited) {
            faults.push(format!("{name}: package.{key} is not the workspace's"));
        }
    }
    if !member.manifest.get("lints").is_some_and(is_inherited) {
        faults.push(format!("{name}: lints are not the workspace's"));
    }
    for (kind, dependencies) in member.dependency_tables() {
        let own = dependencies.iter().filter(|(_, dependency)| !is_inherited(dependency));
        faults
            .extend(own.map(|(dependency, _)| format!("{name}: {kind}.{dependency} is not the workspace's")));
    }
    faults
}

fn is_inherited(value: &Value) -> bool {
    value.as_table().and_then(|table: &Table| table.get("workspace")) == Some(&Value::Boolean(true))
}

/// Relative links in Markdown lead to a file, and those with a fragment to a heading of it.
fn links() -> anyhow::Result<Vec<String>> {
    let link = Regex::new(r"\]\(<?([^)\s>]+)>?(?:\s+[^)]*)?\)")?;
    let code = Regex::new(r"(?ms)^ *```.*?^ *```|`[^`\n]*`")?;
    let mut faults = Vec::new();
    for file in files()?.iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(root().join(file))?;
        let text = code.replace_all(&text, "");
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if !target.contains("://") && !target.starts_with("mailto:") && !leads(file, &target) {
                faults.push(format!("{}: the link to {target} leads nowhere", file.display()));
            }
        }
    }
    Ok(faults)
}

fn leads(from: &Path, target: &str) -> bool {
    let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
    let beside = root().join(from);
    let path = if path.is_empty() { beside } else { beside.with_file_name("").join(path) };
    if fragment.is_empty() {
        return path.exists();
    }
    let headings = fs::read_to_string(path).unwrap_or_default();
    headings.lines().filter(|line| line.starts_with('#')).any(|heading| anchor(heading) == fragment)
}

/// How a heading is linked to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn leftovers() -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in files()? {
        let bytes =
            fs::read(root().join(&file)).with_context(|| format!("cannot read {}", file.display()))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (number, line) in text.lines().enumerate() {
            let found = LEFTOVERS.iter().filter(|leftover| line.contains(**leftover));
            faults.extend(found.map(|leftover| format!("{}:{}: {leftover}", file.display(), number + 1)));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_have_anchors() {
        assert_eq!(anchor("## What is stored, where"), "what-is-stored-where");
        assert_eq!(anchor("# `kwsk-shim`"), "kwsk-shim");
    }

    #[test]
    fn links_lead_to_files_and_headings() {
        assert!(leads(Path::new("xtask/Cargo.toml"), "../Cargo.toml"));
        assert!(!leads(Path::new("xtask/Cargo.toml"), "../Cargo.tom"));
    }
}
