//! [`FileCodeStore`]: a file for each text; [`MemoryCodeStore`]: the fake.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use kwsk_model::action::StoredCode;
use kwsk_model::activation::hex;
use sha2::{Digest, Sha256};

use super::CodeStore;
use crate::error::{Error, Result};

const NAME: &str = "code store";

/// What is in the store is not what was put there.
#[derive(Debug, thiserror::Error)]
#[error("the code {sha256} is damaged")]
struct Damaged {
    sha256: String,
}

/// Texts under `<directory>/<sha256>`. A file appears under that name complete and synced, or not at all.
#[derive(Clone)]
pub struct FileCodeStore {
    directory: Arc<Path>,
}

impl FileCodeStore {
    /// The store in `directory`, which is made when missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(|error| Error::store(NAME, "written", error))?;
        Ok(Self { directory: directory.into() })
    }

    /// Where the text is, whether or not it is there: for shims of this machine.
    #[must_use]
    pub fn path(&self, code: &StoredCode) -> PathBuf {
        self.directory.join(&code.sha256)
    }

    /// Removes every text whose digest is not in `referenced`, and what an interrupted `put` left; says how many went.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn sweep(&self, referenced: HashSet<String>) -> Result<usize> {
        let directory = Arc::clone(&self.directory);
        blocking("written", move || sweep(&directory, &referenced)).await
    }
}

#[async_trait]
impl CodeStore for FileCodeStore {
    async fn put(&self, code: Bytes) -> Result<StoredCode> {
        let directory = Arc::clone(&self.directory);
        blocking("written", move || {
            let stored = describe(&code);
            write(&directory, &stored.sha256, &code)?;
            Ok(stored)
        })
        .await
    }

    async fn get(&self, code: &StoredCode) -> Result<Option<Bytes>> {
        let (path, wanted) = (self.path(code), code.sha256.clone());
        blocking("read", move || {
            let text = match fs::read(path) {
                Ok(text) => Bytes::from(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if describe(&text).sha256 != wanted {
                return Err(io::Error::new(io::ErrorKind::InvalidData, Damaged { sha256: wanted }));
            }
            Ok(Some(text))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| Error::store(NAME, doing, error))?;
    done.map_err(|error| Error::store(NAME, doing, error))
}

fn describe(code: &[u8]) -> StoredCode {
    StoredCode { sha256: hex(&Sha256::digest(code)), bytes: code.len() as u64 }
}

/// The text under its own name: written aside, synced, then renamed. The file aside goes when anything fails.
fn write(directory: &Path, sha256: &str, code: &[u8]) -> io::Result<()> {
    let path = directory.join(sha256);
    if fs::metadata(&path).is_ok_and(|there| there.len() == code.len() as u64) {
        return Ok(());
    }
    let mut aside = tempfile::Builder::new().prefix(".put-").tempfile_in(directory)?;
    aside.write_all(code)?;
    aside.as_file().sync_all()?;
    aside.persist(&path)?;
    File::open(directory)?.sync_all()
}

fn sweep(directory: &Path, referenced: &HashSet<String>) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| referenced.contains(name)) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// Texts in memory.
#[derive(Default)]
pub struct MemoryCodeStore {
    texts: Mutex<HashMap<String, Bytes>>,
}

#[async_trait]
impl CodeStore for MemoryCodeStore {
    async fn put(&self, code: Bytes) -> Result<StoredCode> {
        let stored = describe(&code);
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).insert(stored.sha256.clone(), code);
        Ok(stored)
    }

    async fn get(&self, code: &StoredCode) -> Result<Option<Bytes>> {
        Ok(self.texts.lock().unwrap_or_else(PoisonError::into_inner).get(&code.sha256).cloned())
    }
}
