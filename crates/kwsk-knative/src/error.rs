//! What the outside can do to us.

use std::sync::Arc;

use kwsk_model::body::BodyError;
use kwsk_model::fault::Fault;
use kwsk_model::limits::TooLarge;
use kwsk_model::name::NameError;
use kwsk_model::params::FinalOverride;
use kwsk_translate::document::Key;
use kwsk_translate::error::{Invalid, Unreadable};

/// The result of ports and operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of a storage or transport failure, shared so that one failed batch can be reported to all of its writers.
pub type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Why an operation did not happen. `Display` is what an API client is told unless [`Error::fault`] is `Internal` or
/// `Unavailable`, which say nothing about the inside; [`std::error::Error::source`] has the rest.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A rule of the API refuses it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The body cannot be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A name is outside the grammar.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A size limit is exceeded.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The payload sets a locked parameter.
    #[error(transparent)]
    Final(#[from] FinalOverride),
    /// There is no such entity.
    #[error("The requested resource does not exist.")]
    NotFound,
    /// There is no such package; the answer names it.
    #[error("The requested resource '{0}' does not exist.")]
    NotFoundNamed(String),
    /// The name belongs to an entity of another kind.
    #[error("Resource by this name exists but is not in this collection.")]
    WrongCollection,
    /// The caller may not touch these.
    #[error("The supplied authentication is not authorized to access '{}'.", .0.join(", "))]
    Forbidden(Vec<String>),
    /// The object changed between read and write.
    #[error("Concurrent modification to resource detected.")]
    Conflict(Key),
    /// The object to create exists.
    #[error("resource already exists")]
    AlreadyExists(Key),
    /// More invocations or fires in this minute than allowed.
    #[error("Too many requests in the last minute (count: {count}, allowed: {allowed}).")]
    TooManyPerMinute {
        /// Attempts so far, this one included.
        count: u64,
        /// The limit.
        allowed: u64,
    },
    /// More invocations in flight than allowed.
    #[error("Too many concurrent requests in flight (count: {count}, allowed: {allowed}).")]
    TooManyConcurrent {
        /// In flight.
        count: u64,
        /// The limit.
        allowed: u64,
    },
    /// A stored record cannot be read.
    #[error("Resource is corrupted and cannot be read.")]
    Unreadable(#[from] Unreadable),
    /// The store failed or is full.
    #[error("the {store} cannot be {doing}")]
    Store {
        /// Which store: `document store`, `activation store`, `code store`.
        store: &'static str,
        /// `read` or `written`.
        doing: &'static str,
        /// What it said.
        #[source]
        source: Source,
    },
    /// The action's image cannot be had; for those who run actions this is an outcome, not an error.
    #[error("Failed to pull container image '{0}'.")]
    ImageNotPulled(String),
    /// The action's instances cannot take the call now.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl Error {
    /// The class of the error.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Invalid(invalid) => invalid.fault(),
            Self::Body(_) | Self::Name(_) | Self::Final(_) => Fault::BadRequest,
            Self::TooLarge(_) => Fault::TooLarge,
            Self::NotFound | Self::NotFoundNamed(_) => Fault::NotFound,
            Self::WrongCollection | Self::Conflict(_) | Self::AlreadyExists(_) => Fault::Conflict,
            Self::Forbidden(_) => Fault::Forbidden,
            Self::TooManyPerMinute { .. } | Self::TooManyConcurrent { .. } => Fault::TooMany,
            Self::Unreadable(_) => Fault::Internal,
            Self::Store { .. } | Self::Unavailable(_) | Self::ImageNotPulled(_) => Fault::Unavailable,
        }
    }

    /// A failure of `store` while it was being `read` or `written`.
    pub fn store(
        store: &'static str,
        doing: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Store { store, doing, source: Arc::new(source) }
    }
}
