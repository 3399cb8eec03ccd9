//! [`Platform`]: what an installation decides. An argument of the mappings, never a global.

use std::collections::BTreeMap;

use kwsk_model::action::Exec;
use kwsk_model::identity::SystemLimits;
use kwsk_model::runtimes::{ImageName, Protocol, RuntimeCommand, RuntimesManifest};

use crate::manifest::destination::{Destination, KReference};
use crate::manifest::subscription::{BackoffPolicy, DeliverySpec};
use crate::names::SYSTEM_NAMESPACE;

/// kwsk's own runtimes manifest: upstream's kinds, and how to start those a laptop can start.
pub const DEFAULT_RUNTIMES: &str = include_str!("runtimes.json");

/// What an installation decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Platform {
    /// Kinds, their images and commands.
    pub manifest: RuntimesManifest,
    /// Images by kind that already contain the shim; kinds without one use the manifest's.
    pub images: BTreeMap<String, String>,
    /// Bounds and defaults of every namespace.
    pub limits: SystemLimits,
    /// The kwsk server, as rules reach it. Paths are set per use.
    pub sink: Destination,
    /// How often rules try to deliver an event.
    pub delivery: DeliverySpec,
    /// Seconds a cold start may take beyond init and run, default 60.
    pub cold_start_seconds: u64,
    /// Longest request Knative lets through, in seconds, default 600 (`max-revision-timeout-seconds`).
    pub max_timeout_seconds: u64,
    /// MiB on top of an action's memory limit for the shim in the same container, default 16.
    pub shim_memory: u64,
    /// Largest code, in bytes, that is mounted as a Secret, default 512 KiB; larger code is fetched by the shim.
    pub max_mounted_code: u64,
    /// Where the shim fetches larger code from, as `http://host[:port]/path`; `None` where nobody serves code.
    pub code_url: Option<String>,
    /// `runAsNonRoot` of actions' containers: `Some(true)` refuses images that run as root, `Some(false)` keeps Knative's
    /// `secure-pod-defaults` from refusing them, `None` (default) says nothing.
    pub run_as_non_root: Option<bool>,
    /// How a plain executable is started: kinds of `blackbox` whose image follows upstream's dockerskeleton.
    pub native: RuntimeCommand,
}

impl Platform {
    /// kwsk's defaults, for one machine and for tests.
    #[must_use]
    pub fn local() -> Self {
        match RuntimesManifest::parse(DEFAULT_RUNTIMES) {
            Ok(manifest) => Self::with_manifest(manifest),
            Err(_) => unreachable!("the embedded manifest is checked by a test"),
        }
    }

    /// kwsk's defaults with another runtimes manifest.
    #[must_use]
    pub fn with_manifest(manifest: RuntimesManifest) -> Self {
        Self {
            manifest,
            images: BTreeMap::new(),
            limits: SystemLimits::default(),
            sink: Destination::to(KReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name: "kwsk".to_owned(),
                namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            }),
            delivery: DeliverySpec {
                retry: Some(5),
                backoff_policy: Some(BackoffPolicy::Exponential),
                backoff_delay: Some("PT1S".to_owned()),
                timeout: Some("PT600S".to_owned()),
                ..DeliverySpec::default()
            },
            cold_start_seconds: 60,
            max_timeout_seconds: 600,
            shim_memory: 16,
            max_mounted_code: 512 * 1024,
            code_url: None,
            run_as_non_root: None,
            native: RuntimeCommand {
                protocol: Protocol::Actionloop,
                argv: vec!["{native}".to_owned()],
                env: BTreeMap::new(),
                prewarm: false,
                concurrent: false,
            },
        }
    }

    /// The image that runs `exec`.
    #[must_use]
    pub fn image(&self, exec: &Exec) -> String {
        match exec {
            Exec::Blackbox { image, .. } => image.clone(),
            Exec::Code { .. } | Exec::Sequence { .. } => {
                let kind = exec.kind();
                let wrapped = self.images.get(kind).cloned();
                let stock = || self.manifest.get(kind).map(|k| k.image.reference());
                // A kind that left the manifest: the name says so where Kubernetes reports the failed pull.
                wrapped.or_else(stock).unwrap_or_else(|| format!("kwsk.invalid/{}", kind.replace(':', "-")))
            }
        }
    }

    /// True when the image of `exec` already contains the shim: it is one of [`Self::images`], or its tag is `kwsk` or
    /// ends in `-kwsk`.
    #[must_use]
    pub fn is_wrapped(&self, exec: &Exec) -> bool {
        let image = match exec {
            Exec::Code { kind, .. } if self.images.contains_key(kind) => return true,
            Exec::Code { .. } | Exec::Blackbox { .. } | Exec::Sequence { .. } => self.image(exec),
        };
        self.images.values().any(|own| *own == image)
            || tag(&image).is_some_and(|tag| tag == "kwsk" || tag.ends_with("-kwsk"))
    }

    /// How to start `exec` as a process on this machine; `None` when that takes a container.
    #[must_use]
    pub fn command(&self, exec: &Exec) -> Option<&RuntimeCommand> {
        match exec {
            Exec::Code { kind, .. } => self.manifest.get(kind)?.command.as_ref(),
            Exec::Blackbox { image, .. } => self.is_native(image).then_some(&self.native),
            Exec::Sequence { .. } => None,
        }
    }

    /// True for images of the manifest's `blackboxes` list, whatever their tag.
    #[must_use]
    pub fn is_native(&self, image: &str) -> bool {
        let untagged = |name: &ImageName| ImageName { tag: None, ..name.clone() }.reference();
        let image = image.strip_prefix("docker.io/").unwrap_or(image);
        self.manifest.blackboxes.iter().any(|name| {
            let rest = image.strip_prefix(untagged(name).as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']))
        })
    }
}

