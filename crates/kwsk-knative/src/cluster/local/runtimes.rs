//! Which runtimes this machine can start, and what protects it from them.

use std::path::{Path, PathBuf};

use kwsk_model::runtimes::{RuntimeKind, RuntimesManifest};
use kwsk_shim::Features;

/// Whether one kind can be started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFinding {
    /// The kind.
    pub kind: String,
    /// The program, or why there is none. Its version is not asked for: starting an interpreter takes longer than
    /// starting the server.
    pub available: Result<String, String>,
}

/// Where programs are looked for: the `PATH` of this process.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "PATH is the machine's, not kwsk's configuration")]
pub fn search_path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned())
}

/// The kinds of `manifest` this machine can start, and what was found out about each. A family whose default cannot be
/// started gets another one; a family without any is left out, so that a PUT of such a kind says so at once.
#[must_use]
pub fn detect(manifest: &RuntimesManifest) -> (RuntimesManifest, Vec<RuntimeFinding>) {
    let path = search_path();
    let findings: Vec<RuntimeFinding> = manifest
        .kinds()
        .map(|kind| RuntimeFinding { kind: kind.kind.clone(), available: program_of(kind, &path) })
        .collect();
    let usable = |kind: &RuntimeKind| findings.iter().any(|f| f.kind == kind.kind && f.available.is_ok());
    let mut kept = manifest.clone();
    kept.families.retain(|_, kinds| {
        kinds.retain(usable);
        if !kinds.is_empty() && !kinds.iter().any(|k| k.default) {
            kinds[0].default = true;
        }
        !kinds.is_empty()
    });
    (kept, findings)
}

fn program_of(kind: &RuntimeKind, path: &str) -> Result<String, String> {
    let command = kind.command.as_ref().ok_or("it needs a container image")?;
    let program = command.argv.first().ok_or("its command is empty")?;
    if program.starts_with('{') {
        return Ok("built in".to_owned());
    }
    let found = find_program(program, path).ok_or_else(|| format!("'{program}' is not on PATH"))?;
    Ok(found.display().to_string())
}

fn find_program(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).is_file().then(|| program.into());
    }
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// The protections that are on, in words.
pub(crate) fn feature_words(features: Features) -> Vec<String> {
    let Features { process_groups, rlimits, nproc, memory_watchdog, memory_cgroup } = features;
    [
        (process_groups, "process groups"),
        (rlimits, "open-file limits"),
        (nproc, "process limits"),
        (memory_watchdog, "memory watchdog"),
        (memory_cgroup, "memory cgroups"),
    ]
    .into_iter()
    .filter(|(on, _)| *on)
    .map(|(_, word)| word.to_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_drop_their_kinds() {
        let manifest = RuntimesManifest::parse(
            r#"{"runtimes":{
              "sh":[{"kind":"sh:1","default":true,"image":{"name":"x"},"command":{"protocol":"actionloop","argv":["no-such-program"]}},
                    {"kind":"sh:2","image":{"name":"x"},"command":{"protocol":"actionloop","argv":["sh"]}}],
              "php":[{"kind":"php:8","image":{"name":"x"}}]}}"#,
        )
        .unwrap();
        let (kept, findings) = detect(&manifest);
        assert_eq!(kept.kinds().map(|k| k.kind.as_str()).collect::<Vec<_>>(), ["sh:2"]);
        assert_eq!(kept.resolve("sh:default").unwrap().kind, "sh:2");
        let reason = |kind: &str| findings.iter().find(|f| f.kind == kind).unwrap().available.clone();
        assert_eq!(reason("sh:1"), Err("'no-such-program' is not on PATH".to_owned()));
        assert_eq!(reason("php:8"), Err("it needs a container image".to_owned()));
    }
}
