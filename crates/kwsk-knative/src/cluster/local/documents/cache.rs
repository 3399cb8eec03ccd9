//! [`Cache`]: hot documents, never older than the last write that was acknowledged.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kwsk_translate::document::{Document, Key};

use super::table::Row;
use super::{table, unreadable};
use crate::error::{Error, Result};

/// Bytes of documents, as [`table::estimated_bytes`] sees them, that may be kept.
const CAPACITY: u64 = 4 << 20;

const SHARDS: usize = 64;

/// Documents by key. A reader that found an old row while the object was written must not put it here: each shard counts
/// its writes, and a [`Ticket`] is only good while its shard's count stands still.
pub(super) struct Cache {
    documents: moka::sync::Cache<Key, Arc<Document>>,
    writes: [Mutex<u64>; SHARDS],
}

/// The right to fill in one document, taken before its row is read.
pub(super) struct Ticket {
    shard: usize,
    writes: u64,
}

impl Cache {
    pub(super) fn new() -> Self {
        let weigh = |_: &Key, document: &Arc<Document>| {
            u32::try_from(table::estimated_bytes(document)).unwrap_or(u32::MAX)
        };
        Self {
            documents: moka::sync::Cache::builder().weigher(weigh).max_capacity(CAPACITY).build(),
            writes: [const { Mutex::new(0) }; SHARDS],
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Document>> {
        self.documents.get(key)
    }

    /// The kept document when it is the row's version, otherwise what the row says.
    pub(super) fn or_parse(&self, key: &Key, row: &Row<'_>) -> Result<Arc<Document>, Error> {
        let kept =
            self.documents.get(key).filter(|document| document.resource_version() == row.version_text());
        kept.map_or_else(|| row.parse().map(Arc::new).map_err(unreadable), Ok)
    }

    pub(super) fn ticket(&self, key: &Key) -> Ticket {
        let shard = shard_of(key);
        let writes = *self.shard(shard);
        Ticket { shard, writes }
    }

    pub(super) fn fill(&self, ticket: &Ticket, document: &Arc<Document>) {
        let writes = self.shard(ticket.shard);
        if *writes == ticket.writes {
            self.documents.insert(document.key(), Arc::clone(document));
        }
    }

    pub(super) fn put(&self, document: &Arc<Document>) {
        let key = document.key();
        let mut writes = self.shard(shard_of(&key));
        *writes += 1;
        self.documents.insert(key, Arc::clone(document));
    }

    pub(super) fn remove(&self, key: &Key) {
        let mut writes = self.shard(shard_of(key));
        *writes += 1;
        self.documents.invalidate(key);
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, u64> {
        self.writes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shard_of(key: &Key) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as usize % SHARDS
}
