//! [`Cluster`]: what kwsk needs from Kubernetes, and nothing more.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kwsk_translate::document::{Document, Key, ResourceKind};

use crate::error::Result;

pub mod fake;
pub mod local;
mod revision;

/// Labels a listed document must carry, all of them.
pub type Labels = [(&'static str, String)];

/// What has to hold for an apply to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Apply {
    /// The object does not exist; otherwise [`crate::error::Error::AlreadyExists`].
    Create,
    /// The object has this resource version; otherwise [`crate::error::Error::Conflict`].
    Replace(String),
}

/// What has to hold for a delete to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    None,
    /// The object has this resource version; otherwise [`crate::error::Error::Conflict`].
    ResourceVersion(String),
}

/// What a watch reports.
#[derive(Debug, Clone)]
pub enum Event {
    /// The object was created or changed, or existed when the watch began.
    Applied(Arc<Document>),
    /// The object is gone.
    Deleted(Key),
}

/// Five verbs over documents. The rules every adapter keeps, and `tests/it/cluster.rs` holds them to:
/// `uid`, `resourceVersion`, `generation` and `creationTimestamp` are the cluster's; `generation` grows when anything but
/// `metadata` and `status` changed; an apply that changes nothing changes no resource version; what `apply` returned, the next
/// `get` and `list` see.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// The object at `key`, or nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn get(&self, key: &Key) -> Result<Option<Arc<Document>>>;

    /// The objects of one kind with all of `labels`, of one namespace or (`None`) of all, ordered by key.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn list(&self, of: ResourceKind, within: Option<&str>, with: &Labels)
    -> Result<Vec<Arc<Document>>>;

    /// Creates or replaces an object; durable when it returns. Resource version and the like of `document` are ignored.
    ///
    /// # Errors
    /// `AlreadyExists`, `Conflict`, or a failure of the store.
    async fn apply(&self, document: Document, how: Apply) -> Result<Arc<Document>>;

    /// Deletes an object and returns its last state, or nothing when there was none; durable when it returns.
    ///
    /// # Errors
    /// `Conflict`, or a failure of the store.
    async fn delete(&self, key: &Key, only_if: Precondition) -> Result<Option<Arc<Document>>>;

    /// The objects of a kind as they are, then every change. A consumer that falls behind is told the newest state of each
    /// object, never a stale one; intermediate states may be skipped.
    fn watch(&self, of: ResourceKind) -> BoxStream<'static, Result<Event>>;
}
