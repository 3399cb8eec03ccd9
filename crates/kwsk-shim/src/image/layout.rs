//! OCI image layouts: an image and what belongs to it, in a directory.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::json;

use super::appender::push_all;
use super::client::{Blob, Client};
use super::digest::{Digest, Hasher};
use super::document::{Descriptor, Fields, Stored, to_bytes};
use super::error::ImageError;
use super::media::{LayerKind, OCI_INDEX};
use super::reference::Reference;

/// The annotation that names an image within a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Bytes of a document that are read.
const DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;

/// A directory with `oci-layout`, `index.json` and `blobs`.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Makes an empty layout. One that is there is replaced; anything else in the directory is an error.
    ///
    /// # Errors
    /// [`ImageError::File`].
    pub fn create(dir: &Path) -> Result<Self, ImageError> {
        let failed = || ImageError::file(format!("make an image layout in {}", dir.display()));
        let layout = Self { dir: dir.to_owned() };
        if dir.join("oci-layout").is_file() {
            fs::remove_dir_all(dir).map_err(failed())?;
        }
        fs::create_dir_all(dir).map_err(failed())?;
        if fs::read_dir(dir).map_err(failed())?.next().is_some() {
            let why = "there are other files in it; choose an empty directory".to_owned();
            return Err(ImageError::Malformed { what: format!("the directory {}", dir.display()), why });
        }
        fs::create_dir_all(dir.join("blobs/sha256")).map_err(failed())?;
        fs::write(dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed())?;
        Ok(layout)
    }

    /// The layout in a directory.
    ///
    /// # Errors
    /// [`ImageError::Malformed`] when there is none.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        if dir.join("oci-layout").is_file() {
            return Ok(Self { dir: dir.to_owned() });
        }
        let why = "it has no file 'oci-layout'; give a directory that `kwsk-shim build` made".to_owned();
        Err(ImageError::Malformed { what: format!("the image layout {}", dir.display()), why })
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// A place for a blob that has no name yet, on the same file system.
    pub(crate) fn unnamed(&self) -> Result<tempfile::NamedTempFile, ImageError> {
        let blobs = self.dir.join("blobs");
        tempfile::NamedTempFile::new_in(&blobs)
            .map_err(ImageError::file(format!("write in {}", blobs.display())))
    }

    pub(crate) fn name(&self, file: tempfile::NamedTempFile, digest: &Digest) -> Result<(), ImageError> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.blob_path(digest);
        let failed = || ImageError::file(format!("write {}", path.display()));
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed())?;
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).map_err(failed())?;
        file.persist(&path).map(|_| ()).map_err(|error| failed()(error.error))
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        fs::write(&path, bytes).map_err(ImageError::file(format!("write {}", path.display())))?;
        Ok(digest)
    }

    /// Takes a file over as it is, and says how large it is.
    pub(crate) fn adopt(&self, from: &Self, blob: &Descriptor) -> Result<(), ImageError> {
        let (source, target) = (from.blob_path(&blob.digest), self.blob_path(&blob.digest));
        from.verify(blob)?;
        fs::copy(&source, &target).map(|_| ()).map_err(ImageError::file(format!("copy {}", source.display())))
    }

    /// A document, verified.
    pub(crate) fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let path = self.blob_path(&blob.digest);
        let what = format!("blob {}", blob.digest);
        if blob.size > DOCUMENT_BYTES {
            return Err(ImageError::malformed(what, "it is larger than 8 MiB"));
        }
        self.verify(blob)?;
        fs::read(&path).map_err(ImageError::file(format!("read {}", path.display())))
    }

    fn verify(&self, blob: &Descriptor) -> Result<(), ImageError> {
        let path = self.blob_path(&blob.digest);
        let failed = || ImageError::file(format!("read {}", path.display()));
        let mut file = fs::File::open(&path).map_err(failed())?;
        let mut hasher = Hasher::of(&blob.digest);
        let mut piece = vec![0; 128 * 1024];
        loop {
            let read = file.read(&mut piece).map_err(failed())?;
            match piece.get(..read) {
                Some(bytes) if read > 0 => hasher.update(bytes),
                _ => break,
            }
        }
        let (found, wanted) = (hasher.finish(), blob.digest.clone());
        if found == wanted {
            return Ok(());
        }
        let (registry, what) = (self.dir.display().to_string(), format!("blob {wanted}"));
        Err(ImageError::Mismatch { registry, what, wanted, found })
    }

    /// Writes the list of what is in the layout: an image, and the manifests that belong to it.
    pub(crate) fn finish(
        &self,
        image: Descriptor,
        name: Option<&str>,
        rest: Vec<Descriptor>,
    ) -> Result<(), ImageError> {
        let mut image = image;
        if let Some(name) = name {
            image.annotations = IndexMap::from([(REF_NAME.to_owned(), name.to_owned())]);
        }
        let manifests: Vec<Descriptor> = std::iter::once(image).chain(rest).collect();
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
        let path = self.dir.join("index.json");
        fs::write(&path, to_bytes(&index)).map_err(ImageError::file(format!("write {}", path.display())))
    }

    /// What is in the layout: the image first.
    pub(crate) fn entries(&self) -> Result<Vec<Descriptor>, ImageError> {
        let path = self.dir.join("index.json");
        let what = path.display().to_string();
        let bytes = fs::read(&path).map_err(ImageError::file(format!("read {what}")))?;
        let entries: Vec<Descriptor> =
            Fields::parse(&bytes, &what)?.get("manifests", &what)?.unwrap_or_default();
        // Attached documents are images only to those who do not look.
        let (rest, mut images): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.artifact_type.is_some());
        if images.len() != 1 {
            let why = format!("it names {} images; one is needed", images.len());
            return Err(ImageError::Malformed { what, why });
        }
        images.extend(rest);
        Ok(images)
    }

    pub(crate) fn stored(&self, entry: &Descriptor) -> Result<Stored, ImageError> {
        Stored::read(
            self.read(entry)?,
            &entry.media_type,
            &format!("{} of {}", entry.digest, self.dir.display()),
        )
    }

    /// Pushes the image and what belongs to it; returns the image's reference by digest.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn push(&self, client: &Client, to: &Reference) -> Result<Reference, ImageError> {
        let entries = self.entries()?;
        let mut image = None;
        let mut unlisted = Vec::new();
        for entry in &entries {
            let stored = self.push_one(client, to, entry).await?;
            let listed = client.push_manifest(&to.at(&stored.digest), &stored).await?;
            match &image {
                None => image = Some(stored),
                Some(_) if listed => {}
                Some(_) => unlisted.push(entry.clone()),
            }
        }
        let Some(image) = image else {
            return Err(ImageError::malformed(self.dir.display().to_string(), "it is empty"));
        };
        client.list_referrers(to, &image.digest, unlisted).await?;
        if to.tag().is_some() {
            client.push_manifest(to, &image).await?;
        }
        Ok(to.at(&image.digest))
    }

    /// The blobs below an entry, and the images of an index.
    async fn push_one(
        &self,
        client: &Client,
        to: &Reference,
        entry: &Descriptor,
    ) -> Result<Stored, ImageError> {
        let stored = self.stored(entry)?;
        let what = format!("{} of {}", entry.digest, self.dir.display());
        let fields = Fields::parse(&stored.bytes, &what)?;
        let mut blobs: Vec<Descriptor> = fields.get("layers", &what)?.unwrap_or_default();
        blobs.extend(fields.get::<Descriptor>("config", &what)?);
        blobs.retain(|blob| LayerKind::of(&blob.media_type, "").ok() != Some(LayerKind::Foreign));
        let blobs = blobs.into_iter().map(|blob| {
            let path = self.blob_path(&blob.digest);
            (blob, Blob::File(path))
        });
        push_all(client, to, blobs.collect()).await?;
        let images: Vec<Descriptor> = fields.get("manifests", &what)?.unwrap_or_default();
        for image in &images {
            let below = Box::pin(self.push_one(client, to, image)).await?;
            client.push_manifest(&to.at(&below.digest), &below).await?;
        }
        Ok(stored)
    }

    /// Brings an image's blob here from a registry.
    pub(crate) async fn pull_blob(
        &self,
        client: &Client,
        from: &Reference,
        blob: &Descriptor,
    ) -> Result<(), ImageError> {
        use http_body_util::BodyExt as _;
        use std::io::Write as _;
        let cause = super::verified::Cause::default();
        let mut body = client.read_blob(from, blob, cause.clone()).await?;
        let mut file = self.unnamed()?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let why = error.to_string();
                let (registry, task) = (from.registry().to_owned(), format!("read blob {}", blob.digest));
                cause.take().unwrap_or(ImageError::Unreachable { registry, task, why })
            })?;
            let data: Bytes = frame.into_data().unwrap_or_default();
            file.write_all(&data).map_err(ImageError::file(format!("write in {}", self.dir.display())))?;
        }
        self.name(file, &blob.digest)
    }
}
