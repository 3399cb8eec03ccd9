//! One writer at a time per name: all kinds of entity share one key space, and no document store can check that in one step.

use std::hash::{BuildHasher, RandomState};

use kwsk_model::name::FullyQualifiedEntityName;
use tokio::sync::{Mutex, MutexGuard};

/// Enough stripes that unrelated writers seldom meet.
const STRIPES: usize = 64;

pub(crate) struct Turnstile {
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(), hasher: RandomState::new() }
    }
}

impl Turnstile {
    /// Held while an entity of this name is read, judged and written.
    pub(crate) async fn pass(&self, name: &FullyQualifiedEntityName) -> MutexGuard<'_, ()> {
        let hash = usize::try_from(self.hasher.hash_one(name) % STRIPES as u64).unwrap_or_default();
        self.stripes[hash].lock().await
    }
}
