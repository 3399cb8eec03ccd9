//! The writer thread: everything that waits goes into one transaction, and one sync of the disk serves them all.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::opening;
use super::queue::{Job, Queue, Taken, Work};
use crate::error::Source;

/// Owed jobs are repaid in pieces: when space comes back bit by bit, some of them get through.
const REPAID_AT_ONCE: usize = 64;

/// Bytes of a frame of the write-ahead log: a page.
const FRAME: u64 = 4096;

/// Frames in the log from which on a pause is used to move them to the database…
const CHECKPOINT: i64 = 1024;

/// …and from which on it is done although somebody waits, so that the log stays bounded.
const CHECKPOINT_AT_ONCE: i64 = 2 * CHECKPOINT;

/// A pause: nothing to do for so long.
const PAUSE: Duration = Duration::from_millis(20);

/// The log is measured after so many transactions.
const MEASURED: u32 = 32;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
#[error("a job of the writer panicked")]
struct Panicked;

/// When to try again, and how long to wait after that.
#[derive(Clone, Copy)]
struct Retry {
    at: Instant,
    next: Duration,
}

/// The state of the writer thread.
pub(super) struct Writer {
    connection: Connection,
    queue: Arc<Queue>,
    /// Kept jobs whose transaction failed, in order.
    owed: VecDeque<Job>,
    retry: Option<Retry>,
    /// When the log is to be seen to, should nothing come until then.
    pause_at: Option<Instant>,
    transactions: u32,
    directory: PathBuf,
    laid_out: bool,
}

impl Writer {
    pub(super) fn new(connection: Connection, queue: Arc<Queue>, directory: PathBuf) -> Self {
        Self {
            connection,
            queue,
            owed: VecDeque::new(),
            retry: None,
            pause_at: Some(Instant::now() + PAUSE),
            transactions: 0,
            directory,
            laid_out: false,
        }
    }

    /// Works until the queue is closed and empty. Nothing a job does ends the thread.
    pub(super) fn run(mut self) {
        loop {
            let wake_at = self.retry.map(|retry| retry.at).into_iter().chain(self.pause_at).min();
            let Taken { jobs, closed } = self.queue.take(wake_at);
            if closed || self.retry.is_some_and(|retry| retry.at <= Instant::now()) {
                drop(self.repay());
            }
            if jobs.is_empty() && self.pause_at.is_some_and(|at| at <= Instant::now()) {
                self.pause();
            }
            self.batch(jobs);
            self.watch_log();
            if closed {
                break;
            }
        }
        if self.repay().is_err() {
            tracing::error!(
                records = self.owed.len(),
                "records that could not be written are lost with the process"
            );
        }
    }

    /// While kept jobs are owed, new ones line up behind them, so that they do not spoil the transactions of the others.
    fn batch(&mut self, mut jobs: Vec<Job>) {
        if !self.owed.is_empty() {
            let barrier = jobs.iter().any(|job| matches!(job.work, Work::Barrier(_)));
            let repaid = if barrier { self.repay() } else { Ok(()) };
            let (kept, awaited): (Vec<Job>, _) =
                jobs.into_iter().partition(|job| matches!(job.work, Work::Kept(_)));
            self.owed.extend(kept);
            jobs = awaited;
            if let Err(source) = repaid {
                let (barriers, others): (Vec<Job>, _) =
                    jobs.into_iter().partition(|job| matches!(job.work, Work::Barrier(_)));
                self.finish(barriers, &Err(source));
                jobs = others;
            }
        }
        if !jobs.is_empty() {
            let outcome = self.transaction(&mut jobs);
            self.finish(jobs, &outcome);
        }
    }

    fn finish(&mut self, jobs: Vec<Job>, outcome: &Result<(), Source>) {
        let (mut settled, mut newly_owed) = (0, false);
        for job in jobs {
            match job.work {
                Work::Awaited(work) | Work::Barrier(work) => {
                    let outcome = outcome.clone();
                    if catch_unwind(AssertUnwindSafe(|| work.finish(outcome))).is_err() {
                        tracing::error!("what follows a write panicked");
                    }
                }
                Work::Kept(_) if outcome.is_ok() => settled += 1,
                Work::Kept(_) => {
                    self.owed.push_back(job);
                    newly_owed = true;
                }
            }
        }
        self.queue.settled(settled);
        if let (Err(source), true) = (outcome, newly_owed) {
            self.postpone(source);
        }
    }

    fn repay(&mut self) -> Result<(), Source> {
        while !self.owed.is_empty() {
            let count = self.owed.len().min(REPAID_AT_ONCE);
            let mut jobs: Vec<Job> = self.owed.drain(..count).collect();
            match self.transaction(&mut jobs) {
                Ok(()) => self.queue.settled(count),
                Err(source) => {
                    jobs.into_iter().rev().for_each(|job| self.owed.push_front(job));
                    self.postpone(&source);
                    return Err(source);
                }
            }
        }
        self.retry = None;
        Ok(())
    }

    fn postpone(&mut self, source: &Source) {
        let delay = self.retry.map_or(FIRST_RETRY, |retry| retry.next);
        self.retry = Some(Retry { at: Instant::now() + delay, next: (delay * 2).min(LAST_RETRY) });
        tracing::warn!(error = %source, records = self.owed.len(), "records cannot be written; trying again in {delay:?}");
    }

    fn transaction(&mut self, jobs: &mut [Job]) -> Result<(), Source> {
        let connection = &self.connection;
        let attempt = catch_unwind(AssertUnwindSafe(|| in_transaction(connection, jobs)));
        self.transactions += 1 + (jobs.iter().map(|job| job.bytes).sum::<usize>() >> 16) as u32;
        let failure: Source = match attempt {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Arc::new(error),
            Err(_) => Arc::new(Panicked),
        };
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a failed transaction cannot be rolled back");
        }
        Err(failure)
    }

    /// The log is moved between transactions rather than by a commit, so that few callers ever wait for it.
    fn watch_log(&mut self) {
        if self.transactions < MEASURED {
            // Commits that come one by one do not let a pause happen.
            self.pause_at = self.pause_at.map(|_| Instant::now() + PAUSE);
            return;
        }
        self.transactions = 0;
        match self.log("NOOP") {
            CHECKPOINT_AT_ONCE.. => self.checkpoint(),
            CHECKPOINT.. => self.pause_at = Some(Instant::now() + PAUSE),
            _ => {}
        }
    }

    fn pause(&mut self) {
        self.pause_at = None;
        if self.laid_out {
            self.checkpoint();
            return;
        }
        self.laid_out = true;
        let bytes = FRAME * CHECKPOINT_AT_ONCE.unsigned_abs();
        if let Err(error) = opening::lay_out_log(&self.directory, bytes) {
            tracing::debug!(%error, "the write-ahead log grows as it goes");
        }
    }

    fn checkpoint(&mut self) {
        self.log("PASSIVE");
    }

    /// Frames that are in the log only, after the checkpoint of that mode.
    fn log(&self, mode: &str) -> i64 {
        let frames = self.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)
        });
        frames.unwrap_or_else(|error| {
            tracing::warn!(%error, mode, "the write-ahead log cannot be moved to the database; trying again later");
            0
        })
    }
}

fn in_transaction(connection: &Connection, jobs: &mut [Job]) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for job in jobs {
        match &mut job.work {
            Work::Awaited(work) | Work::Barrier(work) => work.run(connection)?,
            Work::Kept(work) => work(connection)?,
        }
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}
