//! What the containers of an action find under `/kwsk`: volumes, and where they are mounted.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource,
    ImageVolumeSource, KeyToPath, ObjectFieldSelector, ProjectedVolumeSource, SecretProjection,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kwsk_model::activation::hex;
use sha2::{Digest, Sha256};

use super::Runtime;
use crate::capabilities::MAX_CONFIG_MAP;
use crate::keys;
use crate::names;
use crate::platform::Platform;

/// Where the shim finds what belongs to the action.
const ACTION: &str = "/kwsk/action";
/// Where the shim finds the token it fetches code with.
const TOKEN: &str = "/kwsk/token";
/// Who the token is for.
const AUDIENCE: &str = "kwsk";
/// Where the shim is, in its own image and in every other.
const PROGRAMS: &str = "/kwsk/bin";
/// Where an init container sees the volume that is [`PROGRAMS`] to others: it runs the program that would be hidden.
pub(super) const INSTALLATION: &str = "/shim";
/// The shim's file.
const PROGRAM: &str = "shim";
/// Everybody may read and execute it, nobody may write it: images run as users nobody here knows.
const PROGRAM_MODE: i32 = 0o555;

/// Something to mount, and where.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) volume: Volume,
    pub(super) mount: VolumeMount,
}

impl Mounted {
    fn read_only(volume: Volume, path: &str) -> Self {
        let mount = mount(&volume.name, path, true);
        Self { volume, mount }
    }
}

pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// `runtime` from the pod's own annotation, `code` when it fits a Secret, and the bound parameters when there are any.
pub(super) fn action(platform: &Platform, runtime: &Runtime, object_name: &str) -> Mounted {
    let mut sources = vec![VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![own_annotation(keys::RUNTIME, "runtime")]),
        }),
        ..VolumeProjection::default()
    }];
    if let Some(code) = runtime.code.as_ref().filter(|code| code.bytes <= platform.max_mounted_code) {
        sources.push(secret(names::code_secret(&code.sha256), false));
    }
    sources.push(secret(names::parameters_secret(object_name), true));
    Mounted::read_only(projected("action", sources), ACTION)
}

/// A token of the namespace's service account that nobody but kwsk takes; kubelet renews it.
pub(super) fn token() -> Mounted {
    let token = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        path: "token".to_owned(),
        ..ServiceAccountTokenProjection::default()
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    Mounted::read_only(projected("token", vec![source]), TOKEN)
}

/// The shim from a ConfigMap.
pub(super) fn shim_from_config_map(sha256: &str) -> Mounted {
    let item = KeyToPath { key: PROGRAM.to_owned(), path: PROGRAM.to_owned(), mode: Some(PROGRAM_MODE) };
    let source = ConfigMapVolumeSource {
        name: names::shim_config_map(sha256),
        items: Some(vec![item]),
        ..ConfigMapVolumeSource::default()
    };
    let volume = Volume { config_map: Some(source), ..shim_volume() };
    Mounted::read_only(volume, PROGRAMS)
}

/// The shim as an init container has left it.
pub(super) fn shim_installed() -> Mounted {
    let volume = Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..shim_volume() };
    Mounted::read_only(volume, PROGRAMS)
}

/// The shim in its own image, of which the directory alone is mounted: the image's root would put another path before it.
pub(super) fn shim_from_image(image: &str) -> Mounted {
    let source = ImageVolumeSource { reference: Some(image.to_owned()), ..ImageVolumeSource::default() };
    let mut mounted = Mounted::read_only(Volume { image: Some(source), ..shim_volume() }, PROGRAMS);
    mounted.mount.sub_path = Some(PROGRAMS.trim_start_matches('/').to_owned());
    mounted
}

/// The command that starts the shim.
pub(super) fn shim() -> String {
    [PROGRAMS, PROGRAM].join("/")
}

fn shim_volume() -> Volume {
    Volume { name: "shim".to_owned(), ..Volume::default() }
}

fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), ..ProjectedVolumeSource::default() }),
        ..Volume::default()
    }
}

fn own_annotation(key: &str, path: &str) -> DownwardAPIVolumeFile {
    let field_path = ["metadata.annotations['", key, "']"].concat();
    DownwardAPIVolumeFile {
        field_ref: Some(ObjectFieldSelector { field_path, ..ObjectFieldSelector::default() }),
        path: path.to_owned(),
        ..DownwardAPIVolumeFile::default()
    }
}

fn secret(name: String, optional: bool) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name,
            optional: optional.then_some(true),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

/// The program does not fit a ConfigMap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shim has {bytes} bytes; a ConfigMap takes {MAX_CONFIG_MAP}")]
pub struct OversizedShim {
    /// Bytes.
    pub bytes: u64,
}

/// The ConfigMap that [`super::Placement::ConfigMap`] mounts, for the Kubernetes namespace of the action. It never
/// changes: another program is another ConfigMap.
///
/// # Errors
/// [`OversizedShim`].
pub fn shim_config_map(namespace: &str, program: Vec<u8>) -> Result<ConfigMap, OversizedShim> {
    let bytes = program.len() as u64;
    if bytes > MAX_CONFIG_MAP {
        return Err(OversizedShim { bytes });
    }
    let mut metadata = ObjectMeta {
        name: Some(names::shim_config_map(&hex(&Sha256::digest(&program)))),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    keys::set_label(&mut metadata, keys::MANAGED_BY, keys::MANAGER);
    Ok(ConfigMap {
        metadata,
        binary_data: Some(BTreeMap::from([(PROGRAM.to_owned(), ByteString(program))])),
        immutable: Some(true),
        ..ConfigMap::default()
    })
}
