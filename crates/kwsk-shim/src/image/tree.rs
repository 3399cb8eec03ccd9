//! The files of a layer, put together from several sources and written in one order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tar::EntryType;

use super::error::ImageError;
use super::shim_layer::header;

/// Symbolic links on the way to one file.
const LINKS: usize = 40;

/// What of a distribution's files nobody needs inside a container.
const DISPENSABLE: [&str; 8] = [
    "usr/share/doc/",
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/locale/",
    "usr/share/lintian/",
    "usr/share/bug/",
    "usr/share/bash-completion/",
    "usr/share/doc-base/",
];

#[derive(Debug, Clone)]
enum Node {
    Directory,
    File(Content),
    Symlink(String),
}

/// A piece of the spool.
#[derive(Debug, Clone, Copy)]
struct Content {
    offset: u64,
    size: u64,
    /// The same for hard links to one file.
    file: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    node: Node,
    mode: u32,
    owner: (u64, u64),
}

/// Files by path; a later one takes an earlier one's place.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
    spool: File,
    length: u64,
    files: u64,
    slim: bool,
}

impl Tree {
    /// An empty tree; a `slim` one drops manuals and the like, but never a licence.
    pub(crate) fn new(slim: bool) -> Result<Self, ImageError> {
        let spool = tempfile::tempfile()
            .map_err(ImageError::file("make a temporary file; set TMPDIR to a directory with space"))?;
        Ok(Self { entries: BTreeMap::new(), spool, length: 0, files: 0, slim })
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> Result<(), ImageError> {
        let path = self.place(path)?;
        self.insert(path, Entry { node: Node::Directory, mode, owner: (0, 0) });
        Ok(())
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Result<(), ImageError> {
        let path = self.place(path)?;
        self.insert(path, Entry { node: Node::Symlink(target.to_owned()), mode: 0o777, owner: (0, 0) });
        Ok(())
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &mut impl Read) -> Result<(), ImageError> {
        let path = self.place(path)?;
        let content = self.spool(&path, content)?;
        self.insert(path, Entry { node: Node::File(content), mode, owner: (0, 0) });
        Ok(())
    }

    /// A file or a whole directory of this machine. Of modes only the right to execute is taken over, of owners nothing:
    /// both are accidents of whoever made them.
    pub(crate) fn add(&mut self, from: &Path, to: &str, mode: Option<u32>) -> Result<(), ImageError> {
        let failed = || ImageError::file(format!("read {}", from.display()));
        let metadata = from.symlink_metadata().map_err(failed())?;
        if metadata.is_symlink() {
            let target = std::fs::read_link(from).map_err(failed())?;
            return self.symlink(to, &target.to_string_lossy());
        }
        if !metadata.is_dir() {
            let executable = metadata.permissions().mode() & 0o111 != 0;
            let mode = mode.unwrap_or(if executable { 0o755 } else { 0o644 });
            return self.file(to, mode, &mut File::open(from).map_err(failed())?);
        }
        self.directory(to, mode.unwrap_or(0o755))?;
        for entry in std::fs::read_dir(from).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let below = format!("{}/{}", to.trim_end_matches('/'), entry.file_name().to_string_lossy());
            self.add(&entry.path(), &below, None)?;
        }
        Ok(())
    }

    /// Everything in a tar archive, with its modes and owners.
    pub(crate) fn archive(&mut self, what: &str, from: impl Read) -> Result<(), ImageError> {
        let damaged = |error: io::Error| {
            ImageError::malformed(what, format_args!("it is not a whole tar archive ({error})"))
        };
        let mut archive = tar::Archive::new(from);
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let path = self.place(&path)?;
            let head = entry.header();
            let mode = head.mode().map_err(damaged)? & 0o7777;
            let owner = (head.uid().map_err(damaged)?, head.gid().map_err(damaged)?);
            let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
            let node = match (head.entry_type(), link) {
                (EntryType::Directory, _) => Node::Directory,
                (EntryType::Symlink, Some(target)) => Node::Symlink(target),
                (EntryType::Link, Some(target)) => {
                    let target = self.place(&target)?;
                    let Some(Entry { node, .. }) = self.entries.get(&target) else {
                        return Err(ImageError::malformed(
                            what,
                            format_args!("'{path}' is a link to '{target}', which is not in it"),
                        ));
                    };
                    node.clone()
                }
                (EntryType::Regular | EntryType::Continuous, _) => Node::File(self.spool(&path, &mut entry)?),
                (other, _) => {
                    return Err(ImageError::malformed(
                        what,
                        format_args!("'{path}' is a {other:?}, which no image of ours has"),
                    ));
                }
            };
            self.insert(path, Entry { node, mode, owner });
        }
        Ok(())
    }

