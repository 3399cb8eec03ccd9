//! Unpacking of action archives by hand: whatever an archive says, nothing is written outside its directory.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

/// What an archive may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Bytes of all files together.
    pub total_bytes: u64,
    /// Files, directories and links.
    pub entries: usize,
    /// How many bytes may come out of each that goes in, beyond the first MiB.
    pub ratio: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { total_bytes: 512 * 1024 * 1024, entries: 50_000, ratio: 1000 }
    }
}

/// Why an archive is refused. The directory it was unpacked into is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Neither zip nor anything else that is known.
    #[error("The file type is unsupported")]
    Unsupported,
    /// Not base64.
    #[error("The code is not valid base64.")]
    Base64,
    /// Damaged.
    #[error("The archive is damaged.")]
    Damaged(#[source] ZipError),
    /// An absolute path, `..`, or something odder.
    #[error("The archive contains the unsafe path '{0}'.")]
    UnsafePath(String),
    /// A link that leads outside.
    #[error("The archive contains the unsafe link '{0}'.")]
    UnsafeLink(String),
    /// A device, pipe or socket.
    #[error("The archive contains the special file '{0}'.")]
    SpecialFile(String),
    /// The same path twice, or below a file or a link.
    #[error("The archive contains '{0}' more than once.")]
    Clash(String),
    /// More entries than allowed.
    #[error("The archive has more than {0} entries.")]
    TooManyEntries(usize),
    /// More bytes than allowed.
    #[error("The archive is too large when unpacked.")]
    TooLarge,
    /// Nothing that is started could be found in it.
    #[error("Zipped actions must contain {0} at the root.")]
    Missing(&'static str),
    /// The disk failed us.
    #[error("The archive cannot be unpacked.")]
    Io(#[from] io::Error),
}

const LONGEST_LINK: u64 = 4096;
const FREE_BYTES: u64 = 1024 * 1024;

/// Unpacks a zip into `into`, which must exist and be empty.
///
/// # Errors
/// [`ArchiveError`] for anything that is not a well-meant archive; `into` then holds a part of it.
pub fn extract_zip<R: Read + Seek>(
    archive: R,
    into: &Path,
    limits: ArchiveLimits,
) -> Result<(), ArchiveError> {
    let mut zip = ZipArchive::new(archive).map_err(ArchiveError::Damaged)?;
    if zip.len() > limits.entries {
        return Err(ArchiveError::TooManyEntries(limits.entries));
    }
    let mut unpacking =
        Unpacking { into, limits, written: 0, links: Vec::new(), seen: HashSet::new(), made: HashSet::new() };
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(ArchiveError::Damaged)?;
        let name = entry.name().map_err(ArchiveError::Damaged)?.into_owned();
        let kind = entry.unix_mode().unwrap_or(0);
        let budget = limits.ratio.saturating_mul(entry.compressed_size()).saturating_add(FREE_BYTES);
        match kind & 0o170_000 {
            _ if entry.is_dir() => unpacking.directory(&name)?,
            0o120_000 => unpacking.link(&name, &mut entry)?,
            0 | 0o100_000 => unpacking.file(&name, kind, budget, &mut entry)?,
            _ => return Err(ArchiveError::SpecialFile(name)),
        }
    }
    unpacking.make_links()
}

struct Unpacking<'a> {
    into: &'a Path,
    limits: ArchiveLimits,
    written: u64,
    /// Made last, so that no entry is ever written through one.
    links: Vec<(String, PathBuf, PathBuf)>,
    seen: HashSet<PathBuf>,
    /// Every directory, also those that no entry names.
    made: HashSet<PathBuf>,
}

