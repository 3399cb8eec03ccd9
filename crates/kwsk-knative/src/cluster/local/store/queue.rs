//! [`Queue`]: what waits for the writer thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::Source;

/// How long records nobody waits for may gather, so that a busy server does not sync the disk for each of them.
const LINGER: Duration = Duration::from_millis(20);

/// So many jobs are worth a transaction without further ado.
const PLENTY: usize = 256;

/// The most jobs of a transaction somebody waits for…
const MOST_AWAITED: usize = 1024;

/// …and nobody waits for: the next caller has to wait for these, too.
const MOST_KEPT: usize = 256;

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
    awaited: VecDeque<Job>,
    /// `Kept` and `Barrier`.
    kept: VecDeque<Job>,
    /// How many of `kept` are barriers.
    barriers: usize,
    /// When the first of `kept` came.
    since: Option<Instant>,
    closed: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.awaited.is_empty() && self.kept.is_empty()
    }

    /// There is a reason not to let more gather.
    fn is_urgent(&self) -> bool {
        !self.awaited.is_empty() || self.barriers > 0 || self.closed || self.kept.len() >= PLENTY
    }
}

/// Two lanes, each in the order its jobs came: those somebody waits for overtake those nobody waits for. The bound is the room
/// each job holds a permit for.
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
        let mut state = self.state();
        if state.closed {
            return false;
        }
        // The writer sleeps without a limit only when there is nothing; records alone need not interrupt its nap.
        let was_empty = state.is_empty();
        match job.work {
            Work::Awaited(_) => state.awaited.push_back(job),
            Work::Barrier(_) => {
                state.barriers += 1;
                state.kept.push_back(job);
            }
            Work::Kept(_) => {
                state.since.get_or_insert_with(Instant::now);
                state.kept.push_back(job);
                self.kept.fetch_add(1, Ordering::AcqRel);
            }
        }
        let wake = was_empty || state.is_urgent();
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

    /// Waits for something to do, at the latest until `wake_at`, and takes what makes a transaction.
    pub(super) fn take(&self, wake_at: Option<Instant>) -> Taken {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let gathered = state.since.map(|since| since + LINGER);
            let until = gathered.into_iter().chain(wake_at).min();
            if state.is_urgent() || until.is_some_and(|at| at <= now) {
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
        let State { awaited, kept, .. } = &mut *state;
        let first = awaited.len().min(MOST_AWAITED);
        let then = kept.len().min(MOST_KEPT);
        let jobs: Vec<Job> = awaited.drain(..first).chain(kept.drain(..then)).collect();
        state.barriers -= jobs.iter().filter(|job| matches!(job.work, Work::Barrier(_))).count();
        if state.kept.is_empty() {
            state.since = None;
        }
        Taken { jobs, closed: state.closed && state.is_empty() }
    }

    /// Takes no more; what is queued will still be done.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_all();
    }
}
