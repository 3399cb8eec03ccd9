//! What belongs to an image: manifests whose `subject` it is.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use serde_json::value::RawValue;

use super::super::digest::Digest;
use super::super::document::{Descriptor, Fields, Stored, raw, to_bytes};
use super::super::error::ImageError;
use super::super::media::{ManifestKind, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST};
use super::super::reference::Reference;
use super::{Access, Ask, Blob, Client};

/// One document that is attached to an image.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    /// What it is, also as the manifest's `artifactType`.
    pub(crate) media_type: &'static str,
    pub(crate) content: Bytes,
}

impl Attachment {
    /// The manifest that ties the document to `subject`.
    pub(crate) fn manifest(&self, subject: &Descriptor) -> Stored {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": self.media_type,
            "config": Descriptor::of(OCI_EMPTY, EMPTY),
            "layers": [Descriptor::of(self.media_type, &self.content)],
            "subject": Descriptor::new(&subject.media_type, subject.digest.clone(), subject.size),
        });
        let bytes = to_bytes(&document);
        Stored { kind: ManifestKind::OciManifest, digest: Digest::of(&bytes), bytes }
    }
}

/// The configuration of what has none.
pub(crate) const EMPTY: &[u8] = b"{}";

impl Client {
    /// Attaches documents to an image of `to`'s repository.
    pub(crate) async fn attach(
        &self,
        to: &Reference,
        subject: &Descriptor,
        attachments: &[Attachment],
    ) -> Result<(), ImageError> {
        let mut unlisted = Vec::new();
        for attachment in attachments {
            for (media_type, bytes) in
                [(OCI_EMPTY, Bytes::from_static(EMPTY)), (attachment.media_type, attachment.content.clone())]
            {
                let descriptor = Descriptor::of(media_type, &bytes);
                self.push_blob(to, &descriptor, &Blob::Memory(bytes)).await?;
            }
            let stored = attachment.manifest(subject);
            let listed = self.push_manifest(&to.at(&stored.digest), &stored).await?;
            if !listed {
                let artifact_type = Some(attachment.media_type.to_owned());
                unlisted.push(Descriptor { artifact_type, ..stored.descriptor() });
            }
        }
        self.list_referrers(to, &subject.digest, unlisted).await
    }

    /// Sees to it that pushed manifests are found by their subject, where the registry did not say that it does.
    pub(crate) async fn list_referrers(
        &self,
        to: &Reference,
        subject: &Digest,
        unlisted: Vec<Descriptor>,
    ) -> Result<(), ImageError> {
        if unlisted.is_empty() || self.lists_referrers(to, subject).await? {
            return Ok(());
        }
        self.list_by_tag(to, subject, unlisted).await
    }

    /// True when the registry has the referrers API.
    async fn lists_referrers(&self, to: &Reference, subject: &Digest) -> Result<bool, ImageError> {
        let task = format!("list what belongs to {subject} in {}", to.name());
        let mut ask = Ask::new(Method::GET, to, Access::Pull, format!("referrers/{subject}"), task);
        ask.accept = Some(OCI_INDEX);
        Ok(self.send(ask).await?.status() == StatusCode::OK)
    }

    /// Keeps the list ourselves, under the tag that clients look at when there is no API.
    async fn list_by_tag(
        &self,
        to: &Reference,
        subject: &Digest,
        new: Vec<Descriptor>,
    ) -> Result<(), ImageError> {
        let tag = format!("{}-{}", subject.algorithm(), subject.hex());
        let list = to.tagged(&tag);
        let what = format!("the list of what belongs to {subject}");
        let mut fields = match self.manifest(&list).await {
            Ok(stored) if stored.kind == ManifestKind::OciIndex => Fields::parse(&stored.bytes, &what)?,
            Ok(_) | Err(ImageError::NotFound { .. }) => Fields::default(),
            Err(error) => return Err(error),
        };
        let mut entries: Vec<Box<RawValue>> = fields.get("manifests", &what)?.unwrap_or_default();
        let before = entries.len();
        for descriptor in &new {
            let known = |entry: &RawValue| entry.get().contains(descriptor.digest.as_str());
            if !entries.iter().any(|entry| known(entry)) {
                entries.push(raw(descriptor));
            }
        }
        if entries.len() == before {
            return Ok(());
        }
        fields.set("schemaVersion", &2);
        fields.set("mediaType", &OCI_INDEX);
        fields.set("manifests", &entries);
        let bytes = fields.to_bytes();
        let stored = Stored { kind: ManifestKind::OciIndex, digest: Digest::of(&bytes), bytes };
        self.push_manifest(&list, &stored).await.map(|_| ())
    }
}
