//! How the shim gets next to an action's runtime: [`choose`] decides, [`Injection::place`] adds what the decision needs.

use std::fmt;

use kwsk_model::action::{Action, Code};
use kwsk_model::fault::Fault;

use crate::capabilities::{self, Capabilities, Flag, KubernetesVersion, MAX_CONFIG_MAP};
use crate::keys;
use crate::platform::Platform;

/// A way to get the shim next to a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Injection {
    /// The image contains the shim.
    Wrapped,
    /// kwsk pushed an image that is the action's with the shim on top.
    Appended,
    /// The program is mounted from a ConfigMap.
    ConfigMap,
    /// An init container copies the program into an empty volume.
    InitContainer,
    /// The shim's image is mounted.
    ImageVolume,
    /// A container beside the runtime's.
    Sidecar,
}

impl Injection {
    /// Every way.
    pub const ALL: [Self; 6] = [
        Self::Wrapped,
        Self::Appended,
        Self::ConfigMap,
        Self::InitContainer,
        Self::ImageVolume,
        Self::Sidecar,
    ];
    /// For images without the shim, the best first: what costs a cold start nothing and keeps logs and recovery.
    pub const PREFERENCE: [Self; 5] =
        [Self::Appended, Self::ConfigMap, Self::InitContainer, Self::ImageVolume, Self::Sidecar];

    /// As the annotation `kwsk.dev/shim` spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wrapped => "wrapped",
            Self::Appended => "appended",
            Self::ConfigMap => "configmap",
            Self::InitContainer => "init-container",
            Self::ImageVolume => "image-volume",
            Self::Sidecar => "sidecar",
        }
    }

    /// True when the program that the image starts has to be known.
    #[must_use]
    pub fn needs_entry(self) -> bool {
        match self {
            Self::ConfigMap | Self::InitContainer | Self::ImageVolume => true,
            Self::Wrapped | Self::Appended | Self::Sidecar => false,
        }
    }

    /// Why this cannot be done here.
    fn refusal(self, capabilities: &Capabilities) -> Option<InjectionError> {
        let features = &capabilities.features;
        let off = |key: &'static str, value: Flag| {
            (!value.is_on()).then_some(InjectionError::FlagOff { injection: self, key, value })
        };
        let no_image = || capabilities.shim.image.is_none().then_some(InjectionError::NoShimImage(self));
        match self {
            Self::Wrapped => None,
            Self::Appended => capabilities.append_to.is_none().then_some(InjectionError::NoRepository),
            Self::ConfigMap => match &capabilities.shim.program {
                None => Some(InjectionError::NoProgram),
                Some(program) if program.bytes > MAX_CONFIG_MAP => {
                    Some(InjectionError::TooLarge(program.bytes))
                }
                Some(_) => None,
            },
            Self::InitContainer => off(capabilities::INIT_CONTAINERS, features.init_containers)
                .or_else(|| off(capabilities::EMPTY_DIR, features.empty_dir))
                .or_else(no_image),
            Self::ImageVolume => off(capabilities::VOLUMES_IMAGE, features.volumes_image)
                .or_else(|| too_old(capabilities, capabilities::IMAGE_VOLUMES))
                .or_else(no_image),
            Self::Sidecar => off(capabilities::MULTI_CONTAINER, features.multi_container).or_else(no_image),
        }
    }

    /// Why this is not done here unless asked for.
    fn reservation(self, capabilities: &Capabilities) -> Option<InjectionError> {
        let refusal = self.refusal(capabilities);
        // The flag says what Knative lets through, not whether the nodes can do it.
        let is_certain = refusal.is_some() || self != Self::ImageVolume;
        if is_certain { refusal } else { too_old(capabilities, capabilities::IMAGE_VOLUMES_BY_DEFAULT) }
    }

    /// The choice with everything a pod template needs.
    ///
    /// # Errors
    /// [`InjectionError`] when the cluster cannot do it, or `facts` lack what it needs to know about the image.
    pub fn place(
        self,
        capabilities: &Capabilities,
        image: &str,
        facts: ImageFacts,
    ) -> Result<Placement, InjectionError> {
        if let Some(refusal) = self.refusal(capabilities) {
            return Err(refusal);
        }
        let entry = |entry: Option<ImageEntry>| match entry {
            Some(entry) if !entry.is_empty() => Ok(entry),
            Some(_) => Err(InjectionError::NoProgramInImage { injection: self, image: image.to_owned() }),
            None => Err(InjectionError::EntryUnknown { injection: self, image: image.to_owned() }),
        };
        let shim_image =
            || by_digest(capabilities.shim.image.as_deref().ok_or(InjectionError::NoShimImage(self))?);
        Ok(match self {
            Self::Wrapped => Placement::Wrapped,
            Self::Appended => {
                let unknown = || InjectionError::NotAppended { image: image.to_owned() };
                Placement::Appended { image: by_digest(&facts.appended.ok_or_else(unknown)?)? }
            }
            Self::ConfigMap => {
                let program = capabilities.shim.program.as_ref().ok_or(InjectionError::NoProgram)?;
                Placement::ConfigMap { sha256: program.sha256.clone(), entry: entry(facts.entry)? }
            }
            Self::InitContainer => {
                Placement::InitContainer { shim_image: shim_image()?, entry: entry(facts.entry)? }
            }
            Self::ImageVolume => {
                Placement::ImageVolume { shim_image: shim_image()?, entry: entry(facts.entry)? }
            }
            Self::Sidecar => Placement::Sidecar { shim_image: shim_image()? },
        })
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn too_old(capabilities: &Capabilities, needed: KubernetesVersion) -> Option<InjectionError> {
    let version = capabilities.kubernetes;
    let is_enough = version.is_some_and(|version| version >= needed);
    (!is_enough).then_some(InjectionError::OldKubernetes { version, needed })
}

/// `reference`, provided that nobody can move it.
fn by_digest(reference: &str) -> Result<String, InjectionError> {
    let digest = reference.rsplit_once("@sha256:").map_or("", |(_, digest)| digest);
    let is_digest =
        digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_digest { Ok(reference.to_owned()) } else { Err(InjectionError::NotByDigest(reference.to_owned())) }
}

/// What an image starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageEntry {
    /// `Entrypoint` of the image's configuration.
    pub entrypoint: Vec<String>,
    /// Its `Cmd`.
    pub cmd: Vec<String>,
}

