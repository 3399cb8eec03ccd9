//! [`Documents`]: the cluster's objects in the local store.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kwsk_translate::document::{Document, Key, ResourceKind};
use rusqlite::Connection;

use self::cache::Cache;
use self::fan_out::FanOut;
use self::feed::Feeds;
use super::store::Store;
use crate::cluster::{Apply, Cluster, Event, Labels, Precondition};
use crate::error::{Error, Result};

mod cache;
pub(super) mod fan_out;
mod feed;
mod table;

/// The name of the store in errors.
const NAME: &str = "document store";

/// The documents of one machine: rows of the store, the hot ones in memory.
pub struct Documents {
    store: Store,
    memory: Arc<Memory>,
}

/// What is kept outside the database. Only the writer thread changes it, after each transaction and in their order.
struct Memory {
    cache: Cache,
    feeds: Feeds,
    fan_out: FanOut,
}

impl Memory {
    fn applied(&self, document: &Arc<Document>, version: u64) {
        self.cache.put(document);
        self.feeds.tell(document.kind, version, Event::Applied(Arc::clone(document)));
        self.fan_out.forget(document);
    }

    fn deleted(&self, document: &Document, version: u64) {
        let key = document.key();
        self.cache.remove(&key);
        self.fan_out.forget(document);
        self.feeds.tell(document.kind, version, Event::Deleted(key));
    }
}

impl Documents {
    /// The documents in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let memory = Memory { cache: Cache::new(), feeds: Feeds::new(), fan_out: FanOut::default() };
        Self { store, memory: Arc::new(memory) }
    }

    /// Who gets the events of a channel, for the writer thread. Sees what the running transaction has changed.
    pub(super) fn targets(
        &self,
    ) -> impl Fn(&Connection, &Key) -> rusqlite::Result<Arc<fan_out::Targets>> + Send + 'static {
        let memory = Arc::clone(&self.memory);
        move |connection, channel| memory.fan_out.of(connection, channel)
    }

    async fn load(&self, key: &Key) -> Result<Option<Arc<Document>>> {
        let ticket = self.memory.cache.ticket(key);
        let wanted = key.clone();
        let row = self.store.read(NAME, move |connection| table::find(connection, &wanted)).await?;
        let Some(row) = row else { return Ok(None) };
        let document = Arc::new(row.into_document()?);
        self.memory.cache.fill(&ticket, &document);
        Ok(Some(document))
    }
}

#[async_trait]
impl Cluster for Documents {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Document>>> {
        match self.memory.cache.get(key) {
            Some(document) => Ok(Some(document)),
            None => self.load(key).await,
        }
    }

    async fn list(
        &self,
        of: ResourceKind,
        within: Option<&str>,
        with: &Labels,
    ) -> Result<Vec<Arc<Document>>> {
        let (within, with) = (within.map(str::to_owned), with.to_vec());
        let memory = Arc::clone(&self.memory);
        let read = move |connection: &Connection| {
            table::list(connection, of, within.as_deref(), &with, |key, row| memory.cache.or_parse(key, row))
        };
        self.store.read(NAME, read).await?.into_iter().collect()
    }

    async fn apply(&self, document: Document, how: Apply) -> Result<Arc<Document>> {
        let (key, bytes) = (document.key(), table::estimated_bytes(&document));
        let (during, after) = (Arc::clone(&self.memory), Arc::clone(&self.memory));
        let apply = move |connection: &Connection| {
            during.fan_out.forget(&document);
            table::apply(connection, document, &how)
        };
        let remember = move |outcome: &Result<table::Applied>| match outcome {
            Ok(table::Applied::Changed(document, version)) => after.applied(document, *version),
            Ok(table::Applied::Same(_)) => {}
            Err(_) => after.fan_out.forget_at(&key),
        };
        Ok(self.store.write_then(NAME, bytes, apply, remember).await?.into_document())
    }

    async fn delete(&self, key: &Key, only_if: Precondition) -> Result<Option<Arc<Document>>> {
        let (during, after) = (Arc::clone(&self.memory), Arc::clone(&self.memory));
        let (wanted, key) = (key.clone(), key.clone());
        let delete = move |connection: &Connection| {
            let outcome = table::delete(connection, &wanted, &only_if)?;
            if let Ok(Some((document, _))) = &outcome {
                during.fan_out.forget(document);
            }
            Ok(outcome)
        };
        let forget = move |outcome: &Result<Option<(Arc<Document>, u64)>>| match outcome {
            Ok(Some((document, version))) => after.deleted(document, *version),
            Ok(None) => {}
            Err(_) => after.fan_out.forget_at(&key),
        };
        let deleted = self.store.write_then(NAME, 0, delete, forget).await?;
        Ok(deleted.map(|(document, _)| document))
    }

    fn watch(&self, of: ResourceKind) -> BoxStream<'static, Result<Event>> {
        feed::watch(self.store.clone(), of, self.memory.feeds.of(of))
    }
}

/// A failure to read what is stored.
fn unreadable(error: serde_json::Error) -> Error {
    Error::store(NAME, "read", error)
}
