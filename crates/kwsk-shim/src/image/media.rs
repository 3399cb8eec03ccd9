//! Media types: OCI's, Docker's, and those that are refused.

use super::error::ImageError;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const SPDX: &str = "application/spdx+json";
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";

const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    OCI_LAYER_GZIP,
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    DOCKER_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
const FOREIGN_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
];

/// What a registry is asked to answer with.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// What kind of document describes an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ManifestKind {
    OciManifest,
    OciIndex,
    DockerManifest,
    DockerList,
}

impl ManifestKind {
    /// # Errors
    /// [`ImageError::Unsupported`] for every other media type.
    pub(crate) fn of(media_type: &str, what: &str) -> Result<Self, ImageError> {
        let refused =
            |found: String, way_out| ImageError::Unsupported { what: what.to_owned(), found, way_out };
        match media_type {
            OCI_MANIFEST => Ok(Self::OciManifest),
            OCI_INDEX => Ok(Self::OciIndex),
            DOCKER_MANIFEST => Ok(Self::DockerManifest),
            DOCKER_LIST => Ok(Self::DockerList),
            old if old.starts_with("application/vnd.docker.distribution.manifest.v1+") => Err(refused(
                "in Docker's schema 1, which was given up in 2017".to_owned(),
                "pull and push it once with a present-day docker or skopeo",
            )),
            other => Err(refused(
                format!("of media type '{other}'"),
                "an image is an OCI manifest or index, or Docker's manifest or list of version 2",
            )),
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::OciManifest => OCI_MANIFEST,
            Self::OciIndex => OCI_INDEX,
            Self::DockerManifest => DOCKER_MANIFEST,
            Self::DockerList => DOCKER_LIST,
        }
    }

    pub(crate) fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }

    /// What a layer is called in this kind of manifest.
    pub(crate) fn layer_media_type(self) -> &'static str {
        match self {
            Self::OciManifest | Self::OciIndex => OCI_LAYER_GZIP,
            Self::DockerManifest | Self::DockerList => DOCKER_LAYER_GZIP,
        }
    }
}

/// What is to be done with a layer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerKind {
    Distributable,
    /// They stay where their URLs lead: whoever pushes them elsewhere may break a licence.
    Foreign,
}

impl LayerKind {
    /// # Errors
    /// [`ImageError::Unsupported`] for what is no layer of a file system.
    pub(crate) fn of(media_type: &str, image: &str) -> Result<Self, ImageError> {
        if LAYERS.contains(&media_type) {
            Ok(Self::Distributable)
        } else if FOREIGN_LAYERS.contains(&media_type) {
            Ok(Self::Foreign)
        } else {
            Err(ImageError::Unsupported {
                what: format!("a layer of {image}"),
                found: format!("of media type '{media_type}'"),
                way_out: "only tar layers, plain or compressed by gzip or zstd, can be carried over",
            })
        }
    }
}

/// # Errors
/// [`ImageError::Unsupported`] when this is not the configuration of an image.
pub(crate) fn check_config(media_type: &str, image: &str) -> Result<(), ImageError> {
    if matches!(media_type, OCI_CONFIG | DOCKER_CONFIG) {
        return Ok(());
    }
    Err(ImageError::Unsupported {
        what: image.to_owned(),
        found: format!("an artifact (its configuration is '{media_type}') and not an image"),
        way_out: "give the reference of an image that can be run",
    })
}
