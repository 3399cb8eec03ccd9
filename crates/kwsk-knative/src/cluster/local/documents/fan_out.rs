//! [`FanOut`]: which Subscriptions get the events of a channel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kwsk_translate::document::{Document, Key, ResourceKind};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

/// The selector that holds a Subscription's channel. No label key has an `@`.
pub(super) const SELECTOR: &str = "@channel";

/// Subscriptions that may be remembered, over all channels.
const REMEMBERED: usize = 20_000;

/// One Subscription, in the channel's namespace. The uid tells it from a later one of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cluster::local) struct Target {
    pub(in crate::cluster::local) name: String,
    pub(in crate::cluster::local) uid: String,
}

/// The Subscriptions of a channel, and the same as it is stored with an event.
#[derive(Debug, Default)]
pub(in crate::cluster::local) struct Targets {
    pub(in crate::cluster::local) list: Vec<Target>,
    pub(in crate::cluster::local) stored: Vec<u8>,
}

/// Targets by channel, read and forgotten on the writer thread, so that an event's are those of its place in the order of
/// writes.
#[derive(Default)]
pub(super) struct FanOut(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_channel: HashMap<(String, String), Arc<Targets>>,
    subscriptions: usize,
}

impl FanOut {
    pub(super) fn of(&self, connection: &Connection, channel: &Key) -> rusqlite::Result<Arc<Targets>> {
        let at = (channel.namespace.clone(), channel.name.clone());
        if let Some(known) = self.known().by_channel.get(&at) {
            return Ok(Arc::clone(known));
        }
        let targets = Arc::new(read(connection, channel)?);
        let mut known = self.known();
        if known.subscriptions + targets.list.len() > REMEMBERED {
            *known = Known::default();
        }
        known.subscriptions += targets.list.len() + 1;
        known.by_channel.insert(at, Arc::clone(&targets));
        Ok(targets)
    }

    /// A Subscription changes or did not change after all: its channel's targets are to be read again.
    pub(super) fn forget(&self, document: &Document) {
        if let Some(channel) = channel_of(document) {
            let namespace = document.metadata.namespace.clone().unwrap_or_default();
            let mut known = self.known();
            if let Some(targets) = known.by_channel.remove(&(namespace, channel.to_owned())) {
                known.subscriptions = known.subscriptions.saturating_sub(targets.list.len() + 1);
            }
        }
    }

    /// Like [`Self::forget`] when only the Subscription's key is known.
    pub(super) fn forget_at(&self, key: &Key) {
        if key.kind == ResourceKind::Subscription {
            *self.known() = Known::default();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The channel a Subscription belongs to.
pub(super) fn channel_of(document: &Document) -> Option<&str> {
    (document.kind == ResourceKind::Subscription)
        .then(|| document.body.get("spec")?.get("channel")?.get("name")?.as_str())
        .flatten()
}

fn read(connection: &Connection, channel: &Key) -> rusqlite::Result<Targets> {
    let list: Vec<Target> = connection
        .prepare_cached(
            "SELECT d.name, d.uid FROM selectors s CROSS JOIN documents d ON d.id = s.document
             WHERE s.key = ? AND s.value = ? AND d.namespace = ? ORDER BY d.name",
        )?
        .query_map(params![SELECTOR, channel.name, channel.namespace], |row| {
            Ok(Target { name: row.get(0)?, uid: row.get(1)? })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let stored = serde_json::to_vec(&list)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    Ok(Targets { list, stored })
}

impl Targets {
    /// The inverse of [`Self::stored`].
    pub(in crate::cluster::local) fn from_stored(stored: Vec<u8>) -> rusqlite::Result<Self> {
        let list = serde_json::from_slice(&stored).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
        })?;
        Ok(Self { list, stored })
    }
}
