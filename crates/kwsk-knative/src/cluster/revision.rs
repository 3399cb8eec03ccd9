//! What an apply makes of a document: the rules every cluster of our own keeps.

use kwsk_translate::document::Document;
use serde_json::{Map, Value};

use super::Apply;
use crate::error::{Error, Result};

/// What the cluster itself brings to an object.
pub(crate) struct Stamp {
    /// For an object that is new.
    pub(crate) uid: String,
    /// The next resource version.
    pub(crate) version: u64,
}

impl Stamp {
    /// A stamp with a random UUID.
    pub(crate) fn new(version: u64) -> Self {
        Self { uid: uuid(), version }
    }
}

/// Whether the object is as the caller expects it.
pub(crate) fn check(document: &Document, existing: Option<&Document>, how: &Apply) -> Result<()> {
    match (how, existing) {
        (Apply::Create, Some(_)) => Err(Error::AlreadyExists(document.key())),
        (Apply::Replace(version), Some(existing)) if existing.resource_version() == version => Ok(()),
        (Apply::Replace(_), _) => Err(Error::Conflict(document.key())),
        (Apply::Create, None) => Ok(()),
    }
}

/// The next state of the object, or nothing when it stays as it is.
pub(crate) fn revise(mut document: Document, existing: Option<&Document>, stamp: Stamp) -> Option<Document> {
    let metadata = &mut document.metadata;
    if let Some(existing) = existing {
        let old = &existing.metadata;
        metadata.uid.clone_from(&old.uid);
        metadata.resource_version.clone_from(&old.resource_version);
        metadata.generation = old.generation;
        metadata.creation_timestamp.clone_from(&old.creation_timestamp);
        if *metadata == *old && document.body == existing.body {
            return None;
        }
        if !same_but_status(&document.body, &existing.body) {
            document.metadata.generation = Some(existing.generation() + 1);
        }
    } else {
        metadata.uid = Some(stamp.uid);
        metadata.generation = Some(1);
        metadata.creation_timestamp = now();
    }
    document.metadata.resource_version = Some(stamp.version.to_string());
    Some(document)
}

fn same_but_status(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let without = |map: &'_ Map<String, Value>| map.iter().filter(|(key, _)| *key != "status").count();
    without(one) == without(other)
        && one.iter().all(|(key, value)| key == "status" || other.get(key) == Some(value))
}

/// This second, as the metadata's type; whole seconds, as Kubernetes has them.
fn now<T: serde::de::DeserializeOwned>() -> Option<T> {
    let second = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).ok()?;
    serde_json::from_value(Value::String(second.to_string())).ok()
}

/// A random UUID, version 4.
fn uuid() -> String {
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without the system's randomness there are still no two objects of one resource version.
        bytes = jiff::Timestamp::now().as_nanosecond().to_be_bytes();
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = kwsk_model::activation::hex(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
