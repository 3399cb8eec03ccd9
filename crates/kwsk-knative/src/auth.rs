//! [`Authenticator`]: from a key to an identity.

use std::sync::Arc;

use async_trait::async_trait;
use kwsk_model::identity::{AuthKey, Identity};
use kwsk_model::name::Namespace;

use crate::error::Result;

pub mod subjects;

/// Knows who a key belongs to.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The identity of a key; nothing when the key is unknown, wrong or blocked. Compares in constant time.
    ///
    /// # Errors
    /// When subjects cannot be read.
    async fn authenticate(&self, key: &AuthKey) -> Result<Option<Arc<Identity>>>;

    /// The identity that owns a namespace: to run what was accepted before a restart, and web actions.
    ///
    /// # Errors
    /// When subjects cannot be read.
    async fn owner_of(&self, namespace: &Namespace) -> Result<Option<Arc<Identity>>>;
}

#[cfg(test)]
pub(crate) mod tests_support {
    use kwsk_model::identity::{Identity, NamespaceLimits};
    use kwsk_model::name::Namespace;

    /// An identity with a made-up key.
    pub(crate) fn identity(namespace: &str) -> Identity {
        Identity {
            subject: namespace.to_owned(),
            namespace: Namespace::new(namespace).unwrap(),
            key: format!("23bc46b1-71f6-4ed5-8c54-816aa4f8c502:{}", "k".repeat(64)).parse().unwrap(),
            limits: NamespaceLimits::default(),
        }
    }
}
