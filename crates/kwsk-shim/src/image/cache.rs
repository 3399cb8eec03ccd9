//! What was appended before, so that it need not be appended again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::document::to_bytes;
use super::error::ImageError;

/// Changes whenever the same input makes another image.
const FORMAT: u32 = 1;

/// Everything the result depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) format: u32,
    pub(crate) base: Digest,
    pub(crate) shims: Vec<Digest>,
    /// Registry and repository.
    pub(crate) target: String,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) platforms: Vec<String>,
    pub(crate) attached: bool,
}

impl Key {
    pub(crate) fn new(base: Digest, shims: Vec<Digest>, target: String) -> Self {
        Self { format: FORMAT, base, shims, target, command: None, platforms: Vec::new(), attached: true }
    }

    /// Short enough for a file name and as good as the whole.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&to_bytes(self))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    key: Key,
    result: Digest,
}

/// A directory with a small file per image that was made.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

impl Cache {
    /// Keeps entries in a directory, which is made when it is needed.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// `kwsk/append` in the user's cache directory; `None` without a home.
    #[must_use]
    pub fn usual() -> Option<Self> {
        cache_dir().map(|dir| Self(dir.join("append")))
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.0.join(format!("{}.json", key.digest().hex()))
    }

    /// The result for a key. An entry that cannot be read is none: the image is made again.
    pub(crate) fn find(&self, key: &Key) -> Option<Digest> {
        let entry: Entry = serde_json::from_slice(&std::fs::read(self.path(key)).ok()?).ok()?;
        Some(entry.result).filter(|_| entry.key == *key)
    }

    /// # Errors
    /// [`ImageError::File`].
    pub(crate) fn keep(&self, key: Key, result: Digest) -> Result<(), ImageError> {
        let path = self.path(&key);
        let failed = || {
            ImageError::file(format!(
                "keep what was appended in {}; choose another directory with --cache",
                self.0.display()
            ))
        };
        std::fs::create_dir_all(&self.0).map_err(failed())?;
        let file = tempfile::NamedTempFile::new_in(&self.0).map_err(failed())?;
        std::fs::write(file.path(), to_bytes(&Entry { key, result })).map_err(failed())?;
        // Whole or not at all, whoever else writes it.
        file.persist(path).map_err(|error| failed()(error.error))?;
        Ok(())
    }
}

/// `kwsk` in the user's cache directory, as the XDG specification has it.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    base.or_else(|| set("HOME").map(|home| home.join(".cache"))).map(|base| base.join("kwsk"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_everything_they_depend_on() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("a/b"));
        let key = || Key::new(Digest::of(b"base"), vec![Digest::of(b"shim")], "r.example/x".to_owned());
        assert_eq!(cache.find(&key()), None);
        cache.keep(key(), Digest::of(b"result")).unwrap();
        assert_eq!(cache.find(&key()), Some(Digest::of(b"result")));
        for other in [
            Key { base: Digest::of(b"b"), ..key() },
            Key { shims: Vec::new(), ..key() },
            Key { target: "r.example/y".to_owned(), ..key() },
            Key { command: Some(Vec::new()), ..key() },
            Key { platforms: vec!["linux/arm64".to_owned()], ..key() },
        ] {
            assert_eq!(cache.find(&other), None);
        }
        std::fs::write(cache.path(&key()), "{").unwrap();
        assert_eq!(cache.find(&key()), None);
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let cache = Cache::new("/proc/no/such".into());
        let key = Key::new(Digest::of(b"base"), Vec::new(), String::new());
        assert!(cache.keep(key, Digest::of(b"")).unwrap_err().to_string().contains("--cache"));
    }
}