impl ImageEntry {
    fn is_empty(&self) -> bool {
        self.entrypoint.is_empty() && self.cmd.is_empty()
    }
}

/// What was found out about an action's image; which part is needed depends on the [`Injection`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFacts {
    /// What it starts.
    pub entry: Option<ImageEntry>,
    /// The image with the shim appended, by digest.
    pub appended: Option<String>,
}

/// An [`Injection`] with everything a pod template needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The image contains the shim.
    Wrapped,
    /// `image` takes the place of the action's.
    Appended {
        /// By digest.
        image: String,
    },
    /// The program is mounted from a ConfigMap.
    ConfigMap {
        /// SHA-256 of the program in hex.
        sha256: String,
        /// What the shim starts.
        entry: ImageEntry,
    },
    /// An init container copies the program into an empty volume.
    InitContainer {
        /// By digest.
        shim_image: String,
        /// What the shim starts.
        entry: ImageEntry,
    },
    /// The shim's image is mounted.
    ImageVolume {
        /// By digest.
        shim_image: String,
        /// What the shim starts.
        entry: ImageEntry,
    },
    /// A container beside the runtime's.
    Sidecar {
        /// By digest.
        shim_image: String,
    },
}

impl Placement {
    /// Without the details.
    #[must_use]
    pub fn injection(&self) -> Injection {
        match self {
            Self::Wrapped => Injection::Wrapped,
            Self::Appended { .. } => Injection::Appended,
            Self::ConfigMap { .. } => Injection::ConfigMap,
            Self::InitContainer { .. } => Injection::InitContainer,
            Self::ImageVolume { .. } => Injection::ImageVolume,
            Self::Sidecar { .. } => Injection::Sidecar,
        }
    }
}

/// How the shim gets next to `action`'s runtime: as the annotation `kwsk.dev/shim` says, not at all when the image
/// contains it, else by the first of [`Injection::PREFERENCE`] that the cluster can do.
///
/// # Errors
/// [`InjectionError`] when the annotation asks for what cannot be done, when nothing can be done, and when the code can
/// neither be mounted nor fetched.
pub fn choose(
    capabilities: &Capabilities,
    platform: &Platform,
    action: &Action,
) -> Result<Injection, InjectionError> {
    expect_code_in_reach(platform, action)?;
    if let Some(asked) = asked(action)? {
        return asked.refusal(capabilities).map_or(Ok(asked), Err);
    }
    if platform.is_wrapped(&action.exec) {
        return Ok(Injection::Wrapped);
    }
    let mut reservations = Vec::new();
    for injection in Injection::PREFERENCE {
        match injection.reservation(capabilities) {
            None => return Ok(injection),
            Some(reservation) => reservations.push(reservation),
        }
    }
    Err(InjectionError::NoWay { image: platform.image(&action.exec), reservations })
}

