//! The rows behind the documents.

use std::collections::BTreeSet;
use std::sync::Arc;

use kwsk_translate::document::{Document, Key, ResourceKind};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use serde_json::{Map, Value};

use super::fan_out;
use super::unreadable;
use crate::cluster::{Apply, Precondition, revision};
use crate::error::{Error, Result};

/// How far selectivity is counted: beyond, every way to find the rows is as bad as the other.
const COUNTED: u32 = 1000;

/// A document as it is stored, not parsed yet.
pub(super) struct Row<'a> {
    kind: ResourceKind,
    version: i64,
    metadata: &'a str,
    body: &'a str,
}

/// [`Row`] that outlives its statement.
pub(super) struct Found {
    id: i64,
    key: Key,
    version: i64,
    metadata: String,
    body: String,
}

/// What an apply did.
pub(super) enum Applied {
    /// Nothing: the object was like that.
    Same(Arc<Document>),
    /// The object has this new version.
    Changed(Arc<Document>, u64),
}

impl Row<'_> {
    pub(super) fn version_text(&self) -> String {
        self.version.to_string()
    }

    pub(super) fn parse(&self) -> serde_json::Result<Document> {
        parse(self.kind, self.metadata, self.body)
    }
}

impl Found {
    pub(super) fn into_document(self) -> Result<Document> {
        parse(self.key.kind, &self.metadata, &self.body).map_err(unreadable)
    }
}

impl Applied {
    pub(super) fn into_document(self) -> Arc<Document> {
        match self {
            Self::Same(document) | Self::Changed(document, _) => document,
        }
    }
}

fn parse(kind: ResourceKind, metadata: &str, body: &str) -> serde_json::Result<Document> {
    let body: Map<String, Value> = serde_json::from_str(body)?;
    Ok(Document::new(kind, serde_json::from_str(metadata)?, body))
}

/// A kind as the table has it. These numbers are on disk: never reuse one.
fn number(kind: ResourceKind) -> i64 {
    match kind {
        ResourceKind::KService => 1,
        ResourceKind::Channel => 2,
        ResourceKind::Subscription => 3,
        ResourceKind::PingSource => 4,
        ResourceKind::Package => 5,
        ResourceKind::Sequence => 6,
        ResourceKind::Subject => 7,
    }
}