    fn spool(&mut self, path: &str, content: &mut impl Read) -> Result<Content, ImageError> {
        let size = io::copy(content, &mut self.spool)
            .map_err(ImageError::file(format!("store '{path}' for a layer")))?;
        let content = Content { offset: self.length, size, file: self.files };
        self.length += size;
        self.files += 1;
        Ok(content)
    }

    fn insert(&mut self, path: String, entry: Entry) {
        if path.is_empty() || (self.slim && is_dispensable(&path)) {
            return;
        }
        if let Node::Directory = entry.node {
            // As dpkg does: a link to a directory stays.
            if matches!(self.entries.get(&path), Some(Entry { node: Node::Symlink(_), .. })) {
                return;
            }
        }
        self.parents(&path);
        self.entries.insert(path, entry);
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let Some(parent) = path.get(..at) else { continue };
            let directory = Entry { node: Node::Directory, mode: 0o755, owner: (0, 0) };
            self.entries.entry(parent.to_owned()).or_insert(directory);
        }
    }

    /// Where a path is once the symbolic links above it are followed; `""` is the root.
    fn place(&self, path: &str) -> Result<String, ImageError> {
        let refused = |why: &str| ImageError::malformed(format!("the path '{path}'"), why);
        if path.split('/').any(|part| part == "..") {
            return Err(refused("it leads out of the image"));
        }
        let mut waiting: VecDeque<String> = path.split('/').map(ToOwned::to_owned).collect();
        let (mut place, mut links) = (Vec::<String>::new(), 0);
        while let Some(part) = waiting.pop_front() {
            match part.as_str() {
                "" | "." => continue,
                // Only a link's target has these; above the root is the root.
                ".." => {
                    place.pop();
                    continue;
                }
                _ => place.push(part),
            }
            let is_last = waiting.iter().all(|part| part.is_empty() || part == ".");
            let node = self.entries.get(&place.join("/")).map(|entry| &entry.node);
            if let (false, Some(Node::Symlink(target))) = (is_last, node) {
                links += 1;
                if links > LINKS {
                    return Err(refused("it has too many symbolic links on its way"));
                }
                place.pop();
                if target.starts_with('/') {
                    place.clear();
                }
                for part in target.split('/').rev() {
                    waiting.push_front(part.to_owned());
                }
            }
        }
        Ok(place.join("/"))
    }

    /// The tar archive: sorted, at the beginning of time.
    pub(crate) fn write(mut self, to: &mut impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(to);
        let mut written: HashMap<u64, String> = HashMap::new();
        for (path, entry) in &self.entries {
            let of = |kind, size| {
                let mut header = header(kind, entry.mode, size);
                header.set_uid(entry.owner.0);
                header.set_gid(entry.owner.1);
                header
            };
            match &entry.node {
                Node::Directory => {
                    archive.append_data(&mut of(EntryType::Directory, 0), format!("{path}/"), io::empty())?;
                }
                Node::Symlink(target) => archive.append_link(&mut of(EntryType::Symlink, 0), path, target)?,
                Node::File(content) => match written.get(&content.file) {
                    Some(first) => archive.append_link(&mut of(EntryType::Link, 0), path, first)?,
                    None => {
                        self.spool.seek(SeekFrom::Start(content.offset))?;
                        let bytes = (&mut self.spool).take(content.size);
                        archive.append_data(&mut of(EntryType::Regular, content.size), path, bytes)?;
                        written.insert(content.file, path.clone());
                    }
                },
            }
        }
        archive.finish()
    }
}

