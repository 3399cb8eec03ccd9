//! [`FakeCluster`]: a cluster in memory, for tests. It keeps the rules of the real ones, and fails when told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kwsk_translate::document::{Document, Key, ResourceKind};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::revision::{Stamp, check, revise};
use super::{Apply, Cluster, Event, Labels, Precondition};
use crate::error::{Error, Result};

/// What a scripted failure hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// [`Cluster::get`]
    Get,
    /// [`Cluster::list`]
    List,
    /// [`Cluster::apply`]
    Apply,
    /// [`Cluster::delete`]
    Delete,
}

#[derive(Default)]
struct State {
    documents: BTreeMap<Key, Arc<Document>>,
    version: u64,
    watchers: Vec<(ResourceKind, UnboundedSender<Event>)>,
    failures: VecDeque<(Verb, Error)>,
}

/// Documents in a map. Watchers of it are never behind.
#[derive(Default)]
pub struct FakeCluster {
    state: Mutex<State>,
}

impl FakeCluster {
    /// The next `verb` fails with `error`; several scripted failures of a verb come in their order.
    pub fn fail_next(&self, verb: Verb, error: Error) {
        self.state().failures.push_back((verb, error));
    }

    /// The test is over: every scripted failure must have happened.
    ///
    /// # Panics
    /// When one has not.
    pub fn assert_clean(&self) {
        let left: Vec<Verb> = self.state().failures.iter().map(|(verb, _)| *verb).collect();
        assert!(left.is_empty(), "scripted failures that never happened: {left:?}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless this call is to fail.
    fn enter(&self, verb: Verb) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let scripted = state.failures.iter().position(|(v, _)| *v == verb);
        match scripted.and_then(|index| state.failures.remove(index)) {
            Some((_, error)) => Err(error),
            None => Ok(state),
        }
    }
}

impl State {
    fn tell(&mut self, kind: ResourceKind, event: &Event) {
        self.watchers.retain(|(of, watcher)| *of != kind || watcher.send(event.clone()).is_ok());
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_clean();
        }
    }
}

#[async_trait]
impl Cluster for FakeCluster {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Document>>> {
        Ok(self.enter(Verb::Get)?.documents.get(key).cloned())
    }

    async fn list(
        &self,
        of: ResourceKind,
        within: Option<&str>,
        with: &Labels,
    ) -> Result<Vec<Arc<Document>>> {
        let state = self.enter(Verb::List)?;
        let wanted = |(key, document): &(&Key, &Arc<Document>)| {
            key.kind == of
                && within.is_none_or(|namespace| key.namespace == namespace)
                && with.iter().all(|(label, value)| document.label(label) == Some(value.as_str()))
        };
        Ok(state.documents.iter().filter(wanted).map(|(_, document)| Arc::clone(document)).collect())
    }

    async fn apply(&self, document: Document, how: Apply) -> Result<Arc<Document>> {
        let mut state = self.enter(Verb::Apply)?;
        let key = document.key();
        let existing = state.documents.get(&key).cloned();
        check(&document, existing.as_deref(), &how)?;
        let Some(revised) = revise(document, existing.as_deref(), Stamp::new(state.version + 1)) else {
            return existing.ok_or(Error::NotFound);
        };
        let revised = Arc::new(revised);
        state.version += 1;
        state.documents.insert(key, Arc::clone(&revised));
        state.tell(revised.kind, &Event::Applied(Arc::clone(&revised)));
        Ok(revised)
    }

    async fn delete(&self, key: &Key, only_if: Precondition) -> Result<Option<Arc<Document>>> {
        let mut state = self.enter(Verb::Delete)?;
        let Some(existing) = state.documents.get(key) else { return Ok(None) };
        if let Precondition::ResourceVersion(version) = only_if
            && existing.resource_version() != version
        {
            return Err(Error::Conflict(key.clone()));
        }
        let deleted = state.documents.remove(key);
        state.version += 1;
        state.tell(key.kind, &Event::Deleted(key.clone()));
        Ok(deleted)
    }

    fn watch(&self, of: ResourceKind) -> BoxStream<'static, Result<Event>> {
        let mut state = self.state();
        let (sender, receiver) = unbounded_channel();
        state.watchers.push((of, sender));
        let there: Vec<Result<Event>> = state
            .documents
            .iter()
            .filter(|(key, _)| key.kind == of)
            .map(|(_, document)| Ok(Event::Applied(Arc::clone(document))))
            .collect();
        let changes = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|event| (Ok(event), receiver))
        });
        stream::iter(there).chain(changes).boxed()
    }
}
