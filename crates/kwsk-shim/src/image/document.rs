//! Manifests, indexes and configurations as they are stored: what is not edited keeps its bytes.

use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::digest::Digest;
use super::error::ImageError;
use super::media::ManifestKind;
use super::platform::Platform;

/// A JSON object whose values are left as they were written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fields(IndexMap<String, Box<RawValue>>);

impl Fields {
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Self, ImageError> {
        serde_json::from_slice(bytes)
            .map_err(|error| ImageError::malformed(what, format_args!("it is not a JSON object ({error})")))
    }

    /// A field's value; `None` when it is absent or `null`.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str, what: &str) -> Result<Option<T>, ImageError> {
        let Some(raw) = self.0.get(key) else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|error| {
            ImageError::malformed(what, format_args!("its field '{key}' is not what it has to be ({error})"))
        })
    }

    /// Keeps the field's place when it is there.
    pub(crate) fn set(&mut self, key: &str, value: &impl Serialize) {
        self.0.insert(key.to_owned(), raw(value));
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.0.shift_remove(key);
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

pub(crate) fn raw(value: &impl Serialize) -> Box<RawValue> {
    match serde_json::value::to_raw_value(value) {
        Ok(raw) => raw,
        Err(error) => unreachable!("strings, numbers and JSON always are JSON: {error}"),
    }
}

pub(crate) fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    match serde_json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("strings, numbers and JSON always are JSON: {error}"),
    }
}

/// What is read of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "IndexMap::is_empty", deserialize_with = "or_empty")]
    pub(crate) annotations: IndexMap<String, String>,
}

fn or_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<IndexMap<String, String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Descriptor {
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            platform: None,
            annotations: IndexMap::new(),
        }
    }
}

/// A document of a registry with its verified address.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) kind: ManifestKind,
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    /// Finds out what `bytes` are: their own `mediaType` counts more than what came with them.
    pub(crate) fn read(bytes: Vec<u8>, announced: &str, what: &str) -> Result<Self, ImageError> {
        let fields = Fields::parse(&bytes, what)?;
        let version: Option<u64> = fields.get("schemaVersion", what)?;
        let own: Option<String> = fields.get("mediaType", what)?;
        let announced = announced.split(';').next().unwrap_or_default().trim();
        let media_type = match version {
            Some(1) => "application/vnd.docker.distribution.manifest.v1+json",
            _ => own.as_deref().filter(|own| !own.is_empty()).unwrap_or(announced),
        };
        let kind = ManifestKind::of(media_type, what)?;
        Ok(Self { kind, digest: Digest::of(&bytes), bytes })
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.kind.media_type(), self.digest.clone(), self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_edited_keeps_its_bytes() {
        let text = r#"{"a":1.000,"b":{ "z" : "\u00e9" },"big":123456789012345678901234567890}"#;
        let mut fields = Fields::parse(text.as_bytes(), "x").unwrap();
        assert_eq!(fields.to_bytes(), text.as_bytes());
        fields.set("b", &"new");
        let edited = String::from_utf8(fields.to_bytes()).unwrap();
        assert_eq!(edited, text.replace(r#"{ "z" : "\u00e9" }"#, "\"new\""));
    }

    #[test]
    fn media_types_are_told_apart() {
        let kind = |text: &str, announced: &str| {
            Stored::read(text.as_bytes().to_vec(), announced, "image x")
                .map(|s| s.kind)
                .map_err(|e| e.to_string())
        };
        use super::super::media::*;
        assert_eq!(kind("{}", OCI_INDEX), Ok(ManifestKind::OciIndex));
        assert_eq!(kind("{}", &format!("{DOCKER_LIST}; charset=utf-8")), Ok(ManifestKind::DockerList));
        let own = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}"}}"#);
        assert_eq!(kind(&own, "text/plain"), Ok(ManifestKind::OciManifest));
        assert!(kind(r#"{"schemaVersion":1}"#, OCI_MANIFEST).unwrap_err().contains("schema 1"));
        assert!(kind("{}", "text/html").unwrap_err().contains("image x is of media type 'text/html'"));
        assert!(kind("[]", OCI_MANIFEST).unwrap_err().contains("not a JSON object"));
    }
}
