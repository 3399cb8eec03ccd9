//! The rows behind the channels.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use kwsk_translate::document::Key;
use kwsk_translate::event::{CloudEvent, NotAnEvent};
use rusqlite::{Connection, OptionalExtension, params};

use crate::cluster::local::documents::fan_out::Targets;

/// States of a delivery, as they are on disk.
const WAITING: i64 = 0;
const BEGUN: i64 = 1;
const DONE: i64 = 2;

/// An event as it is stored: the headers and the body of its binary HTTP form.
pub(super) struct Stored {
    head: String,
    body: Vec<u8>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) begun: bool,
    pub(super) attempts: u32,
    /// Milliseconds since the epoch.
    pub(super) next_at: i64,
}

/// An event some of whose deliveries have not ended; `progress` has those, by target.
pub(super) struct Unfinished {
    pub(super) id: i64,
    pub(super) namespace: Arc<str>,
    pub(super) targets: Targets,
    pub(super) progress: Vec<(u32, Progress)>,
}

/// What is stored is no event.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the headers of a stored event are not JSON")]
    Head(#[source] serde_json::Error),
    #[error("a stored event is incomplete")]
    Event(#[source] NotAnEvent),
}

impl Stored {
    pub(super) fn of(event: &CloudEvent) -> serde_json::Result<Self> {
        let (headers, body) = event.to_binary();
        Ok(Self { head: serde_json::to_string(&headers)?, body })
    }

    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    pub(super) fn into_event(self) -> Result<CloudEvent, Broken> {
        let headers: Vec<(String, String)> = serde_json::from_str(&self.head).map_err(Broken::Head)?;
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        CloudEvent::from_http(headers, &self.body).map_err(Broken::Event)
    }
}

pub(super) fn accept(
    connection: &Connection,
    channel: &Key,
    targets: &Targets,
    event: &Stored,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO events (namespace, channel, targets, head, body) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![channel.namespace, channel.name, targets.stored, event.head, event.body])?;
    let id = connection.last_insert_rowid();
    connection
        .prepare_cached("INSERT INTO fan_out (event, remaining) VALUES (?, ?)")?
        .execute(params![id, targets.list.len() as i64])?;
    Ok(id)
}

/// The first event of this process, decided now if it has none yet.
pub(super) fn boundary(connection: &Connection, first: &OnceLock<i64>) -> rusqlite::Result<i64> {
    let last: i64 = connection.query_row("SELECT ifnull(max(id), 0) FROM events", [], |row| row.get(0))?;
    Ok(*first.get_or_init(|| last + 1))
}

pub(super) fn content(connection: &Connection, event: i64) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached("SELECT head, body FROM events WHERE id = ?")?
        .query_row([event], |row| Ok(Stored { head: row.get(0)?, body: row.get(1)? }))
        .optional()
}

/// The run of a delivery begins: it is not to be repeated.
pub(super) fn begin(connection: &Connection, event: i64, target: u32) -> rusqlite::Result<()> {
    set(connection, event, target, BEGUN, Progress::default())
}

/// An attempt has failed and there will be another. This may come late, when the disk was full: what has begun since stays
/// begun, what has ended stays ended.
pub(super) fn postpone(
    connection: &Connection,
    event: i64,
    target: u32,
    progress: Progress,
) -> rusqlite::Result<()> {
    set(connection, event, target, WAITING, progress)
}

/// A state never goes back.
fn set(
    connection: &Connection,
    event: i64,
    target: u32,
    state: i64,
    progress: Progress,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO deliveries (event, target, state, attempts, next_at)
             SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM fan_out WHERE event = ?1)
             ON CONFLICT DO UPDATE SET state = ?3, attempts = ?4, next_at = ?5 WHERE state <= ?3",
        )?
        .execute(params![event, target, state, progress.attempts, progress.next_at])?;
    Ok(())
}

/// A delivery has ended; with the last one, the event goes.
pub(super) fn finish(connection: &Connection, event: i64, target: u32) -> rusqlite::Result<()> {
    let remaining: Option<i64> = connection
        .prepare_cached("SELECT remaining FROM fan_out WHERE event = ?")?
        .query_row([event], |row| row.get(0))
        .optional()?;
    let state: Option<i64> = connection
        .prepare_cached("SELECT state FROM deliveries WHERE event = ? AND target = ?")?
        .query_row(params![event, target], |row| row.get(0))
        .optional()?;
    match remaining {
        None => Ok(()),
        Some(_) if state == Some(DONE) => Ok(()),
        Some(..=1) => remove(connection, event),
        Some(_) => {
            connection
                .prepare_cached("UPDATE fan_out SET remaining = remaining - 1 WHERE event = ?")?
                .execute([event])?;
            set(connection, event, target, DONE, Progress::default())
        }
    }
}

fn remove(connection: &Connection, event: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM deliveries WHERE event = ?")?.execute([event])?;
    connection.prepare_cached("DELETE FROM fan_out WHERE event = ?")?.execute([event])?;
    connection.prepare_cached("DELETE FROM events WHERE id = ?")?.execute([event])?;
    Ok(())
}

/// At most `limit` events between `after` and `until`, both exclusive, oldest first.
pub(super) fn unfinished(
    connection: &Connection,
    after: i64,
    until: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Unfinished>> {
    let events: Vec<(i64, String, Vec<u8>)> = connection
        .prepare_cached(
            "SELECT id, namespace, targets FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
        )?
        .query_map(params![after, until, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    events.into_iter().map(|event| with_progress(connection, event)).collect()
}

fn with_progress(
    connection: &Connection,
    (id, namespace, stored): (i64, String, Vec<u8>),
) -> rusqlite::Result<Unfinished> {
    let mut known: HashMap<u32, (i64, Progress)> = connection
        .prepare_cached("SELECT target, state, attempts, next_at FROM deliveries WHERE event = ?")?
        .query_map([id], |row| {
            let state: i64 = row.get(1)?;
            let progress = Progress { begun: state == BEGUN, attempts: row.get(2)?, next_at: row.get(3)? };
            Ok((row.get(0)?, (state, progress)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let targets = Targets::from_stored(stored)?;
    let progress = (0u32..)
        .take(targets.list.len())
        .map(|target| (target, known.remove(&target).unwrap_or_default()))
        .filter(|(_, (state, _))| *state != DONE)
        .map(|(target, (_, progress))| (target, progress))
        .collect();
    Ok(Unfinished { id, namespace: namespace.into(), targets, progress })
}
