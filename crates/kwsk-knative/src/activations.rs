//! [`ActivationStore`]: records of what ran, and the journal of what was accepted but has not ended.

use std::sync::Arc;

use async_trait::async_trait;
use kwsk_model::activation::{Activation, ActivationId};
use kwsk_model::json::RawJson;
use kwsk_model::name::{FullyQualifiedEntityName, Namespace};
use serde::{Deserialize, Serialize};

use crate::error::Result;

pub mod memory;

/// An invocation that was answered with 202, as the journal keeps it: enough to run it after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its id.
    pub activation_id: ActivationId,
    /// The transaction it came with.
    pub transaction_id: String,
    /// The invoker's namespace.
    pub namespace: Namespace,
    /// The invoker's subject.
    pub subject: String,
    /// UUID of the key it came with, so that a restart finds the identity again.
    pub auth_uuid: String,
    /// The action as named by the caller: a binding's path is kept.
    pub action: FullyQualifiedEntityName,
    /// The payload as sent.
    pub payload: RawJson,
    /// Milliseconds since the epoch: when it was accepted.
    pub accepted_at: u64,
}

/// Where an accepted invocation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has not begun: run it.
    Waiting,
    /// It had begun when the process ended: its outcome is unknown, never run it again.
    Begun,
}

/// Which records to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationQuery {
    /// The invoker's namespace.
    pub namespace: Namespace,
    /// `name` or `pkg/name` ([`Activation::filter_name`]).
    pub name: Option<String>,
    /// Milliseconds since the epoch, inclusive.
    pub since: Option<u64>,
    /// Milliseconds since the epoch, inclusive.
    pub upto: Option<u64>,
    /// How many to pass over.
    pub skip: u64,
    /// How many to return.
    pub limit: u64,
}

/// Keeps activations. Every activation ends in exactly one record: `record` replaces nothing and forgets nothing.
#[async_trait]
pub trait ActivationStore: Send + Sync {
    /// Journals an invocation; durable when it returns, which is before the client gets its 202.
    ///
    /// # Errors
    /// When the journal cannot be written: then the invocation was not accepted.
    async fn accept(&self, accepted: &Accepted) -> Result<()>;

    /// Journals that an accepted invocation begins; durable when it returns, which is before the run.
    ///
    /// # Errors
    /// When the journal cannot be written: then the run must not begin.
    async fn begin(&self, id: &ActivationId) -> Result<()>;

    /// Hands a record to the store and returns as soon as the store's bounded queue has taken it; waits when the queue is
    /// full. The journal entry of the same id goes in the same transaction. A second record of the same id is dropped.
    ///
    /// # Errors
    /// When the store has shut down.
    async fn record(&self, activation: Arc<Activation>) -> Result<()>;

    /// Like [`Self::record`], and durable when it returns.
    ///
    /// # Errors
    /// When the record cannot be written.
    async fn record_durably(&self, activation: Arc<Activation>) -> Result<()>;

    /// Drops the journal entry of an invocation whose record the namespace does not want (`storeActivations: false`).
    ///
    /// # Errors
    /// When the journal cannot be written.
    async fn forget(&self, id: &ActivationId) -> Result<()>;

    /// What was accepted and has no record, oldest first: for the start of a process.
    ///
    /// # Errors
    /// When the journal cannot be read.
    async fn unfinished(&self) -> Result<Vec<(Accepted, Progress)>>;

    /// The record, if it exists; sees everything `record` was given before.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn get(&self, namespace: &Namespace, id: &ActivationId) -> Result<Option<Arc<Activation>>>;

    /// Records by start, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn list(&self, query: &ActivationQuery) -> Result<Vec<Arc<Activation>>>;

    /// How many records the query matches, `limit` and `skip` ignored.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn count(&self, query: &ActivationQuery) -> Result<u64>;
}
