//! What stands in for an entity's record on objects that kwsk did not write.

use kwsk_model::name::{FullyQualifiedEntityName, Namespace};
use kwsk_model::params::Annotations;
use kwsk_model::version::SemVer;

use crate::document::Document;
use crate::error::Unreadable;
use crate::keys;

/// The annotation `kwsk.dev/name`, else the object's own name; the Kubernetes namespace is taken as OpenWhisk's.
pub(crate) fn fqn(document: &Document) -> Result<FullyQualifiedEntityName, Unreadable> {
    let key = document.key();
    let name = keys::name(document).unwrap_or(&key.name);
    let namespace =
        Namespace::new(key.namespace.as_str()).map_err(|error| Unreadable::of(document, error))?;
    FullyQualifiedEntityName::from_local_name(namespace, name)
        .map_err(|error| Unreadable::of(document, error))
}

/// `0.0.<generation>`.
pub(crate) fn version(document: &Document) -> SemVer {
    let generation = u32::try_from(document.generation()).unwrap_or(u32::MAX).max(1);
    SemVer::new(0, 0, generation).unwrap_or_default()
}

/// `[{"key":"knative","value":true}]`.
pub(crate) fn annotations() -> Annotations {
    [("knative", true)].into_iter().collect()
}

/// Milliseconds since the epoch: the newest change that is not one of the status, else the creation.
pub(crate) fn updated(document: &Document) -> u64 {
    let metadata = &document.metadata;
    let changes = metadata.managed_fields.iter().flatten();
    let of_spec = changes.filter(|entry| entry.subresource.as_deref() != Some("status"));
    let newest = of_spec.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max();
    let time = newest.or_else(|| metadata.creation_timestamp.as_ref().map(|time| time.0));
    time.map_or(0, |time| u64::try_from(time.as_millisecond()).unwrap_or_default())
}