impl Unpacking<'_> {
    fn directory(&mut self, name: &str) -> Result<(), ArchiveError> {
        self.make_directories(name, &safe_path(name)?)
    }

    /// A path of a few kilobytes names two thousand directories, so each counts.
    fn make_directories(&mut self, name: &str, path: &Path) -> Result<(), ArchiveError> {
        let mut directory = PathBuf::new();
        for part in path.components() {
            directory.push(part);
            if self.made.insert(directory.clone()) {
                self.expect_room()?;
                fs::create_dir(self.into.join(&directory)).map_err(|e| clash(name, e))?;
            }
        }
        Ok(())
    }

    fn expect_room(&self) -> Result<(), ArchiveError> {
        let entries = self.limits.entries;
        let is_room = self.made.len() + self.seen.len() <= entries;
        if is_room { Ok(()) } else { Err(ArchiveError::TooManyEntries(entries)) }
    }

    fn file(&mut self, name: &str, mode: u32, budget: u64, data: &mut impl Read) -> Result<(), ArchiveError> {
        let path = self.place(name)?;
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(self.into.join(path))
            .map_err(|e| clash(name, e))?;
        let allowed = budget.min(self.limits.total_bytes - self.written);
        // Sizes in headers are claims; only what comes out is counted.
        let copied = io::copy(&mut data.take(allowed + 1), &mut file)
            .map_err(|e| ArchiveError::Damaged(ZipError::Io(e)))?;
        if copied > allowed {
            return Err(ArchiveError::TooLarge);
        }
        self.written += copied;
        Ok(file.flush()?)
    }

    fn link(&mut self, name: &str, data: &mut impl Read) -> Result<(), ArchiveError> {
        let path = self.place(name)?;
        let mut target = String::new();
        data.take(LONGEST_LINK)
            .read_to_string(&mut target)
            .map_err(|_| ArchiveError::UnsafeLink(name.to_owned()))?;
        let target = PathBuf::from(target);
        if !stays_inside(&path, &target) {
            return Err(ArchiveError::UnsafeLink(name.to_owned()));
        }
        self.links.push((name.to_owned(), path, target));
        Ok(())
    }

    /// Makes the directories of an entry and returns its path.
    fn place(&mut self, name: &str) -> Result<PathBuf, ArchiveError> {
        let path = safe_path(name)?;
        if path.as_os_str().is_empty() || !self.seen.insert(path.clone()) {
            return Err(ArchiveError::Clash(name.to_owned()));
        }
        self.expect_room()?;
        if let Some(parent) = path.parent() {
            self.make_directories(name, parent)?;
        }
        Ok(path)
    }

    fn make_links(self) -> Result<(), ArchiveError> {
        let root = fs::canonicalize(self.into)?;
        for (name, path, target) in &self.links {
            symlink(target, self.into.join(path)).map_err(|e| clash(name, e))?;
        }
        for (name, path, _) in &self.links {
            // Links over links can add up to a way out that none of them is alone. Dangling ones lead nowhere.
            match fs::canonicalize(self.into.join(path)) {
                Ok(real) if !real.starts_with(&root) => {
                    return Err(ArchiveError::UnsafeLink(name.clone()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::remove_file(self.into.join(path))?;
                }
                Err(_) => return Err(ArchiveError::UnsafeLink(name.clone())),
            }
        }
        Ok(())
    }
}

fn clash(name: &str, error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            ArchiveError::Clash(name.to_owned())
        }
        _ => ArchiveError::Io(error),
    }
}

/// A relative path of ordinary names.
fn safe_path(name: &str) -> Result<PathBuf, ArchiveError> {
    let refused = || ArchiveError::UnsafePath(name.escape_default().to_string());
    if name.is_empty() || name.contains(['\\', '\0']) {
        return Err(refused());
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) if part.len() <= 255 => path.push(part),
            Component::CurDir => {}
            Component::Normal(_) | Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                return Err(refused());
            }
        }
    }
    Ok(path)
}

/// True when `target`, seen from `link`'s directory, never climbs above the root.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::Prefix(_) | Component::RootDir => return false,
        }
    }
    !target.as_os_str().is_empty()
}