pub(super) fn find(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Found>> {
    connection
        .prepare_cached(
            "SELECT id, version, metadata, body FROM documents WHERE kind = ? AND namespace = ? AND name = ?",
        )?
        .query_row(params![number(key.kind), key.namespace, key.name], |row| {
            let (id, version, metadata, body) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(Found { id, key: key.clone(), version, metadata, body })
        })
        .optional()
}

/// Rows of `kind` in key order, each as `read` makes it.
pub(super) fn list<T>(
    connection: &Connection,
    kind: ResourceKind,
    within: Option<&str>,
    with: &[(&'static str, String)],
    mut read: impl FnMut(&Key, &Row<'_>) -> T,
) -> rusqlite::Result<Vec<T>> {
    let (sql, parameters) = select(connection, kind, within, with)?;
    let mut statement = connection.prepare_cached(&sql)?;
    statement
        .query_map(params_from_iter(parameters), |row| {
            let key = Key::new(kind, row.get::<_, String>(0)?, row.get::<_, String>(1)?);
            let (metadata, body) = (row.get_ref(3)?.as_str()?, row.get_ref(4)?.as_str()?);
            Ok(read(&key, &Row { kind, version: row.get(2)?, metadata, body }))
        })?
        .collect()
}

/// At most `limit` documents of a kind after a key, in key order.
pub(super) fn page(
    connection: &Connection,
    kind: ResourceKind,
    after: &(String, String),
    limit: u32,
) -> rusqlite::Result<Vec<serde_json::Result<Arc<Document>>>> {
    connection
        .prepare_cached(
            "SELECT metadata, body FROM documents WHERE kind = ? AND (namespace, name) > (?, ?)
             ORDER BY namespace, name LIMIT ?",
        )?
        .query_map(params![number(kind), after.0, after.1, limit], |row| {
            let (metadata, body) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
            Ok(parse(kind, metadata, body).map(Arc::new))
        })?
        .collect()
}

/// The query of a list: it walks the keys, or the rarest of the labels, whichever are fewer.
fn select(
    connection: &Connection,
    kind: ResourceKind,
    within: Option<&str>,
    with: &[(&'static str, String)],
) -> rusqlite::Result<(String, Vec<Sql>)> {
    let rarest = match with {
        [] => None,
        with => rarest(connection, kind, within, with)?,
    };
    let mut parameters = Vec::new();
    let mut bind = |value: Sql| {
        parameters.push(value);
        "?"
    };
    let mut sql = "SELECT d.namespace, d.name, d.version, d.metadata, d.body FROM ".to_owned();
    if let Some(index) = rarest {
        let (key, value) = &with[index];
        sql += "selectors s CROSS JOIN documents d ON d.id = s.document WHERE s.key = ";
        sql += bind(Sql::from((*key).to_owned()));
        sql += " AND s.value = ";
        sql += bind(Sql::from(value.clone()));
        sql += " AND +d.kind = ";
    } else {
        sql += "documents d WHERE d.kind = ";
    }
    sql += bind(Sql::from(number(kind)));
    if let Some(namespace) = within {
        sql += if rarest.is_some() { " AND +d.namespace = " } else { " AND d.namespace = " };
        sql += bind(Sql::from(namespace.to_owned()));
    }
    for (_, (key, value)) in with.iter().enumerate().filter(|(index, _)| Some(*index) != rarest) {
        sql += " AND EXISTS (SELECT 1 FROM selectors x WHERE x.key = ";
        sql += bind(Sql::from((*key).to_owned()));
        sql += " AND x.value = ";
        sql += bind(Sql::from(value.clone()));
        sql += " AND x.document = d.id)";
    }
    sql += " ORDER BY d.namespace, d.name";
    Ok((sql, parameters))
}

/// The label fewer documents have than there are keys to walk; nothing when no label is that rare.
fn rarest(
    connection: &Connection,
    kind: ResourceKind,
    within: Option<&str>,
    with: &[(&'static str, String)],
) -> rusqlite::Result<Option<usize>> {
    let mut best = connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM documents WHERE kind = ?1 AND namespace = ifnull(?2, namespace) LIMIT ?3)",
        )?
        .query_row(params![number(kind), within, COUNTED], |row| row.get::<_, i64>(0))?;
    let mut found = None;
    for (index, (key, value)) in with.iter().enumerate() {
        let count = connection
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM selectors WHERE key = ? AND value = ? LIMIT ?)",
            )?
            .query_row(params![key, value, COUNTED], |row| row.get::<_, i64>(0))?;
        if count < best {
            (best, found) = (count, Some(index));
        }
    }
    Ok(found)
}

pub(super) fn apply(
    connection: &Connection,
    document: Document,
    how: &Apply,
) -> rusqlite::Result<Result<Applied>> {
    let found = find(connection, &document.key())?;
    let id = found.as_ref().map(|found| found.id);
    let existing = match found.map(Found::into_document).transpose() {
        Ok(existing) => existing,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(refusal) = revision::check(&document, existing.as_ref(), how) {
        return Ok(Err(refusal));
    }
    let version = last_version(connection)? + 1;
    let Some(revised) = revision::revise(document, existing.as_ref(), revision::Stamp::new(version)) else {
        return Ok(existing.map(|same| Applied::Same(Arc::new(same))).ok_or(Error::NotFound));
    };
    let (metadata, body) =
        match (serde_json::to_string(&revised.metadata), serde_json::to_string(&revised.body)) {
            (Ok(metadata), Ok(body)) => (metadata, body),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(Error::store(super::NAME, "written", error))),
        };
    next_version(connection)?;
    let id = store(connection, id, &revised, version, [&metadata, &body])?;
    let old = existing.as_ref().map(selectors).unwrap_or_default();
    reselect(connection, id, &old, &selectors(&revised))?;
    Ok(Ok(Applied::Changed(Arc::new(revised), version)))
}

/// Writes the row and returns its id.
fn store(
    connection: &Connection,
    id: Option<i64>,
    document: &Document,
    version: u64,
    [metadata, body]: [&str; 2],
) -> rusqlite::Result<i64> {
    let version = version as i64;
    if let Some(id) = id {
        connection
            .prepare_cached("UPDATE documents SET version = ?, metadata = ?, body = ? WHERE id = ?")?
            .execute(params![version, metadata, body, id])?;
        return Ok(id);
    }
    let key = document.key();
    let uid = document.metadata.uid.as_deref().unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT INTO documents (kind, namespace, name, version, uid, metadata, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![number(key.kind), key.namespace, key.name, version, uid, metadata, body])?;
    Ok(connection.last_insert_rowid())
}

/// What was deleted and the resource version of its end; a watcher sorts by it.
pub(super) type Deleted = Option<(Arc<Document>, u64)>;

pub(super) fn delete(
    connection: &Connection,
    key: &Key,
    only_if: &Precondition,
) -> rusqlite::Result<Result<Deleted>> {
    let Some(found) = find(connection, key)? else { return Ok(Ok(None)) };
    let same = match only_if {
        Precondition::None => true,
        Precondition::ResourceVersion(version) => *version == found.version.to_string(),
    };
    if !same {
        return Ok(Err(Error::Conflict(key.clone())));
    }
    let id = found.id;
    let document = match found.into_document() {
        Ok(document) => document,
        Err(error) => return Ok(Err(error)),
    };
    connection.prepare_cached("DELETE FROM documents WHERE id = ?")?.execute([id])?;
    reselect(connection, id, &selectors(&document), &BTreeSet::new())?;
    let version = next_version(connection)?;
    Ok(Ok(Some((Arc::new(document), version))))
}

/// The last resource version that was given out.
fn last_version(connection: &Connection) -> rusqlite::Result<u64> {
    let value =
        connection.prepare_cached("SELECT value FROM sequence")?.query_row([], |row| row.get::<_, i64>(0))?;
    Ok(value.unsigned_abs())
}

fn next_version(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("UPDATE sequence SET value = value + 1")?.execute([])?;
    last_version(connection)
}

/// What a document is found by.
fn selectors(document: &Document) -> BTreeSet<(&str, &str)> {
    let labels = document.metadata.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    let channel = fan_out::channel_of(document).map(|channel| (fan_out::SELECTOR, channel));
    labels.chain(channel).collect()
}

fn reselect(
    connection: &Connection,
    id: i64,
    old: &BTreeSet<(&str, &str)>,
    new: &BTreeSet<(&str, &str)>,
) -> rusqlite::Result<()> {
    for (key, value) in old.difference(new) {
        connection
            .prepare_cached("DELETE FROM selectors WHERE key = ? AND value = ? AND document = ?")?
            .execute(params![key, value, id])?;
    }
    for (key, value) in new.difference(old) {
        connection
            .prepare_cached("INSERT INTO selectors (key, value, document) VALUES (?, ?, ?)")?
            .execute(params![key, value, id])?;
    }
    Ok(())
}

/// Roughly what a document takes in memory: the strings, and for each node of the tree what it costs to have one.
pub(super) fn estimated_bytes(document: &Document) -> usize {
    const NODE: usize = 96;
    fn of(value: &Value) -> usize {
        NODE + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(of).sum(),
            Value::Object(map) => map.iter().map(|(key, value)| key.len() + of(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
    let texts = |map: &Option<std::collections::BTreeMap<String, String>>| {
        map.iter().flatten().map(|(key, value)| NODE + key.len() + value.len()).sum::<usize>()
    };
    let body: usize = document.body.iter().map(|(key, value)| key.len() + of(value)).sum();
    1024 + body + texts(&document.metadata.labels) + texts(&document.metadata.annotations)
}
