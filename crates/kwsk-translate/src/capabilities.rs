//! [`Capabilities`]: what a cluster and an installation can do about getting the shim next to a runtime.
//!
//! Read once at start-up and again when Knative's ConfigMap changes; [`crate::action::choose`] decides with it.

use std::collections::BTreeMap;
use std::fmt;

use crate::platform::Platform;

/// The most that the data of a ConfigMap may have, in bytes: Kubernetes' own limit.
pub const MAX_CONFIG_MAP: u64 = 1024 * 1024;
/// Image volumes with `subPath`, for clusters whose operator turned the feature gate on.
pub const IMAGE_VOLUMES: KubernetesVersion = KubernetesVersion { major: 1, minor: 33 };
/// Image volumes without anybody's doing.
pub const IMAGE_VOLUMES_BY_DEFAULT: KubernetesVersion = KubernetesVersion { major: 1, minor: 35 };

/// What a cluster and an installation can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Knative's feature flags.
    pub features: Features,
    /// The API server's version; `None` when it is not known.
    pub kubernetes: Option<KubernetesVersion>,
    /// The shim as this installation offers it.
    pub shim: ShimOffer,
    /// The repository that kwsk may push images with an appended shim to; `None` when it may push nowhere.
    pub append_to: Option<String>,
}

/// The shim as an installation offers it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShimOffer {
    /// An image with `/kwsk/bin/shim`, by digest.
    pub image: Option<String>,
    /// The program itself, for a ConfigMap.
    pub program: Option<Program>,
}

/// The shim's program, by digest and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// SHA-256 in hex.
    pub sha256: String,
    /// Bytes.
    pub bytes: u64,
}

/// The flags that kwsk cares about. The defaults are Knative's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// `multi-container`: several containers in a pod.
    pub multi_container: Flag,
    /// `kubernetes.podspec-init-containers`.
    pub init_containers: Flag,
    /// `kubernetes.podspec-volumes-emptydir`.
    pub empty_dir: Flag,
    /// `kubernetes.podspec-volumes-image`.
    pub volumes_image: Flag,
    /// `secure-pod-defaults`.
    pub secure_pod_defaults: SecurePodDefaults,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            multi_container: Flag::Enabled,
            init_containers: Flag::Disabled,
            empty_dir: Flag::Enabled,
            volumes_image: Flag::Disabled,
            secure_pod_defaults: SecurePodDefaults::Disabled,
        }
    }
}

impl Features {
    /// The name of Knative's ConfigMap, in the namespace Knative Serving is in.
    pub const CONFIG_MAP: &str = "config-features";

    /// Reads the data of that ConfigMap as Knative does: case does not matter, what is missing or not understood is the
    /// default.
    #[must_use]
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Self {
        let default = Self::default();
        let text = |key: &str| data.get(key).map(String::as_str);
        let flag = |key: &str, default: Flag| text(key).and_then(Flag::parse).unwrap_or(default);
        Self {
            multi_container: flag(MULTI_CONTAINER, default.multi_container),
            init_containers: flag(INIT_CONTAINERS, default.init_containers),
            empty_dir: flag(EMPTY_DIR, default.empty_dir),
            volumes_image: flag(VOLUMES_IMAGE, default.volumes_image),
            secure_pod_defaults: text(SECURE_POD_DEFAULTS)
                .and_then(SecurePodDefaults::parse)
                .unwrap_or(default.secure_pod_defaults),
        }
    }
}

pub(crate) const MULTI_CONTAINER: &str = "multi-container";
pub(crate) const INIT_CONTAINERS: &str = "kubernetes.podspec-init-containers";
pub(crate) const EMPTY_DIR: &str = "kubernetes.podspec-volumes-emptydir";
pub(crate) const VOLUMES_IMAGE: &str = "kubernetes.podspec-volumes-image";
const SECURE_POD_DEFAULTS: &str = "secure-pod-defaults";

/// The value of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// May be used.
    Enabled,
    /// Is not cut out of a request, but Knative's validation refuses it all the same where kwsk needs it.
    Allowed,
    /// Is refused.
    Disabled,
}

impl Flag {
    const ALL: [Self; 3] = [Self::Enabled, Self::Allowed, Self::Disabled];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.as_str().eq_ignore_ascii_case(text))
    }

    /// As Knative spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Allowed => "allowed",
            Self::Disabled => "disabled",
        }
    }

    pub(crate) fn is_on(self) -> bool {
        self == Self::Enabled
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What Knative fills into containers that say nothing about their security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurePodDefaults {
    /// Nothing.
    Disabled,
    /// No capabilities and a seccomp profile; root stays possible.
    AllowRootBounded,
    /// The same, and not as root.
    Enabled,
}

impl SecurePodDefaults {
    fn parse(text: &str) -> Option<Self> {
        let spelt = [
            ("disabled", Self::Disabled),
            ("allowrootbounded", Self::AllowRootBounded),
            ("enabled", Self::Enabled),
        ];
        spelt.into_iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| value)
    }
}

/// `major.minor` of an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubernetesVersion {
    /// Always 1 so far.
    pub major: u32,
    /// The release.
    pub minor: u32,
}

