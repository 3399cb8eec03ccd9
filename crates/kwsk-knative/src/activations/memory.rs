//! [`MemoryActivationStore`]: activations in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kwsk_model::activation::{Activation, ActivationId};
use kwsk_model::name::Namespace;

use super::{Accepted, ActivationQuery, ActivationStore, Progress};
use crate::error::Result;

#[derive(Default)]
struct State {
    /// In the order they came.
    records: Vec<Arc<Activation>>,
    journal: BTreeMap<u64, (Accepted, Progress)>,
    count: u64,
}

/// Activations in memory.
#[derive(Default)]
pub struct MemoryActivationStore {
    state: Mutex<State>,
}

impl MemoryActivationStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, activation: Arc<Activation>) {
        let mut state = self.state();
        let id = &activation.activation_id;
        state.journal.retain(|_, (accepted, _)| accepted.activation_id != *id);
        if state.records.iter().all(|record| record.activation_id != *id) {
            state.records.push(activation);
        }
    }

    fn matching(&self, query: &ActivationQuery) -> Vec<Arc<Activation>> {
        let wanted = |record: &&Arc<Activation>| {
            record.namespace == query.namespace
                && query.since.is_none_or(|since| record.start >= since)
                && query.upto.is_none_or(|upto| record.start <= upto)
                && query.name.as_ref().is_none_or(|name| record.filter_name() == *name)
        };
        let mut found: Vec<_> = self.state().records.iter().rev().filter(wanted).cloned().collect();
        found.sort_by_key(|record| std::cmp::Reverse(record.start));
        found
    }
}

#[async_trait]
impl ActivationStore for MemoryActivationStore {
    async fn accept(&self, accepted: &Accepted) -> Result<()> {
        let mut state = self.state();
        if state.journal.values().all(|(known, _)| known.activation_id != accepted.activation_id) {
            state.count += 1;
            let count = state.count;
            state.journal.insert(count, (accepted.clone(), Progress::Waiting));
        }
        Ok(())
    }

    async fn begin(&self, id: &ActivationId) -> Result<()> {
        for (accepted, progress) in self.state().journal.values_mut() {
            if accepted.activation_id == *id {
                *progress = Progress::Begun;
            }
        }
        Ok(())
    }

    async fn record(&self, activation: Arc<Activation>) -> Result<()> {
        self.insert(activation);
        Ok(())
    }

    async fn record_durably(&self, activation: Arc<Activation>) -> Result<()> {
        self.insert(activation);
        Ok(())
    }

    async fn forget(&self, id: &ActivationId) -> Result<()> {
        self.state().journal.retain(|_, (accepted, _)| accepted.activation_id != *id);
        Ok(())
    }

    async fn unfinished(&self) -> Result<Vec<(Accepted, Progress)>> {
        Ok(self.state().journal.values().cloned().collect())
    }

    async fn get(&self, namespace: &Namespace, id: &ActivationId) -> Result<Option<Arc<Activation>>> {
        let wanted =
            |record: &&Arc<Activation>| record.namespace == *namespace && record.activation_id == *id;
        Ok(self.state().records.iter().find(wanted).cloned())
    }

    async fn list(&self, query: &ActivationQuery) -> Result<Vec<Arc<Activation>>> {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(self.matching(query).into_iter().skip(size(query.skip)).take(size(query.limit)).collect())
    }

    async fn count(&self, query: &ActivationQuery) -> Result<u64> {
        Ok(self.matching(query).len() as u64)
    }
}
