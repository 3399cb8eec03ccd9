//! Which crates of the lock file a shim is made of, for the SBOM of the images it is put into.

fn main() {
    #[cfg(feature = "images")]
    if let Err(error) = crates::write() {
        // An SBOM with a hole is worse than no build.
        panic!("the crates of Cargo.lock cannot be listed: {error}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(feature = "images")]
mod crates {
    use std::collections::{BTreeMap, BTreeSet};
    use std::error::Error;
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    use toml::{Table, Value};

    type Result<T> = std::result::Result<T, Box<dyn Error>>;

    const ROOT: &str = "kwsk-shim";

    /// Writes `crates.json` to where the library includes it from.
    pub(crate) fn write() -> Result<()> {
        let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?);
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
        // In the package that is made of the crate, or in the workspace.
        let locks = [here.join("Cargo.lock"), here.join("../../Cargo.lock")];
        let lock = locks.iter().find(|lock| lock.is_file()).ok_or("there is no Cargo.lock")?;
        println!("cargo::rerun-if-changed={}", lock.display());
        let lock = read(lock)?;
        let packages = lock.get("package").and_then(Value::as_array).ok_or("it lists no packages")?;
        let packages: Vec<&Table> = packages.iter().filter_map(Value::as_table).collect();
        let list: Vec<String> = reached(&packages, &here)?.into_iter().map(entry).collect();
        fs::write(out.join("crates.json"), format!("[{}]", list.join(",\n")))?;
        Ok(())
    }

    fn read(path: &Path) -> Result<Table> {
        Ok(fs::read_to_string(path)?.parse()?)
    }

    fn text<'a>(package: &'a Table, key: &str) -> &'a str {
        package.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The packages that the normal, unconditional dependencies of the shim lead to.
    fn reached<'a>(packages: &[&'a Table], here: &Path) -> Result<Vec<&'a Table>> {
        let mut waiting = vec![ROOT.to_owned()];
        let mut found: BTreeMap<(String, String), &Table> = BTreeMap::new();
        while let Some(wanted) = waiting.pop() {
            let (name, version) = wanted.split_once(' ').unwrap_or((&wanted, ""));
            let matching = |package: &&&Table| {
                text(package, "name") == name && (version.is_empty() || text(package, "version") == version)
            };
            let package = packages.iter().find(matching).ok_or_else(|| format!("it lacks {wanted}"))?;
            let key = (name.to_owned(), text(package, "version").to_owned());
            if found.insert(key, package).is_some() {
                continue;
            }
            let of_lock = package.get("dependencies").and_then(Value::as_array);
            let of_lock = of_lock.into_iter().flatten().filter_map(Value::as_str);
            // The lock file does not tell kinds of dependencies apart; the manifests of the workspace do.
            let kept = normal(name, here)?;
            let is_kept = |dependency: &&str| {
                let name = dependency.split(' ').next().unwrap_or_default();
                kept.as_ref().is_none_or(|kept| kept.contains(name))
            };
            waiting.extend(of_lock.filter(is_kept).map(ToOwned::to_owned));
        }
        Ok(found.into_values().collect())
    }

    /// The names of a workspace member's normal and not optional dependencies; `None` for other crates.
    fn normal(name: &str, here: &Path) -> Result<Option<BTreeSet<String>>> {
        let manifest = if name == ROOT {
            here.join("Cargo.toml")
        } else {
            here.join("..").join(name).join("Cargo.toml")
        };
        if !name.starts_with("kwsk-") || !manifest.is_file() {
            return Ok(None);
        }
        println!("cargo::rerun-if-changed={}", manifest.display());
        let manifest = read(&manifest)?;
        let dependencies = manifest.get("dependencies").and_then(Value::as_table);
        let is_optional = |value: &Value| value.get("optional").and_then(Value::as_bool) == Some(true);
        let kept = dependencies.into_iter().flatten().filter(|(_, value)| !is_optional(value));
        Ok(Some(kept.map(|(name, _)| name.clone()).collect()))
    }

    /// Names, versions and checksums have no character that JSON escapes.
    fn entry(package: &Table) -> String {
        let (name, version, checksum) =
            (text(package, "name"), text(package, "version"), text(package, "checksum"));
        let checksum = if checksum.is_empty() { "null".to_owned() } else { format!("\"{checksum}\"") };
        let purl = format!("pkg:cargo/{name}@{version}");
        format!(r#"{{"name":"{name}","version":"{version}","checksum":{checksum},"purl":"{purl}"}}"#)
    }
}