impl KubernetesVersion {
    /// Reads `gitVersion` of `/version`, whatever a distribution appends: `v1.35.2+k3s1`, `v1.33.4-gke.100`, `1.36+`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?;
        let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
        Some(Self { major, minor: minor[..digits].parse().ok()? })
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Capabilities {
    /// What an operator should know before the first action fails, one sentence or two each.
    #[must_use]
    pub fn warnings(&self, platform: &Platform) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |text: String| warnings.push(text);
        if self.features.secure_pod_defaults == SecurePodDefaults::Enabled
            && platform.run_as_non_root.is_none()
        {
            warn(format!(
                "Knative's flag '{SECURE_POD_DEFAULTS}' is enabled: images that run as root, as most OpenWhisk runtimes do, \
                 will not start; set it to 'allowrootbounded', or let kwsk ask for runAsNonRoot: false"
            ));
        }
        let volumes_image = self.features.volumes_image.is_on();
        match self.kubernetes {
            Some(version) if volumes_image && version < IMAGE_VOLUMES => warn(format!(
                "Knative's flag '{VOLUMES_IMAGE}' is enabled, but Kubernetes {version} cannot mount a part of an image; \
                 kwsk needs {IMAGE_VOLUMES} for that"
            )),
            Some(version) if volumes_image && version < IMAGE_VOLUMES_BY_DEFAULT => warn(format!(
                "Knative's flag '{VOLUMES_IMAGE}' is enabled, but Kubernetes {version} has image volumes turned off by \
                 default; kwsk uses them only for actions that ask for them"
            )),
            Some(_) | None => {}
        }
        for (key, flag) in
            [(INIT_CONTAINERS, self.features.init_containers), (VOLUMES_IMAGE, self.features.volumes_image)]
        {
            if flag == Flag::Allowed {
                warn(format!(
                    "Knative's flag '{key}' is 'allowed', which its validation takes for off; set it to 'enabled'"
                ));
            }
        }
        if self.shim.image.is_none() && self.shim.program.is_none() && self.append_to.is_none() {
            warn("kwsk has neither an image nor a program of the shim to offer: only images that contain it will work".to_owned());
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flags_are_read_as_knative_reads_them() {
        let default = Features::default();
        assert_eq!(Features::from_config_map(&data(&[])), default);
        assert_eq!(Features::from_config_map(&data(&[("_example", "multi-container: disabled")])), default);
        assert_eq!(
            Features::from_config_map(&data(&[(MULTI_CONTAINER, "off"), (INIT_CONTAINERS, " enabled")])),
            default
        );
        let read = Features::from_config_map(&data(&[
            (MULTI_CONTAINER, "Disabled"),
            (INIT_CONTAINERS, "ENABLED"),
            (EMPTY_DIR, "allowed"),
            (VOLUMES_IMAGE, "enabled"),
            (SECURE_POD_DEFAULTS, "AllowRootBounded"),
        ]));
        assert_eq!(
            read,
            Features {
                multi_container: Flag::Disabled,
                init_containers: Flag::Enabled,
                empty_dir: Flag::Allowed,
                volumes_image: Flag::Enabled,
                secure_pod_defaults: SecurePodDefaults::AllowRootBounded,
            }
        );
        let read =
            |value| Features::from_config_map(&data(&[(SECURE_POD_DEFAULTS, value)])).secure_pod_defaults;
        assert_eq!(read("Enabled"), SecurePodDefaults::Enabled);
        assert_eq!(read("allowed"), SecurePodDefaults::Disabled);
    }

    #[test]
    fn versions() {
        for (text, minor) in
            [("v1.35.2", 35), ("v1.33.4-gke.100", 33), ("1.36+", 36), ("v1.31.0+k3s1", 31), (" v1.9 ", 9)]
        {
            assert_eq!(KubernetesVersion::parse(text), Some(KubernetesVersion { major: 1, minor }), "{text}");
        }
        for text in ["", "v", "v1", "v1.", "v1.x", "one.two", "1.99999999999"] {
            assert_eq!(KubernetesVersion::parse(text), None, "{text}");
        }
        assert!(IMAGE_VOLUMES < IMAGE_VOLUMES_BY_DEFAULT);
    }

    #[test]
    fn warnings() {
        let platform = Platform::local();
        let rootful = Platform { run_as_non_root: Some(false), ..Platform::local() };
        let shim = ShimOffer { image: Some("shim".to_owned()), program: None };
        let of = |features: Features, minor: u32| {
            let kubernetes = Some(KubernetesVersion { major: 1, minor });
            Capabilities { features, kubernetes, shim: shim.clone(), append_to: None }
        };
        let quiet = [
            of(Features::default(), 30),
            of(Features { volumes_image: Flag::Enabled, ..Features::default() }, 35),
            of(
                Features { secure_pod_defaults: SecurePodDefaults::AllowRootBounded, ..Features::default() },
                35,
            ),
        ];
        for capabilities in quiet {
            assert_eq!(capabilities.warnings(&platform), Vec::<String>::new());
        }
        let secure =
            of(Features { secure_pod_defaults: SecurePodDefaults::Enabled, ..Features::default() }, 35);
        assert_eq!(secure.warnings(&rootful), Vec::<String>::new());
        let volumes = |flag| Features { volumes_image: flag, ..Features::default() };
        for (capabilities, word) in [
            (secure, "images that run as root"),
            (of(volumes(Flag::Enabled), 32), "Kubernetes 1.32 cannot mount a part"),
            (of(volumes(Flag::Enabled), 34), "turned off by default"),
            (of(volumes(Flag::Allowed), 35), "'allowed'"),
            (Capabilities::default(), "neither an image nor a program"),
        ] {
            let warnings = capabilities.warnings(&platform);
            assert!(warnings.len() == 1 && warnings[0].contains(word), "{word}: {warnings:?}");
        }
    }
}
