//! A door for the fuzz target `oci`, which sees public items only.

use super::document::Stored;
use super::edit::{self, Manifest};
use super::media::OCI_MANIFEST;
use super::shim_layer::ShimLayer;

const IMAGE: &str = "registry.example/image:1";

/// An image after an edit.
#[derive(Debug, PartialEq, Eq)]
pub struct Appended {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The configuration's.
    pub config: Vec<u8>,
    /// Something was edited.
    pub changed: bool,
}

/// Appends a shim to the image of these documents; `None` when they are refused.
#[must_use]
pub fn append(manifest: &[u8], config: &[u8]) -> Option<Appended> {
    let shim = ShimLayer::new(b"shim", "amd64").ok()?;
    let stored = Stored::read(manifest.to_vec(), OCI_MANIFEST, IMAGE).ok()?;
    edit::platform(config, IMAGE).ok()?;
    let manifest = Manifest::read(&stored, IMAGE).ok()?;
    let edited = edit::append(&stored, manifest, config, &shim, None, IMAGE).ok()?;
    Some(Appended { manifest: edited.manifest.bytes, config: edited.config, changed: edited.changed })
}
