//! Debian packages with all they depend on, without installing anything: fetched by apt, kept by digest.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::workspace::{cache_dir, output};

/// One package file, as apt's lists describe it.
struct Deb {
    /// `name_version_architecture.deb`.
    file: String,
    sha256: String,
}

/// Puts packages and all that they depend on into a directory.
pub(crate) fn closure(packages: &[&str], into: &Path) -> anyhow::Result<()> {
    fetch("install", packages, into)
}

/// The certificates of Debian's `ca-certificates`, one after the other.
pub(super) fn authorities(work: &Path) -> anyhow::Result<Vec<u8>> {
    let (debs, files) = (work.join("authorities"), work.join("authorities-files"));
    fetch("download", &["ca-certificates"], &debs)?;
    let deb = entries(&debs)?.into_iter().next().context("ca-certificates was not fetched")?;
    output(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&files))?;
    let mut bundle = Vec::new();
    for certificate in entries(&files.join("usr/share/ca-certificates/mozilla"))? {
        bundle.extend(fs::read(certificate)?);
    }
    ensure!(!bundle.is_empty(), "ca-certificates has no certificates where they are looked for");
    Ok(bundle)
}

fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn fetch(how: &str, packages: &[&str], into: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let debs = listed(how, packages, scratch.path())?;
    let kept = cache_dir()?.join("debs");
    fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    let place = |deb: &Deb| kept.join(format!("{}.deb", deb.sha256));
    if !debs.iter().all(|deb| is_whole(&place(deb), deb)) {
        let mut download = apt(scratch.path())?;
        download.args(["--quiet", "--yes"]).current_dir(scratch.path().join("archives"));
        if how == "install" {
            download.arg("--download-only");
        }
        output(download.arg(how).args(packages))?;
        for deb in &debs {
            let fetched = scratch.path().join("archives").join(&deb.file);
            ensure!(is_whole(&fetched, deb), "{} is not what apt's lists say; run apt-get update", deb.file);
            // Beside its final name, so that nobody sees half of it.
            let beside = kept.join(format!("{}.{}", deb.sha256, std::process::id()));
            fs::copy(&fetched, &beside).with_context(|| format!("cannot write {}", beside.display()))?;
            fs::rename(&beside, place(deb))?;
        }
    }
    fs::create_dir_all(into)?;
    for deb in &debs {
        fs::copy(place(deb), into.join(&deb.file)).with_context(|| format!("cannot copy {}", deb.file))?;
    }
    Ok(())
}

/// True when the file is there and has the digest of the lists.
fn is_whole(path: &Path, deb: &Deb) -> bool {
    fs::read(path).is_ok_and(|bytes| {
        let digits: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        digits == deb.sha256
    })
}

/// apt-get on a system where nothing is installed.
fn apt(scratch: &Path) -> anyhow::Result<Command> {
    fs::create_dir_all(scratch.join("archives/partial"))?;
    fs::write(scratch.join("status"), "")?;
    let mut apt = Command::new("apt-get");
    for option in options(scratch) {
        apt.arg("-o").arg(option);
    }
    Ok(apt)
}

fn options(scratch: &Path) -> [String; 5] {
    let scratch = scratch.display();
    [
        format!("Dir::State::status={scratch}/status"),
        format!("Dir::Cache::archives={scratch}/archives"),
        // Whoever builds images need not be root.
        "Debug::NoLocking=1".to_owned(),
        "APT::Install-Recommends=0".to_owned(),
        "APT::Sandbox::User=".to_owned(),
    ]
}

/// Which package files are needed, with their digests.
fn listed(how: &str, packages: &[&str], scratch: &Path) -> anyhow::Result<Vec<Deb>> {
    let uris = output(apt(scratch)?.args(["--print-uris", "-qq", "--yes", how]).args(packages))
        .context("apt knows not all packages; run apt-get update")?;
    // 'URI' file size hash
    let files: Vec<&str> = uris
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    ensure!(!files.is_empty(), "apt names no files for {}; run apt-get update", packages.join(", "));
    let named = files.iter().map(|file| {
        let mut parts = file.trim_end_matches(".deb").splitn(3, '_');
        let (Some(name), Some(version)) = (parts.next(), parts.next()) else {
            bail!("apt names a file '{file}'")
        };
        Ok(format!("{name}={}", version.replace("%3a", ":")))
    });
    let named = named.collect::<anyhow::Result<Vec<String>>>()?;
    let mut show = Command::new("apt-cache");
    for option in options(scratch) {
        show.arg("-o").arg(option);
    }
    let sums = sums(&output(show.arg("show").args(&named))?);
    let debs = files.iter().zip(&named).map(|(file, named)| {
        let sha256 = sums.get(named).with_context(|| format!("apt's lists have no SHA256 of {named}"))?;
        Ok(Deb { file: (*file).to_owned(), sha256: sha256.clone() })
    });
    debs.collect()
}

/// `name=version` and SHA-256 of what `apt-cache show` prints.
fn sums(shown: &str) -> HashMap<String, String> {
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(ToOwned::to_owned)
    };
    let each = shown.split("\n\n").filter_map(|paragraph| {
        let named = format!("{}={}", field(paragraph, "Package")?, field(paragraph, "Version")?);
        Some((named, field(paragraph, "SHA256")?))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_by_name_and_version() {
        let shown = "Package: a\nVersion: 1:2\nSHA256: 00\n\nPackage: b\nVersion: 3\nDescription: x\n y\nSHA256: 11\n";
        let sums = sums(shown);
        assert_eq!((sums["a=1:2"].as_str(), sums["b=3"].as_str(), sums.len()), ("00", "11", 2));
    }
}
