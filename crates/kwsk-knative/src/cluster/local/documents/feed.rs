//! [`Feeds`]: what watchers hear.

use std::collections::{HashMap, HashSet, VecDeque};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kwsk_translate::document::{Document, Key, ResourceKind};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver};

use super::{NAME, table, unreadable};
use crate::cluster::Event;
use crate::cluster::local::store::Store;
use crate::error::Result;

/// Changes a watcher may be behind before it has to read everything again.
const BEHIND: usize = 256;

/// Documents read at a time.
const PAGE: u32 = 128;

/// A change and the resource version it got.
#[derive(Clone)]
pub(super) struct Change {
    version: u64,
    event: Event,
}

/// One feed for each kind.
pub(super) struct Feeds([broadcast::Sender<Change>; ResourceKind::ALL.len()]);

impl Feeds {
    pub(super) fn new() -> Self {
        Self(ResourceKind::ALL.map(|_| broadcast::channel(BEHIND).0))
    }

    fn feed(&self, kind: ResourceKind) -> &broadcast::Sender<Change> {
        let index = ResourceKind::ALL.iter().position(|k| *k == kind).unwrap_or_default();
        &self.0[index]
    }

    pub(super) fn of(&self, kind: ResourceKind) -> Receiver<Change> {
        self.feed(kind).subscribe()
    }

    pub(super) fn tell(&self, kind: ResourceKind, version: u64, event: Event) {
        // Fails when nobody watches.
        drop(self.feed(kind).send(Change { version, event }));
    }
}

/// Where a watcher stands.
enum Phase {
    /// Reading all documents in key order; the last key read.
    Reading((String, String)),
    /// Telling what changes.
    Following,
}

/// One watcher. `known` is what it was told exists and in which version, so that a feed that is older than a page is
/// passed over, and a reading in the middle of life tells what has gone.
struct Watcher {
    store: Store,
    kind: ResourceKind,
    changes: Receiver<Change>,
    phase: Phase,
    ready: VecDeque<Event>,
    known: HashMap<(String, String), u64>,
    seen: HashSet<(String, String)>,
}

/// The documents of `kind`, then what `changes` says.
pub(super) fn watch(
    store: Store,
    kind: ResourceKind,
    changes: Receiver<Change>,
) -> BoxStream<'static, Result<Event>> {
    let watcher = Watcher {
        store,
        kind,
        changes,
        phase: Phase::Reading(Default::default()),
        ready: VecDeque::new(),
        known: HashMap::new(),
        seen: HashSet::new(),
    };
    stream::unfold(watcher, |mut watcher| async move { watcher.next().await.map(|event| (event, watcher)) })
        .boxed()
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if let Phase::Reading(after) = &self.phase {
                let after = after.clone();
                if let Err(error) = self.read(after).await {
                    return Some(Err(error));
                }
                continue;
            }
            match self.changes.recv().await {
                Ok(change) => self.follow(change),
                Err(RecvError::Lagged(_)) => {
                    self.seen.clear();
                    self.phase = Phase::Reading(Default::default());
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    async fn read(&mut self, after: (String, String)) -> Result<()> {
        let kind = self.kind;
        let page = self.store.read(NAME, move |c| table::page(c, kind, &after, PAGE)).await?;
        let last = (page.len() as u64) < u64::from(PAGE);
        for document in page {
            let document = document.map_err(unreadable)?;
            let at = at(&document.key());
            self.phase = Phase::Reading(at.clone());
            self.seen.insert(at.clone());
            let version = version_of(&document);
            if self.known.insert(at, version) != Some(version) {
                self.ready.push_back(Event::Applied(document));
            }
        }
        if last {
            self.finish_reading();
        }
        Ok(())
    }

    /// What was known and has not been seen is gone.
    fn finish_reading(&mut self) {
        self.phase = Phase::Following;
        let (seen, kind) = (std::mem::take(&mut self.seen), self.kind);
        let gone: Vec<_> = self.known.keys().filter(|at| !seen.contains(*at)).cloned().collect();
        for at in gone {
            self.known.remove(&at);
            self.ready.push_back(Event::Deleted(Key::new(kind, at.0, at.1)));
        }
    }

    fn follow(&mut self, change: Change) {
        let Change { version, event } = change;
        let newer = |known: Option<&u64>| known.is_none_or(|known| *known < version);
        match &event {
            Event::Applied(document) => {
                let at = at(&document.key());
                if newer(self.known.get(&at)) {
                    self.known.insert(at, version);
                    self.ready.push_back(event);
                }
            }
            Event::Deleted(key) => {
                let at = at(key);
                if self.known.contains_key(&at) && newer(self.known.get(&at)) {
                    self.known.remove(&at);
                    self.ready.push_back(event);
                }
            }
        }
    }
}

fn at(key: &Key) -> (String, String) {
    (key.namespace.clone(), key.name.clone())
}

fn version_of(document: &Document) -> u64 {
    document.resource_version().parse().unwrap_or_default()
}
