//! [`CodeStore`]: code by digest.

use async_trait::async_trait;
use bytes::Bytes;
use kwsk_model::action::StoredCode;

use crate::error::Result;

pub mod file;

/// Keeps code texts as sent, by their SHA-256. The same text is stored once.
#[async_trait]
pub trait CodeStore: Send + Sync {
    /// Stores a text; durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    async fn put(&self, code: Bytes) -> Result<StoredCode>;

    /// The text, verified against its digest; nothing when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or what is there has another digest.
    async fn get(&self, code: &StoredCode) -> Result<Option<Bytes>>;
}
