//! [`Activations`]: records and journal in the local store.

use std::sync::Arc;

use async_trait::async_trait;
use kwsk_model::activation::{Activation, ActivationId};
use kwsk_model::name::Namespace;
use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::store::Store;
use crate::activations::{Accepted, ActivationQuery, ActivationStore, Progress};
use crate::error::{Error, Result};

const NAME: &str = "activation store";

/// How many records one step of a purge looks at, so that the writer is never away for long.
const PURGED_AT_ONCE: u32 = 500;

const FILTER: &str =
    "namespace = :namespace AND start >= :since AND start <= :upto AND (:name IS NULL OR name = :name)";

/// Activations of one machine.
pub struct Activations {
    store: Store,
}

/// A record as it is stored: serialised by whoever hands it over, not by the one writer.
pub(super) struct Row {
    id: [u8; 16],
    namespace: String,
    name: String,
    start: i64,
    record: Vec<u8>,
}

impl Row {
    pub(super) fn of(activation: &Activation) -> Result<Self> {
        let record = serde_json::to_vec(activation).map_err(|error| Error::store(NAME, "written", error))?;
        Ok(Self {
            id: id_bytes(&activation.activation_id),
            namespace: activation.namespace.as_str().to_owned(),
            name: activation.filter_name(),
            start: millis(activation.start),
            record,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.record.len()
    }

    /// The first record of an id stays; with it, the invocation is no longer unfinished.
    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Self { id, namespace, name, start, record } = self;
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO activations (id, namespace, start, name, record) VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![id, namespace, start, name, record])?;
        forget(connection, id)
    }
}

impl Activations {
    /// The activations in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Deletes the records that started before `start_ms` (milliseconds since the epoch) and says how many. Records are
    /// looked at in the order they were stored, and the first long run of younger ones ends it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn purge_older_than(&self, start_ms: u64) -> Result<u64> {
        let (limit, mut after, mut purged) = (millis(start_ms), 0, 0);
        loop {
            let step = self.store.write(NAME, 0, move |connection| purge(connection, limit, after).map(Ok));
            let (last, deleted) = step.await?;
            purged += deleted;
            match last {
                Some(last) if deleted > 0 => after = last,
                _ => return Ok(purged),
            }
        }
    }

    /// Lists see what was recorded before, too; but a full disk is no reason to hide what is there.
    async fn settle(&self) {
        if let Err(error) = self.store.settle(NAME).await {
            tracing::warn!(%error, "the newest activations are not listed, they cannot be written");
        }
    }

    async fn stored(&self, id: [u8; 16]) -> Result<Option<Arc<Activation>>> {
        let read = move |connection: &Connection| {
            connection
                .prepare_cached("SELECT record FROM activations WHERE id = ?")?
                .query_row([id], |row| row.get::<_, Vec<u8>>(0))
                .optional()
        };
        self.store.read(NAME, read).await?.map(|record| parse(&record)).transpose()
    }
}

#[async_trait]
impl ActivationStore for Activations {
    async fn accept(&self, accepted: &Accepted) -> Result<()> {
        let id = id_bytes(&accepted.activation_id);
        let text = serde_json::to_vec(accepted).map_err(|error| Error::store(NAME, "written", error))?;
        let write = move |connection: &Connection| {
            connection
                .prepare_cached("INSERT OR IGNORE INTO journal (id, begun, accepted) VALUES (?, 0, ?)")?
                .execute(params![id, text])?;
            Ok(Ok(()))
        };
        self.store.write(NAME, accepted.payload.get().len(), write).await
    }

    async fn begin(&self, id: &ActivationId) -> Result<()> {
        let id = id_bytes(id);
        let write = move |connection: &Connection| {
            connection.prepare_cached("UPDATE journal SET begun = 1 WHERE id = ?")?.execute([id])?;
            Ok(Ok(()))
        };
        self.store.write(NAME, 0, write).await
    }

    async fn record(&self, activation: Arc<Activation>) -> Result<()> {
        let row = Row::of(&activation)?;
        self.store.keep(NAME, row.bytes(), move |connection| row.insert(connection)).await
    }

    async fn record_durably(&self, activation: Arc<Activation>) -> Result<()> {
        let row = Row::of(&activation)?;
        // In order, so that of two records of an id the one handed over first stays.
        self.store.write_in_order(NAME, row.bytes(), move |connection| row.insert(connection).map(Ok)).await
    }

