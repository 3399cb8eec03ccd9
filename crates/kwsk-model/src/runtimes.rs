//! The runtimes manifest: upstream's format plus how to start each kind as a process.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the right shape.
    #[error("the runtimes manifest cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// A family without exactly one default.
    #[error("runtime family '{0}' must have exactly one default kind")]
    Default(String),
    /// The same kind twice.
    #[error("runtime kind '{0}' is defined twice")]
    Duplicate(String),
}

/// `{registry?, prefix?, name, tag?}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageName {
    /// Registry host, when not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Path before the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The image's name.
    pub name: String,
    /// The tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

impl ImageName {
    /// `[registry/][prefix/]name[:tag]`.
    #[must_use]
    pub fn reference(&self) -> String {
        let mut text = String::new();
        for part in [&self.registry, &self.prefix].into_iter().flatten() {
            text.push_str(part);
            text.push('/');
        }
        text.push_str(&self.name);
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        text
    }
}

/// How a runtime is spoken to (design: two protocols behind one trait).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// JSON lines: requests on stdin, answers on file descriptor 3.
    Actionloop,
    /// `/init` and `/run` over HTTP.
    Http,
}

/// Which program starts a kind as a process on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeCommand {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Program and arguments. `{launcher:node}` and `{launcher:python}` stand for kwsk's own launchers,
    /// `{code}` for the action's unpacked code, `{port}` for the port an `http` runtime is to serve.
    pub argv: Vec<String>,
    /// More environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// True when the process can be started before its code is known (a stem cell).
    #[serde(default)]
    pub prewarm: bool,
    /// True when the runtime can run several activations at a time.
    #[serde(default)]
    pub concurrent: bool,
}

/// One kind of a family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeKind {
    /// `family:version`.
    pub kind: String,
    /// The family's default.
    #[serde(default)]
    pub default: bool,
    /// May be read and deleted, not created, updated or invoked.
    #[serde(default)]
    pub deprecated: bool,
    /// `exec.main` is obligatory.
    #[serde(default)]
    pub require_main: bool,
    /// The runtime prints log sentinels.
    #[serde(default = "yes")]
    pub sentinelled_logs: bool,
    /// Upstream's attachment description; present means code is stored apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<serde_json::Value>,
    /// The container image.
    pub image: ImageName,
    /// How to start it without a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<RuntimeCommand>,
}

fn yes() -> bool {
    true
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    #[serde(default)]
    default_image_prefix: Option<String>,
    #[serde(default)]
    default_image_tag: Option<String>,
    runtimes: IndexMap<String, Vec<RuntimeKind>>,
    #[serde(default)]
    blackboxes: Vec<ImageName>,
}

/// A checked runtimes manifest: every family has one default, every kind is defined once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimesManifest {
    /// Kinds by family, in the order of the file.
    pub families: IndexMap<String, Vec<RuntimeKind>>,
    /// Images treated as native.
    pub blackboxes: Vec<ImageName>,
}

impl RuntimesManifest {
    /// Reads upstream's format.
    ///
    /// # Errors
    /// A [`ManifestError`] for the wrong shape, doubled kinds, or a family without exactly one default.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let raw: RawManifest = serde_json::from_str(text)?;
        let mut families = raw.runtimes;
        let mut seen = std::collections::HashSet::new();
        for (family, kinds) in &mut families {
            if let [only] = kinds.as_mut_slice() {
                only.default = true;
            }
            if kinds.iter().filter(|k| k.default).count() != 1 {
                return Err(ManifestError::Default(family.clone()));
            }
            for kind in kinds {
                if !seen.insert(kind.kind.clone()) {
                    return Err(ManifestError::Duplicate(kind.kind.clone()));
                }
                kind.image.prefix = kind.image.prefix.take().or_else(|| raw.default_image_prefix.clone());
                kind.image.tag = kind.image.tag.take().or_else(|| raw.default_image_tag.clone());
            }
        }
        Ok(Self { families, blackboxes: raw.blackboxes })
    }

    /// Every kind.
    pub fn kinds(&self) -> impl Iterator<Item = &RuntimeKind> {
        self.families.values().flatten()
    }

    /// The kind with this exact name.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&RuntimeKind> {
        self.kinds().find(|k| k.kind == kind)
    }

    /// The kind a PUT names: trimmed, lower-cased, and `family:default` replaced by the family's default.
    #[must_use]
    pub fn resolve(&self, kind: &str) -> Option<&RuntimeKind> {
        let kind = kind.trim().to_lowercase();
        match kind.strip_suffix(":default") {
            Some(family) => self.families.get(family)?.iter().find(|k| k.default),
            None => self.get(&kind),
        }
    }

    /// What `The specified runtime … is not supported` lists: every kind, `sequence` and `blackbox`, quoted.
    #[must_use]
    pub fn valid_kinds(&self) -> String {
        let mut kinds: Vec<&str> = self.kinds().map(|k| k.kind.as_str()).collect();
        kinds.extend(["sequence", "blackbox"]);
        kinds.sort_unstable();
        let quoted: Vec<String> = kinds.iter().map(|k| format!("'{k}'")).collect();
        quoted.join(", ")
    }

    /// The `runtimes` object of `GET /`.
    #[must_use]
    pub fn info(&self) -> serde_json::Value {
        let kind = |k: &RuntimeKind| {
            serde_json::json!({
                "kind": k.kind, "image": k.image.reference(), "deprecated": k.deprecated,
                "default": k.default, "attached": k.attached.is_some(), "requireMain": k.require_main,
            })
        };
        let family = |(name, kinds): (&String, &Vec<RuntimeKind>)| {
            (name.clone(), kinds.iter().map(kind).collect::<Vec<_>>().into())
        };
        serde_json::Value::Object(self.families.iter().map(family).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Result<RuntimesManifest, ManifestError> {
        RuntimesManifest::parse(text)
    }

    #[test]
    fn defaults() {
        let m = manifest(
            r#"{"defaultImagePrefix":"p","runtimes":{
              "nodejs":[{"kind":"nodejs:18","image":{"name":"n18"}},{"kind":"nodejs:20","default":true,"image":{"name":"n20","tag":"t"}}],
              "python":[{"kind":"python:3.11","image":{"name":"py"}}]}}"#,
        )
        .unwrap();
        assert_eq!(m.resolve(" NodeJS:default ").unwrap().kind, "nodejs:20");
        assert_eq!(m.resolve("python:default").unwrap().kind, "python:3.11");
        assert!(m.resolve("ruby:default").is_none());
        assert_eq!(m.get("nodejs:20").unwrap().image.reference(), "p/n20:t");
        assert_eq!(m.valid_kinds(), "'blackbox', 'nodejs:18', 'nodejs:20', 'python:3.11', 'sequence'");
    }

    #[test]
    fn refusals() {
        let two =
            r#"{"runtimes":{"a":[{"kind":"a:1","image":{"name":"x"}},{"kind":"a:2","image":{"name":"x"}}]}}"#;
        assert!(matches!(manifest(two), Err(ManifestError::Default(f)) if f == "a"));
        let twice = r#"{"runtimes":{"a":[{"kind":"a:1","image":{"name":"x"}}],"b":[{"kind":"a:1","image":{"name":"x"}}]}}"#;
        assert!(matches!(manifest(twice), Err(ManifestError::Duplicate(k)) if k == "a:1"));
        assert!(matches!(manifest("[]"), Err(ManifestError::Malformed(_))));
    }
}
