//! Archives of actions. Input: a zip, or a recipe for one with a line per entry:
//! `f NAME CONTENT`, `x NAME CONTENT` (executable), `z NAME LENGTH` (zeros), `d NAME`, `l NAME TARGET`.
#![no_main]

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kwsk_shim::{ArchiveLimits, extract_zip};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const LIMITS: ArchiveLimits = ArchiveLimits { total_bytes: 64 * 1024, entries: 16, ratio: 10 };

fuzz_target!(|data: &[u8]| {
    let archive = if data.starts_with(b"PK") { data.to_vec() } else { cooked(data) };
    let parent = workplace();
    let inside = parent.join("in");
    fs::create_dir(&inside).expect("the last round has cleaned up");
    let result = extract_zip(Cursor::new(archive), &inside, LIMITS);

    let around: Vec<_> =
        fs::read_dir(parent).expect("it is a directory").flatten().map(|e| e.file_name()).collect();
    assert_eq!(around, ["in"], "something was written beside the directory");
    let mut found = Found::default();
    found.walk(&inside);
    // One byte more is how an archive is found to be too large.
    assert!(found.bytes <= LIMITS.total_bytes + 1, "{} bytes", found.bytes);
    assert!(found.entries <= LIMITS.entries, "{} entries", found.entries);
    if result.is_ok() {
        assert!(found.bytes <= LIMITS.total_bytes);
        let root = fs::canonicalize(&inside).expect("it is there");
        for link in &found.links {
            let real = fs::canonicalize(link).expect("links that lead nowhere are removed");
            assert!(real.starts_with(&root), "{} leads out, to {}", link.display(), real.display());
        }
    }
    fs::remove_dir_all(&inside).expect("what was unpacked can be removed");
});

#[derive(Default)]
struct Found {
    bytes: u64,
    entries: usize,
    links: Vec<PathBuf>,
}

impl Found {
    fn walk(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).expect("directories can be read").flatten() {
            let metadata = entry.metadata().expect("entries have metadata");
            self.entries += 1;
            if metadata.is_dir() {
                self.walk(&entry.path());
            } else if metadata.is_symlink() {
                self.links.push(entry.path());
            } else {
                assert!(metadata.is_file(), "{} is special", entry.path().display());
                self.bytes += metadata.len();
            }
        }
    }
}

/// A directory in memory, where the machine has one.
fn workplace() -> &'static Path {
    static PLACE: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a temporary directory can be made")
    };
    PLACE.get_or_init(make).path()
}

fn cooked(recipe: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for line in recipe.split(|byte| *byte == b'\n').take(2 * LIMITS.entries) {
        let line = String::from_utf8_lossy(line);
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (what, name, rest) = (word(), word(), word());
        let plain = SimpleFileOptions::default();
        // What the writer refuses is no archive to test with.
        drop(match what {
            "f" => zip.start_file(name, plain).and_then(|()| Ok(zip.write_all(rest.as_bytes())?)),
            "x" => zip
                .start_file(name, plain.unix_permissions(0o755))
                .and_then(|()| Ok(zip.write_all(rest.as_bytes())?)),
            "z" => zip
                .start_file(name, plain)
                .and_then(|()| Ok(zip.write_all(&vec![0; rest.parse::<u16>().unwrap_or(0).into()])?)),
            "d" => zip.add_directory(name, plain),
            "l" => zip.add_symlink(name, rest, plain),
            _ => Ok(()),
        });
    }
    zip.finish().map(Cursor::into_inner).unwrap_or_default()
}
