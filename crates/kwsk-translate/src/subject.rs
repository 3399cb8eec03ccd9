//! Subjects ⇄ `kwsk.dev/v1alpha1 Subject`, all in one namespace.

use kwsk_model::identity::Subject;
use serde::Deserialize;
use serde_json::Value;

use crate::document::{Document, Resource};
use crate::error::Unreadable;
use crate::keys::{self, EntityKind};
use crate::manifest::own::SubjectDocument;
use crate::names;

/// The document of a subject. It contains the keys: a cluster adapter moves them into a Secret.
#[must_use]
pub fn to_document(subject: &Subject) -> SubjectDocument {
    let metadata =
        keys::metadata(names::subject_key(&subject.subject), EntityKind::Subject, &subject.subject);
    SubjectDocument::new(metadata, serde_json::to_value(subject).unwrap_or_default())
}

/// The subject of a document.
///
/// # Errors
/// [`Unreadable`] when the document is of another kind or its `spec` is no subject, or another one's.
pub fn from_document(document: &Document) -> Result<Subject, Unreadable> {
    let typed = SubjectDocument::from_document(document)?;
    let subject =
        Subject::deserialize(Value::Object(typed.spec)).map_err(|error| Unreadable::of(document, error))?;
    keys::expect_own(document, &names::subject_key(&subject.subject))?;
    Ok(subject)
}
