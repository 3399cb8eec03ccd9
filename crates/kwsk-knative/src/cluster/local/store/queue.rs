//! [`Queue`]: what waits for the writer thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::Source;

/// How long records nobody waits for may gather, so that a busy server does not sync the disk for each of them.
const LINGER: Duration = Duration::from_millis(3);

/// So many jobs are worth a transaction without further ado.
const PLENTY: usize = 256;

/// A job somebody waits for.
pub(super) trait Awaited: Send {
    /// Works inside the transaction of the batch. An `Err` undoes the whole batch.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Hears how the transaction ended.
    fn finish(self: Box<Self>, outcome: Result<(), Source>);
}

/// A job that is repeated until it is on disk.
pub(super) type Kept = Box<dyn Fn(&Connection) -> rusqlite::Result<()> + Send>;

/// What the writer thread is asked to do.
pub(super) enum Work {
    /// Done once, the outcome is told.
    Awaited(Box<dyn Awaited>),
    /// Like `Awaited`, and not before every `Kept` that was queued earlier is on disk.
    Barrier(Box<dyn Awaited>),
    /// Nobody waits, nothing may be lost.
    Kept(Kept),
}

/// Work, its size and the room it takes.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) bytes: usize,
    pub(super) _room: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Somebody waits for one of `jobs`.
    urgent: bool,
    /// When the first of `jobs` came.
    since: Option<Instant>,
    closed: bool,
}

/// Jobs in the order they came. Its bound is the room each job holds a permit for.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    kept: AtomicUsize,
}

/// What [`Queue::take`] found.
pub(super) struct Taken {
    pub(super) jobs: Vec<Job>,
    /// Nothing will come any more.
    pub(super) closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; false when the queue is closed.
    pub(super) fn push(&self, job: Job) -> bool {
        let kept = matches!(job.work, Work::Kept(_));
        let mut state = self.state();
        if state.closed {
            return false;
        }
        // The writer sleeps without a limit only when there is nothing; records alone need not interrupt its nap.
        let wake = !kept || state.jobs.is_empty() || state.jobs.len() + 1 == PLENTY;
        state.since.get_or_insert_with(Instant::now);
        state.urgent |= !kept;
        state.jobs.push_back(job);
        if kept {
            self.kept.fetch_add(1, Ordering::AcqRel);
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        true
    }

    /// How many `Kept` are not on disk yet.
    pub(super) fn kept(&self) -> usize {
        self.kept.load(Ordering::Acquire)
    }

    /// So many `Kept` have reached the disk.
    pub(super) fn settled(&self, count: usize) {
        self.kept.fetch_sub(count, Ordering::AcqRel);
    }

    /// Waits for something to do, at the latest until `wake_at`, and takes at most `most` jobs.
    pub(super) fn take(&self, wake_at: Option<Instant>, most: usize) -> Taken {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let gathered = state.since.map(|since| since + LINGER);
            let due = state.urgent || state.closed || state.jobs.len() >= PLENTY;
            let until = match (gathered, wake_at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if due || until.is_some_and(|at| at <= now) {
                break;
            }
            state = match until {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let nap = at.saturating_duration_since(now);
                    self.wake.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let count = state.jobs.len().min(most);
        let jobs = state.jobs.drain(..count).collect();
        if state.jobs.is_empty() {
            (state.urgent, state.since) = (false, None);
        }
        Taken { jobs, closed: state.closed && state.jobs.is_empty() }
    }

    /// Takes no more; what is queued will still be done.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_all();
    }
}