fn is_dispensable(path: &str) -> bool {
    let is_licence = path.starts_with("usr/share/doc/") && path.ends_with("/copyright");
    !is_licence && DISPENSABLE.iter().any(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(tree: Tree) -> Vec<String> {
        let mut bytes = Vec::new();
        tree.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|link| format!(" -> {}", link.display()));
            format!(
                "{} {:o}{}",
                entry.path().unwrap().display(),
                entry.header().mode().unwrap(),
                link.unwrap_or_default()
            )
        });
        entries.collect()
    }

    #[test]
    fn files_are_sorted_and_have_parents() {
        let mut tree = Tree::new(false).unwrap();
        tree.file("/b/c", 0o600, &mut &b"x"[..]).unwrap();
        tree.file("a", 0o644, &mut &b"y"[..]).unwrap();
        tree.directory("/tmp", 0o1777).unwrap();
        assert_eq!(listed(tree), ["a 644", "b/ 755", "b/c 600", "tmp/ 1777"]);
    }

    #[test]
    fn merged_directories_stay_links() {
        let mut tree = Tree::new(false).unwrap();
        tree.symlink("bin", "usr/bin").unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        for (path, kind) in [("./bin/", EntryType::Directory), ("./bin/sh", EntryType::Regular)] {
            archive.append_data(&mut header(kind, 0o755, 0), path, io::empty()).unwrap();
        }
        archive.append_link(&mut header(EntryType::Link, 0o755, 0), "./bin/dash", "./bin/sh").unwrap();
        tree.archive("x", &archive.into_inner().unwrap()[..]).unwrap();
        let expected = [
            "bin 777 -> usr/bin",
            "usr/ 755",
            "usr/bin/ 755",
            "usr/bin/dash 755",
            "usr/bin/sh 755 -> usr/bin/dash",
        ];
        assert_eq!(listed(tree), expected);
    }

    #[test]
    fn slim_trees_keep_licences() {
        let mut tree = Tree::new(true).unwrap();
        for path in ["usr/share/doc/x/copyright", "usr/share/doc/x/README", "usr/share/man/man1/x.1"] {
            tree.file(path, 0o644, &mut io::empty()).unwrap();
        }
        assert_eq!(listed(tree).last().unwrap(), "usr/share/doc/x/copyright 644");
    }

    #[test]
    fn paths_do_not_lead_out() {
        let mut tree = Tree::new(false).unwrap();
        let refused = tree.file("a/../../etc/passwd", 0o644, &mut io::empty()).unwrap_err().to_string();
        assert!(refused.contains("leads out of the image"), "{refused}");
        tree.symlink("up", "../../..").unwrap();
        tree.file("up/x", 0o644, &mut io::empty()).unwrap();
        tree.symlink("loop", "loop").unwrap();
        assert!(tree.file("loop/x", 0o644, &mut io::empty()).unwrap_err().to_string().contains("too many"));
        assert_eq!(listed(tree), ["loop 777 -> loop", "up 777 -> ../../..", "x 644"]);
    }

    #[test]
    fn archives_that_are_none_are_named() {
        let mut tree = Tree::new(false).unwrap();
        let error = tree.archive("a.deb", &b"not tar at all"[..]).unwrap_err().to_string();
        assert!(error.contains("a.deb"), "{error}");
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_link(&mut header(EntryType::Link, 0o755, 0), "a", "b").unwrap();
        let archive = archive.into_inner().unwrap();
        assert!(tree.archive("a.deb", &archive[..]).unwrap_err().to_string().contains("not in it"));
    }
}
