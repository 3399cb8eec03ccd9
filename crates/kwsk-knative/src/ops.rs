//! The operations OpenWhisk's API consists of, each fetch → validate → build → apply.
//!
//! One file per noun. What may fail is in [`crate::error::Error`]; what an *action* does is never an error but an
//! [`kwsk_model::activation::Activation`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kwsk_model::identity::Identity;
use kwsk_model::name::{FullyQualifiedEntityName, Namespace};
use kwsk_translate::platform::Platform;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activations::ActivationStore;
use crate::auth::Authenticator;
use crate::cluster::Cluster;
use crate::code::CodeStore;
use crate::error::{Error, Result};
use crate::invoke::Invoker;

pub mod action;
pub mod activation;
pub mod detach;
pub mod invoke;
pub mod package;
pub mod page;
pub mod record;
pub mod resolve;
pub mod rule;
pub mod throttle;
pub mod trigger;
mod turnstile;

pub use page::Page;

/// Everything an operation needs, built once by the binary or by a test.
pub struct Ops {
    /// Documents.
    pub cluster: Arc<dyn Cluster>,
    /// Actions and channels.
    pub invoker: Arc<dyn Invoker>,
    /// Records and journal.
    pub activations: Arc<dyn ActivationStore>,
    /// Code by digest.
    pub code: Arc<dyn CodeStore>,
    /// Keys.
    pub auth: Arc<dyn Authenticator>,
    /// Runtimes, limits, addresses.
    pub platform: Arc<Platform>,
    /// Counts requests per namespace.
    pub throttle: throttle::Throttle,
    /// Serialises writers of one name within this process; replicas are told apart by resource versions.
    pub(crate) turnstile: turnstile::Turnstile,
    /// Owns invocations that outlive their request.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the process shuts down: what is accepted but has not begun stays in the journal.
    pub(crate) shutdown: CancellationToken,
}

/// The ports, handed to [`Ops::new`].
pub struct Ports {
    /// See [`Ops::cluster`].
    pub cluster: Arc<dyn Cluster>,
    /// See [`Ops::invoker`].
    pub invoker: Arc<dyn Invoker>,
    /// See [`Ops::activations`].
    pub activations: Arc<dyn ActivationStore>,
    /// See [`Ops::code`].
    pub code: Arc<dyn CodeStore>,
    /// See [`Ops::auth`].
    pub auth: Arc<dyn Authenticator>,
}

impl Ops {
    /// Operations on these ports.
    #[must_use]
    pub fn new(ports: Ports, platform: Arc<Platform>) -> Arc<Self> {
        let Ports { cluster, invoker, activations, code, auth } = ports;
        Arc::new(Self {
            cluster,
            invoker,
            activations,
            code,
            auth,
            platform,
            throttle: throttle::Throttle::default(),
            turnstile: turnstile::Turnstile::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        })
    }

    /// Stops starting accepted invocations and waits until those that have begun are recorded.
    pub async fn drain(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Who makes a request, and in which transaction.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key's identity.
    pub identity: Arc<Identity>,
    /// The transaction id, shown in error bodies and handed to actions.
    pub transaction: Arc<str>,
}

impl Caller {
    /// The caller's own namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.identity.namespace
    }

    /// True when the caller owns `namespace`.
    #[must_use]
    pub fn owns(&self, namespace: &Namespace) -> bool {
        self.namespace() == namespace
    }

    /// # Errors
    /// [`Error::Forbidden`] naming `what` unless the caller owns its namespace.
    pub(crate) fn must_own(&self, what: &FullyQualifiedEntityName) -> Result<()> {
        if self.owns(what.namespace()) { Ok(()) } else { Err(Error::Forbidden(vec![what.to_string()])) }
    }
}

/// Milliseconds since the epoch.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
