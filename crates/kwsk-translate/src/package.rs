//! Packages and bindings ⇄ `kwsk.dev/v1alpha1 Package`.

use kwsk_model::package::Package;
use serde_json::Value;

use crate::document::{Document, Resource, ResourceKind};
use crate::error::Unreadable;
use crate::keys::{self, EntityKind};
use crate::manifest::own::PackageDocument;
use crate::names;

/// The document of a package.
#[must_use]
pub fn to_document(package: &Package) -> PackageDocument {
    let key = names::key(ResourceKind::Package, &package.fqn());
    let metadata = keys::metadata(key, EntityKind::Package, package.name.as_str());
    PackageDocument::new(metadata, package.to_json())
}

/// The package of a document.
///
/// # Errors
/// [`Unreadable`] when the document is of another kind or its `spec` is no package, or another one's.
pub fn from_document(document: &Document) -> Result<Package, Unreadable> {
    let typed = PackageDocument::from_document(document)?;
    let package =
        Package::from_json(&Value::Object(typed.spec)).map_err(|error| Unreadable::of(document, error))?;
    keys::expect_own(document, &names::key(ResourceKind::Package, &package.fqn()))?;
    Ok(package)
}