/// The tag of an image reference, with or without a digest behind it. A port is no tag.
fn tag(image: &str) -> Option<&str> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let (_, tag) = name.rsplit_once(':')?;
    (!tag.contains('/')).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_manifest_has_upstreams_defaults() {
        let manifest = RuntimesManifest::parse(DEFAULT_RUNTIMES).unwrap();
        let default = |family: &str| manifest.resolve(family).unwrap().kind.clone();
        for (family, kind) in [
            ("nodejs:default", "nodejs:20"),
            ("python:default", "python:3.10"),
            ("swift:default", "swift:5.3"),
            ("java:default", "java:8"),
            ("php:default", "php:8.1"),
            ("ruby:default", "ruby:2.5"),
            ("go:default", "go:1.20"),
            ("rust:default", "rust:1.34"),
            ("dotnet:default", "dotnet:3.1"),
        ] {
            assert_eq!(default(family), kind);
        }
        for kind in manifest.kinds() {
            let by_kwsk = kind.kind.starts_with("nodejs:") || kind.kind.starts_with("python:");
            assert_eq!(kind.command.is_some(), by_kwsk, "{}", kind.kind);
            assert_eq!(
                kind.require_main,
                ["java:8", "dotnet:3.1", "dotnet:6.0"].contains(&kind.kind.as_str())
            );
        }
        assert_eq!(
            manifest.get("nodejs:20").unwrap().image.reference(),
            "openwhisk/action-nodejs-v20:nightly"
        );
    }

    #[test]
    fn native_images() {
        let platform = Platform::local();
        for image in
            ["openwhisk/dockerskeleton", "openwhisk/dockerskeleton:1.2", "docker.io/openwhisk/dockerskeleton"]
        {
            assert!(platform.is_native(image), "{image}");
        }
        for image in ["openwhisk/dockerskeleton2", "evil/openwhisk/dockerskeleton", "x"] {
            assert!(!platform.is_native(image), "{image}");
        }
    }

    #[test]
    fn images_that_contain_the_shim() {
        let mut platform = Platform::local();
        platform.images.insert("nodejs:20".to_owned(), "own.example/node20@sha256:ab".to_owned());
        let stock = |kind: &str| Exec::Code {
            kind: kind.to_owned(),
            code: kwsk_model::action::Code::Inline(String::new()),
            main: None,
            binary: false,
        };
        let blackbox =
            |image: &str| Exec::Blackbox { image: image.to_owned(), code: None, main: None, binary: false };
        assert!(platform.is_wrapped(&stock("nodejs:20")) && !platform.is_wrapped(&stock("nodejs:22")));
        for image in
            ["own.example/node20@sha256:ab", "a/b:kwsk", "host:5000/a:1.2-kwsk", "a:x-kwsk@sha256:00"]
        {
            assert!(platform.is_wrapped(&blackbox(image)), "{image}");
        }
        for image in
            ["a/kwsk", "kwsk", "a:kwsk-1", "kwsk:1", "host:kwsk/a", "a:1@sha256:kwsk", "own.example/node20"]
        {
            assert!(!platform.is_wrapped(&blackbox(image)), "{image}");
        }
    }
}