/// Unpacks the archive in `file`, whatever its type.
pub(crate) fn extract(file: File, into: &Path) -> Result<(), ArchiveError> {
    extract_zip(io::BufReader::new(file), into, ArchiveLimits::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    type Writer = ZipWriter<Cursor<Vec<u8>>>;

    fn zip(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        fill(&mut writer);
        writer.finish().unwrap().into_inner()
    }

    fn file(writer: &mut Writer, name: &str, text: &[u8]) {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text).unwrap();
    }

    fn link(writer: &mut Writer, name: &str, target: &str) {
        writer.add_symlink(name, target, SimpleFileOptions::default()).unwrap();
    }

    fn unpack(bytes: Vec<u8>, limits: ArchiveLimits) -> (tempfile::TempDir, Result<(), ArchiveError>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        let result = extract_zip(Cursor::new(bytes), &dir.path().join("in"), limits);
        (dir, result)
    }

    #[test]
    fn unpacks() {
        let bytes = zip(|z| {
            z.add_directory("lib/", SimpleFileOptions::default()).unwrap();
            file(z, "lib/a.js", b"a");
            file(z, "deep/er/b", b"b");
            z.start_file("exec", SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
            link(z, "lib/b", "../deep/er/b");
            link(z, "dangling", "nowhere");
        });
        let (dir, result) = unpack(bytes, ArchiveLimits::default());
        result.unwrap();
        let inside = dir.path().join("in");
        assert_eq!(fs::read(inside.join("lib/b")).unwrap(), b"b");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(inside.join("exec")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(inside.join("dangling").symlink_metadata().is_err());
    }

    #[test]
    fn refuses() {
        type Fill = fn(&mut Writer);
        let cases: [(&str, Fill); 12] = [
            ("unsafe path", |z| file(z, "../x", b"")),
            ("unsafe path", |z| file(z, "a/../../x", b"")),
            ("unsafe path", |z| file(z, "/etc/x", b"")),
            ("unsafe path", |z| file(z, "..\\x", b"")),
            ("unsafe path", |z| file(z, "a/../x", b"")),
            ("unsafe link", |z| link(z, "l", "/etc/passwd")),
            ("unsafe link", |z| link(z, "l", "..")),
            ("unsafe link", |z| link(z, "a/l", "../../x")),
            ("more than once", |z| {
                link(z, "l", "a");
                file(z, "l/x", b"");
            }),
            ("unsafe link", |z| {
                file(z, "a/b/f", b"");
                link(z, "c", "a/b");
                link(z, "d", "c/../../..");
            }),
            ("more than once", |z| {
                file(z, "a", b"");
                file(z, "a/b", b"");
            }),
            ("more than once", |z| {
                file(z, "a", b"");
                file(z, "./a", b"");
            }),
        ];
        for (index, (why, fill)) in cases.into_iter().enumerate() {
            let (dir, result) = unpack(zip(fill), ArchiveLimits::default());
            let error = result.unwrap_err().to_string();
            assert!(error.contains(why), "{index}: {error}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{index}: written outside");
        }
    }

    #[test]
    fn refuses_bombs_and_damage() {
        let zeros = || zip(|z| file(z, "z", &vec![0; 8 * 1024 * 1024]));
        let small = ArchiveLimits { total_bytes: 1000, ..ArchiveLimits::default() };
        let tight = ArchiveLimits { ratio: 10, ..ArchiveLimits::default() };
        assert!(matches!(unpack(zeros(), small).1, Err(ArchiveError::TooLarge)));
        assert!(matches!(unpack(zeros(), tight).1, Err(ArchiveError::TooLarge)));
        let many = ArchiveLimits { entries: 2, ..ArchiveLimits::default() };
        let three = zip(|z| (0..3).for_each(|n| file(z, &n.to_string(), b"")));
        assert!(matches!(unpack(three, many).1, Err(ArchiveError::TooManyEntries(2))));
        let unnamed = zip(|z| file(z, "a/b/c/d", b""));
        assert!(matches!(unpack(unnamed, many).1, Err(ArchiveError::TooManyEntries(2))));
        assert!(matches!(unpack(b"PK\x03\x04".to_vec(), many).1, Err(ArchiveError::Damaged(_))));
        let mut cut = zeros();
        cut.truncate(cut.len() - 30);
        assert!(matches!(unpack(cut, ArchiveLimits::default()).1, Err(ArchiveError::Damaged(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_outside(names in prop::collection::vec("[a./\\\\]{1,8}", 1..6), targets in prop::collection::vec("[a./]{1,8}", 0..4)) {
            let bytes = zip(|z| {
                for name in names {
                    if z.start_file(name, SimpleFileOptions::default()).is_ok() {
                        z.write_all(b"x").unwrap();
                    }
                }
                for (n, target) in targets.iter().enumerate() {
                    z.add_symlink(format!("a{n}"), target.as_str(), SimpleFileOptions::default()).ok();
                }
            });
            let (dir, result) = unpack(bytes, ArchiveLimits::default());
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            if result.is_ok() {
                let root = fs::canonicalize(dir.path().join("in")).unwrap();
                for entry in fs::read_dir(&root).unwrap() {
                    prop_assert!(fs::canonicalize(entry.unwrap().path()).unwrap().starts_with(&root));
                }
            }
        }
    }
}
