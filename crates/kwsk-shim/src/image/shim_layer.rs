//! The one layer that is added: `/kwsk/bin/shim`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::{Compression, GzBuilder, write::GzEncoder};

use super::digest::Digest;
use super::error::ImageError;
use super::platform::{Elf, Platform};

/// Where the shim is inside every container.
pub const SHIM_PATH: &str = "/kwsk/bin/shim";
/// What the history of an image says about the layer; the shim's digest follows.
pub(crate) const CREATED_BY: &str = "kwsk-shim append ";
/// The operating system of gzip's header: unknown.
const OS_UNKNOWN: u8 = 255;

/// A gzip stream whose header says nothing of time and place.
pub(crate) fn gzip<W: std::io::Write>(to: W) -> GzEncoder<W> {
    GzBuilder::new().mtime(0).operating_system(OS_UNKNOWN).write(to, Compression::new(6))
}

/// A shim for one processor, and the layer that holds it.
#[derive(Debug)]
pub struct ShimLayer {
    pub(crate) architecture: String,
    /// Of the program itself.
    pub(crate) shim: Digest,
    /// Of the layer before compression.
    pub(crate) diff_id: Digest,
    /// Of the layer as it is pushed.
    pub(crate) digest: Digest,
    pub(crate) bytes: bytes::Bytes,
}

impl ShimLayer {
    pub(crate) fn new(program: &[u8], architecture: &str) -> std::io::Result<Self> {
        let tar = archive(program)?;
        let mut compressed = gzip(Vec::new());
        compressed.write_all(&tar)?;
        let compressed = compressed.finish()?;
        Ok(Self {
            architecture: architecture.to_owned(),
            shim: Digest::of(program),
            diff_id: Digest::of(&tar),
            digest: Digest::of(&compressed),
            bytes: compressed.into(),
        })
    }
}

fn archive(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["kwsk/", "kwsk/bin/"] {
        tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), directory, std::io::empty())?;
    }
    let mut file = header(tar::EntryType::Regular, 0o755, program.len() as u64);
    tar.append_data(&mut file, SHIM_PATH.trim_start_matches('/'), program)?;
    tar.into_inner()
}

/// Owned by root, at the beginning of time.
pub(crate) fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// A shim for each processor for which there is one.
#[derive(Debug, Clone, Default)]
pub struct Shims(BTreeMap<String, Arc<ShimLayer>>);

impl Shims {
    /// No shim yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the program at `path`; its own header says for which processor, `architecture` only confirms it.
    ///
    /// # Errors
    /// [`ImageError::Shim`] when it cannot run in every image of that processor.
    pub fn add(&mut self, path: &Path, architecture: Option<&str>) -> Result<(), ImageError> {
        let refused = |why: String| ImageError::Shim { path: PathBuf::from(path), why };
        let program = std::fs::read(path).map_err(|error| {
            refused(format!("it cannot be read ({error}); give the path of a shim with --shim"))
        })?;
        let elf = Elf::read(&program).map_err(refused)?;
        if !elf.is_static {
            return Err(refused(
                "it needs a dynamic linker, which images need not have; build it with -C target-feature=+crt-static, or give another with --shim".to_owned(),
            ));
        }
        if architecture.is_some_and(|architecture| architecture != elf.architecture) {
            return Err(refused(format!(
                "it is for {}; give one that is for the architecture named",
                elf.architecture
            )));
        }
        let layer = ShimLayer::new(&program, elf.architecture).map_err(|error| refused(error.to_string()))?;
        self.0.insert(elf.architecture.to_owned(), Arc::new(layer));
        Ok(())
    }

    /// The shim for a platform.
    pub(crate) fn on(&self, platform: &Platform) -> Option<&Arc<ShimLayer>> {
        self.0.get(&platform.architecture).filter(|_| platform.os == "linux")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<ShimLayer>> {
        self.0.values()
    }

    /// "linux/amd64, linux/arm64".
    pub(crate) fn platforms(&self) -> String {
        let each = self.0.keys().map(|architecture| format!("linux/{architecture}"));
        if self.0.is_empty() { "no platform".to_owned() } else { each.collect::<Vec<_>>().join(", ") }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read as _;

    use super::*;

    /// A layer for tests of what does not look into it.
    pub(crate) fn layer(program: &[u8]) -> ShimLayer {
        ShimLayer::new(program, "amd64").unwrap()
    }

    #[test]
    fn the_layer_is_the_same_every_time() {
        let (one, two) = (layer(b"program"), layer(b"program"));
        assert_eq!((one.digest.clone(), &one.bytes), (two.digest, &two.bytes));
        assert_ne!(one.digest, layer(b"another").digest);
        assert!(one.digest.matches(&one.bytes));
        // Neither time, name nor system.
        assert_eq!(&one.bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    }

    #[test]
    fn the_layer_holds_two_directories_and_a_program() {
        let layer = layer(b"program");
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&layer.bytes[..]).read_to_end(&mut tar).unwrap();
        assert!(layer.diff_id.matches(&tar));
        let mut found = Vec::new();
        for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
            assert_eq!(owner, (0, 0, 0));
            found.push((entry.path().unwrap().into_owned(), header.mode().unwrap(), content));
        }
        let expected = [("kwsk/", &b""[..]), ("kwsk/bin/", b""), ("kwsk/bin/shim", b"program")];
        assert_eq!(found.len(), expected.len());
        for ((path, mode, content), (wanted, bytes)) in found.iter().zip(expected) {
            assert_eq!((path.to_str().unwrap(), *mode, &content[..]), (wanted, 0o755, bytes));
        }
    }

    #[test]
    fn only_static_programs_are_shims() {
        let mut shims = Shims::new();
        let dynamic = std::env::current_exe().unwrap();
        assert!(shims.add(&dynamic, None).unwrap_err().to_string().contains("dynamic linker"));
        assert!(shims.add(Path::new("/no/such"), None).unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(shims.platforms(), "no platform");
    }
}
