//! What can go wrong when reading documents.

/// A document cannot be read as what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object} cannot be read: {why}")]
pub struct Unreadable {
    /// Which object.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
}
