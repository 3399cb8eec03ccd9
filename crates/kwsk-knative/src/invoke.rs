//! [`Invoker`]: posting to an action's Service and to a trigger's Channel.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use kwsk_model::json::RawJson;
use kwsk_model::proxy::RunContext;
use kwsk_shim::Report;
use kwsk_translate::document::{Document, Key};
use kwsk_translate::event::CloudEvent;

use crate::error::Result;

/// Awaited once, right before the run may begin: it makes "this has begun" durable. When it fails, the run does not happen.
/// An adapter that cannot see that moment awaits it before it sends.
pub type Begin = Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send>;

/// One invocation of an action, arguments complete.
pub struct Call {
    /// The action's KService as the caller resolved it: that generation or a newer one runs, never an older one.
    pub service: Arc<Document>,
    /// What the runtime exports as `__OW_*`. The deadline in it is set when the run starts.
    pub context: RunContext,
    /// The merged arguments.
    pub arguments: RawJson,
    /// See [`Begin`]; none for invocations nobody journalled.
    pub begin: Option<Begin>,
}

/// Reaches actions and channels.
#[async_trait]
pub trait Invoker: Send + Sync {
    /// Runs the action once and reports. Whatever the *action* does is a report, never an error.
    ///
    /// # Errors
    /// Only when the run did not begin: the service is gone, the platform is shutting down or overloaded, or
    /// [`Call::begin`] failed.
    async fn invoke(&self, call: Call) -> Result<Report>;

    /// Hands an event to a channel; when it returns, the channel has accepted it as durably as its kind does.
    ///
    /// # Errors
    /// When the channel does not exist or cannot store the event.
    async fn publish(&self, channel: &Key, event: CloudEvent) -> Result<()>;
}
