//! [`Store`]: one SQLite file under the data directory, one writer with group commit, a few readers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use self::queue::{Awaited, Job, Queue, Work};
use self::writer::Writer;
use crate::error::{Error, Result, Source};

mod opening;
mod queue;
mod writer;

pub use opening::Opening;

/// The database file inside the data directory.
const FILE: &str = "kwsk.db";

/// KiB of jobs that may wait, for those with and those without somebody waiting: more is back-pressure.
const ROOM_KIB: u32 = 16 * 1024;

/// How large the store may grow, on disk and in memory.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Bytes of the database; beyond, writes fail as on a full disk. No limit when absent.
    pub max_bytes: Option<u64>,
    /// KiB of pages the writer keeps.
    pub writer_cache_kib: u32,
    /// KiB of pages each reader keeps.
    pub reader_cache_kib: u32,
    /// Reads at a time.
    pub readers: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { max_bytes: None, writer_cache_kib: 1024, reader_cache_kib: 256, readers: 4 }
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the store has shut down")]
    Closed,
    #[error("the thread that works for the store panicked")]
    Panicked,
}

/// Room for jobs of one sort. A job larger than everything takes everything.
struct Room(Arc<Semaphore>);

impl Room {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_KIB as usize)))
    }

    async fn of(&self, bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit, Ended> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(ROOM_KIB);
        Arc::clone(&self.0).acquire_many_owned(kib).await.map_err(|_| Ended::Closed)
    }
}

/// The local state of kwsk. Documents, activations and channels are tables of it. Clones are handles of one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    options: StoreOptions,
    queue: Arc<Queue>,
    awaited: Room,
    kept: Room,
    reads: Semaphore,
    readers: Mutex<Vec<Connection>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held until the store is closed.
    lock: Mutex<Option<File>>,
}

impl Store {
    /// Opens or creates the store in `directory`.
    ///
    /// # Errors
    /// [`Opening`] says why not, and what can be done.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<Self, Opening> {
        let lock = opening::lock(directory)?;
        let connection = opening::writer(directory, &options)?;
        let queue = Arc::new(Queue::default());
        let writer = Writer::new(connection, Arc::clone(&queue), directory.to_owned());
        let thread = std::thread::Builder::new()
            .name("kwsk-store".into())
            .stack_size(512 * 1024)
            .spawn(|| writer.run())
            .map_err(|source| Opening::Directory { path: directory.to_owned(), source })?;
        Ok(Self(Arc::new(Inner {
            directory: directory.to_owned(),
            queue,
            awaited: Room::new(),
            kept: Room::new(),
            reads: Semaphore::new(options.readers.max(1)),
            readers: Mutex::default(),
            thread: Mutex::new(Some(thread)),
            options,
            lock: Mutex::new(Some(lock)),
        })))
    }

    /// Runs `job` in the next transaction and returns its value once that is on disk. A refusal (the inner `Err`) must come
    /// before anything was written, for the transaction is shared; an SQL error undoes all of it. `after` runs when the
    /// transaction has ended, in the order of the writes.
    pub(crate) async fn write_then<T: Send + 'static>(
        &self,
        name: &'static str,
        bytes: usize,
        job: impl FnOnce(&Connection) -> rusqlite::Result<Result<T>> + Send + 'static,
        after: impl FnOnce(&Result<T>) + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let work = Waiting { name, job: Some(job), value: None, after, reply };
        self.0.enqueue(name, &self.0.awaited, bytes, Work::Awaited(Box::new(work))).await?;
        answer.await.unwrap_or_else(|_| Err(Error::store(name, "written", Ended::Panicked)))
    }

    /// [`Self::write_then`] with nothing to do afterwards.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        bytes: usize,
        job: impl FnOnce(&Connection) -> rusqlite::Result<Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.write_then(name, bytes, job, |_| ()).await
    }

    /// Hands over a job that is repeated until it is on disk, and returns as soon as there is room for it.
    pub(crate) async fn keep(
        &self,
        name: &'static str,
        bytes: usize,
        job: impl Fn(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<()> {
        self.0.enqueue(name, &self.0.kept, bytes, Work::Kept(Box::new(job))).await
    }

    /// [`Self::write`], and not before everything handed to [`Self::keep`] earlier is on disk.
    pub(crate) async fn write_in_order<T: Send + 'static>(
        &self,
        name: &'static str,
        bytes: usize,
        job: impl FnOnce(&Connection) -> rusqlite::Result<Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let work = Waiting { name, job: Some(job), value: None, after: |_: &Result<T>| (), reply };
        self.0.enqueue(name, &self.0.awaited, bytes, Work::Barrier(Box::new(work))).await?;
        answer.await.unwrap_or_else(|_| Err(Error::store(name, "written", Ended::Panicked)))
    }

    /// Returns once everything handed to [`Self::keep`] before is on disk.
    pub(crate) async fn settle(&self, name: &'static str) -> Result<()> {
        match self.0.queue.kept() {
            0 => Ok(()),
            _ => self.write_in_order(name, 0, |_| Ok(Ok(()))).await,
        }
    }

    /// Runs `job` on one of the readers, off the async threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let _permit = self.0.reads.acquire().await.map_err(|_| Error::store(name, "read", Ended::Closed))?;
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || inner.read_now(job))
            .await
            .map_err(|_| Error::store(name, "read", Ended::Panicked))?
            .map_err(|error| Error::store(name, "read", error))
    }

    /// Writes what was handed over, then ends the writer. Afterwards everything fails.
    pub async fn close(&self) {
        let inner = Arc::clone(&self.0);
        if tokio::task::spawn_blocking(move || inner.close()).await.is_err() {
            tracing::error!("closing the store panicked");
        }
    }
}

impl Inner {
    fn read_now<T>(&self, job: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => opening::reader(&self.directory, self.options.reader_cache_kib)?,
        };
        let value = job(&connection);
        if !self.reads.is_closed() {
            idle().push(connection);
        }
        value
    }

    fn close(&self) {
        self.awaited.0.close();
        self.kept.0.close();
        self.reads.close();
        self.queue.close();
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last owner may be a job of the writer itself.
        let other = thread.filter(|thread| thread.thread().id() != std::thread::current().id());
        if other.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer of the store panicked");
        }
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn enqueue(&self, name: &'static str, room: &Room, bytes: usize, work: Work) -> Result<()> {
        let closed = |ended: Ended| Error::store(name, "written", ended);
        let room = room.of(bytes).await.map_err(closed)?;
        match self.queue.push(Job { work, bytes, _room: room }) {
            true => Ok(()),
            false => Err(closed(Ended::Closed)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// A job and the caller that waits for it.
struct Waiting<J, A, T> {
    name: &'static str,
    job: Option<J>,
    value: Option<Result<T>>,
    after: A,
    reply: oneshot::Sender<Result<T>>,
}

impl<J, A, T> Awaited for Waiting<J, A, T>
where
    J: FnOnce(&Connection) -> rusqlite::Result<Result<T>> + Send,
    A: FnOnce(&Result<T>) + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(job) = self.job.take() {
            self.value = Some(job(connection)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Source>) {
        let failed = |source| Error::Store { store: self.name, doing: "written", source };
        let outcome = match (outcome, self.value) {
            (Err(source), _) => Err(failed(source)),
            (Ok(()), Some(value)) => value,
            (Ok(()), None) => Err(failed(Arc::new(Ended::Panicked))),
        };
        (self.after)(&outcome);
        // The caller may have hung up; what it asked for has happened all the same.
        drop(self.reply.send(outcome));
    }
}