/// What the annotation says.
fn asked(action: &Action) -> Result<Option<Injection>, InjectionError> {
    let Some(value) = action.annotations.get(keys::SHIM) else {
        return Ok(None);
    };
    let text = value.as_str().unwrap_or_default();
    let found = Injection::ALL.into_iter().find(|injection| injection.as_str() == text);
    found.map(Some).ok_or_else(|| InjectionError::Unknown(value.to_string()))
}

fn expect_code_in_reach(platform: &Platform, action: &Action) -> Result<(), InjectionError> {
    let bytes = match action.exec.code() {
        Some(Code::Inline(text)) => text.len() as u64,
        Some(Code::Stored(stored)) => stored.bytes,
        None => 0,
    };
    if bytes > platform.max_mounted_code && platform.code_url.is_none() {
        return Err(InjectionError::CodeOutOfReach { bytes, most: platform.max_mounted_code });
    }
    Ok(())
}

/// Why the shim cannot get next to a runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InjectionError {
    /// The annotation's value is none of ours.
    #[error("the annotation {key} is {0}; it may be {known}", key = keys::SHIM, known = known())]
    Unknown(String),
    /// A flag of Knative's is not on.
    #[error(
        "'{injection}' needs Knative's flag '{key}' to be 'enabled' in the ConfigMap 'config-features'; it is '{value}'"
    )]
    FlagOff {
        /// What needs it.
        injection: Injection,
        /// The flag.
        key: &'static str,
        /// What it is.
        value: Flag,
    },
    /// The API server is too old, or nobody knows how old it is.
    #[error("'image-volume' needs Kubernetes {needed}; {}", version.map_or("the cluster's version is not known".to_owned(), |v| format!("the cluster has {v}")))]
    OldKubernetes {
        /// What the cluster has.
        version: Option<KubernetesVersion>,
        /// What is needed.
        needed: KubernetesVersion,
    },
    /// kwsk has nowhere to push to.
    #[error("'appended' needs a repository that kwsk may push images to; none is configured")]
    NoRepository,
    /// There is no program for the ConfigMap.
    #[error("'configmap' needs the shim's program; this installation of kwsk has none to offer")]
    NoProgram,
    /// The program does not fit.
    #[error("'configmap' needs a shim of at most {MAX_CONFIG_MAP} bytes; this one has {0}")]
    TooLarge(u64),
    /// There is no image of the shim.
    #[error("'{0}' needs an image of the shim; none is configured")]
    NoShimImage(Injection),
    /// A tag can be moved by others.
    #[error("the image '{0}' has to be named by digest, as name@sha256:…")]
    NotByDigest(String),
    /// Nobody looked what the image starts.
    #[error(
        "'{injection}' has to know what the image '{image}' starts, and its configuration could not be read; \
         check that kwsk can read it from the registry, or set the annotation {key} to 'sidecar'",
        key = keys::SHIM
    )]
    EntryUnknown {
        /// What needs it.
        injection: Injection,
        /// The image.
        image: String,
    },
    /// The image starts nothing.
    #[error("'{injection}' has nothing to start: the image '{image}' has neither ENTRYPOINT nor CMD")]
    NoProgramInImage {
        /// What needs it.
        injection: Injection,
        /// The image.
        image: String,
    },
    /// The image with the shim was not made.
    #[error("the image '{image}' has not been copied with the shim appended")]
    NotAppended {
        /// The image.
        image: String,
    },
    /// Nothing can be done.
    #[error("the shim cannot be added to the image '{image}': {}", listed(reservations))]
    NoWay {
        /// The image.
        image: String,
        /// Why, way by way.
        reservations: Vec<Self>,
    },
    /// The code does not fit a Secret, and nobody serves it.
    #[error(
        "code of {bytes} bytes cannot reach the action: at most {most} are mounted, and no URL to fetch larger code from is configured"
    )]
    CodeOutOfReach {
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        most: u64,
    },
}

impl InjectionError {
    /// The class of failure.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unknown(_)
            | Self::FlagOff { .. }
            | Self::OldKubernetes { .. }
            | Self::NoRepository
            | Self::NoProgram
            | Self::TooLarge(_)
            | Self::NoShimImage(_)
            | Self::EntryUnknown { .. }
            | Self::NoProgramInImage { .. }
            | Self::NoWay { .. } => Fault::BadRequest,
            Self::CodeOutOfReach { .. } => Fault::TooLarge,
            Self::NotByDigest(_) | Self::NotAppended { .. } => Fault::Internal,
        }
    }
}

fn known() -> String {
    Injection::ALL.map(Injection::as_str).join(", ")
}

fn listed(reservations: &[InjectionError]) -> String {
    reservations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
