//! Taking hold of a data directory: one process, one schema version.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::StoreOptions;

/// One step per schema version; a directory of version N gets the steps after the N-th.
const STEPS: [&str; 1] = [include_str!("schema-1.sql")];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Opening {
    /// The path is not a directory and cannot become one.
    #[error("{} cannot be used as data directory: choose another with --data", .path.display())]
    Directory {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another kwsk: stop that one, or choose another directory with --data", .path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// A later version of kwsk has it.
    #[error(
        "{} was written by a newer kwsk (schema {found}, this one reads up to {supported}): start that version, or choose another directory with --data",
        .path.display()
    )]
    Newer {
        /// The path.
        path: PathBuf,
        /// The directory's schema version.
        found: u32,
        /// The latest schema version this program knows.
        supported: u32,
    },
    /// The file is there and is no database, or a broken one.
    #[error(
        "{} is not a database of kwsk, or damaged: restore it from a backup, or choose another directory with --data",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The database cannot be opened or brought to this version's schema.
    #[error("{} cannot be opened: check space and permissions, or choose another directory with --data", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

/// The lock every process that uses the directory holds; it goes with the process, however that ends.
pub(super) fn lock(directory: &Path) -> Result<File, Opening> {
    let refused = |source| Opening::Directory { path: directory.to_owned(), source };
    // Keys and code are in here.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
    let file = OpenOptions::new()
        .create(true)
        .mode(0o600)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))
        .map_err(refused)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Opening::InUse { path: directory.to_owned() }),
        Err(errno) => Err(refused(errno.into())),
    }
}

/// The connection of the writer, schema in place.
pub(super) fn writer(directory: &Path, options: &StoreOptions) -> Result<Connection, Opening> {
    let path = directory.join(super::FILE);
    // Made here for its mode, which SQLite gives to the log, too.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Opening::Directory { path: directory.to_owned(), source })?;
    let prepare = || {
        let connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        let found = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?;
        Ok((connection, found))
    };
    let (connection, found) = prepare().map_err(|error| classify(&path, error))?;
    let supported = STEPS.len() as u32;
    if found > supported {
        return Err(Opening::Newer { path: directory.to_owned(), found, supported });
    }
    configure(&connection, options)
        .and_then(|()| migrate(&connection, found))
        .map_err(|error| classify(&path, error))?;
    Ok(connection)
}

/// Makes the log at least `bytes` long. Zeros at its end mean nothing to SQLite, but a commit that overwrites them syncs data
/// alone, while one that makes the file longer waits for the file system's own journal, too, and takes twice as long.
pub(super) fn lay_out_log(directory: &Path, bytes: u64) -> io::Result<()> {
    let path = directory.join([super::FILE, "-wal"].concat());
    let mut log = OpenOptions::new().append(true).open(path)?;
    let missing = bytes.saturating_sub(log.metadata()?.len());
    if missing > 0 {
        io::copy(&mut io::repeat(0).take(missing), &mut log)?;
        log.sync_data()?;
    }
    Ok(())
}

/// A connection that only reads.
pub(super) fn reader(directory: &Path, cache_kib: u32) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(directory.join(super::FILE), flags)?;
    connection.execute_batch(&format!(
        "PRAGMA query_only=ON; PRAGMA cache_size=-{cache_kib}; PRAGMA busy_timeout=5000;"
    ))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn configure(connection: &Connection, options: &StoreOptions) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;
         PRAGMA busy_timeout=5000; PRAGMA cache_size=-{};",
        options.writer_cache_kib
    ))?;
    if let Some(bytes) = options.max_bytes {
        let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        connection.query_row(&format!("PRAGMA max_page_count={}", (bytes / page).max(1)), [], |_| Ok(()))?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrate(connection: &Connection, found: u32) -> rusqlite::Result<()> {
    for (version, step) in (1u32..).zip(STEPS).filter(|(version, _)| *version > found) {
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {step} PRAGMA user_version={version}; COMMIT;"))?;
    }
    Ok(())
}

fn classify(path: &Path, source: rusqlite::Error) -> Opening {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Opening::Damaged { path, source },
        _ => Opening::Database { path, source },
    }
}