    async fn forget(&self, id: &ActivationId) -> Result<()> {
        let id = id_bytes(id);
        self.store.write(NAME, 0, move |connection| forget(connection, &id).map(Ok)).await
    }

    async fn unfinished(&self) -> Result<Vec<(Accepted, Progress)>> {
        self.store.settle(NAME).await?;
        let rows: Vec<(Vec<u8>, bool)> = self
            .store
            .read(NAME, |connection| {
                connection
                    .prepare("SELECT accepted, begun FROM journal ORDER BY seq")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .await?;
        rows.into_iter()
            .map(|(text, begun)| {
                let accepted =
                    serde_json::from_slice(&text).map_err(|error| Error::store(NAME, "read", error))?;
                Ok((accepted, if begun { Progress::Begun } else { Progress::Waiting }))
            })
            .collect()
    }

    async fn get(&self, namespace: &Namespace, id: &ActivationId) -> Result<Option<Arc<Activation>>> {
        let id = id_bytes(id);
        let mut found = self.stored(id).await?;
        if found.is_none() {
            self.store.settle(NAME).await?;
            found = self.stored(id).await?;
        }
        Ok(found.filter(|activation| activation.namespace == *namespace))
    }

    async fn list(&self, query: &ActivationQuery) -> Result<Vec<Arc<Activation>>> {
        self.settle().await;
        let query = query.clone();
        let read = move |connection: &Connection| list(connection, &query);
        self.store.read(NAME, read).await?.into_iter().collect()
    }

    async fn count(&self, query: &ActivationQuery) -> Result<u64> {
        self.settle().await;
        let query = query.clone();
        let read = move |connection: &Connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT count(*) FROM activations WHERE {FILTER}"))?;
            let filter = Filter::of(&query);
            statement.query_row(
                named_params! { ":namespace": filter.namespace, ":since": filter.since, ":upto": filter.upto, ":name": filter.name },
                |row| row.get(0),
            )
        };
        self.store.read(NAME, read).await
    }
}

/// A query as SQL sees it.
struct Filter<'a> {
    namespace: &'a str,
    since: i64,
    upto: i64,
    name: Option<&'a str>,
}

impl<'a> Filter<'a> {
    fn of(query: &'a ActivationQuery) -> Self {
        Self {
            namespace: query.namespace.as_str(),
            since: query.since.map_or(i64::MIN, millis),
            upto: query.upto.map_or(i64::MAX, millis),
            name: query.name.as_deref(),
        }
    }
}

fn list(connection: &Connection, query: &ActivationQuery) -> rusqlite::Result<Vec<Result<Arc<Activation>>>> {
    let filter = Filter::of(query);
    connection
        .prepare_cached(&format!(
            "SELECT record FROM activations WHERE {FILTER} ORDER BY start DESC, seq DESC LIMIT :limit OFFSET :skip"
        ))?
        .query_map(
            named_params! {
                ":namespace": filter.namespace, ":since": filter.since, ":upto": filter.upto, ":name": filter.name,
                ":limit": millis(query.limit), ":skip": millis(query.skip),
            },
            |row| Ok(parse(row.get_ref(0)?.as_bytes()?)),
        )?
        .collect()
}

fn forget(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM journal WHERE id = ?")?.execute([id])?;
    Ok(())
}

/// One step: the last row looked at, and how many were deleted.
fn purge(connection: &Connection, limit: i64, after: i64) -> rusqlite::Result<(Option<i64>, u64)> {
    let last = connection
        .prepare_cached(
            "SELECT max(seq) FROM (SELECT seq FROM activations WHERE seq > ? ORDER BY seq LIMIT ?)",
        )?
        .query_row(params![after, PURGED_AT_ONCE], |row| row.get::<_, Option<i64>>(0))?;
    let Some(last) = last else { return Ok((None, 0)) };
    let deleted = connection
        .prepare_cached("DELETE FROM activations WHERE seq > ? AND seq <= ? AND start < ?")?
        .execute(params![after, last, limit])?;
    Ok((Some(last), deleted as u64))
}

fn parse(record: &[u8]) -> Result<Arc<Activation>> {
    serde_json::from_slice(record).map(Arc::new).map_err(|error| Error::store(NAME, "read", error))
}

/// SQLite's integers are signed; what does not fit is as good as the largest.
fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Half the size of the hexadecimal text. [`ActivationId`] guarantees 32 digits.
fn id_bytes(id: &ActivationId) -> [u8; 16] {
    u128::from_str_radix(id.as_str(), 16).unwrap_or_default().to_be_bytes()
}
