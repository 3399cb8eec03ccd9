//! What can go wrong with an image, each in one line that says what to do.

use std::io;
use std::path::PathBuf;

use super::digest::Digest;

/// Why an image could not be read, made or pushed. `Display` names the object, the cause and the way out.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not the name of an image.
    #[error("'{given}' is not an image reference: {why}; write it like registry.example/team/image:tag")]
    Reference {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a content address.
    #[error("'{given}' is not a digest; one is written like sha256: and 64 lower-case hexadecimal digits")]
    Digest {
        /// What was given.
        given: String,
    },
    /// Nothing answers there, or it stopped answering.
    #[error(
        "cannot reach {registry} to {task}: {why}; check the name, the network and whether it is running"
    )]
    Unreachable {
        /// Host and port.
        registry: String,
        /// What was being done.
        task: String,
        /// What the system said.
        why: String,
    },
    /// Who we are, or that we are nobody, is not good enough.
    #[error("{registry} refuses to {task} ({status}{}): {hint}", said(.message))]
    Denied {
        /// Host and port.
        registry: String,
        /// What was being done.
        task: String,
        /// 401 or 403, or what the token service said.
        status: u16,
        /// The registry's own words, or none.
        message: String,
        /// Whose credentials these were and what to do.
        hint: String,
    },
    /// Not there.
    #[error("{registry} has no {what}; check the name and the tag")]
    NotFound {
        /// Host and port.
        registry: String,
        /// A manifest or blob.
        what: String,
    },
    /// An answer that fits no step of the protocol.
    #[error("{registry} cannot {task}: it answers {status}{}", said(.message))]
    Answer {
        /// Host and port.
        registry: String,
        /// What was being done.
        task: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, or none.
        message: String,
    },
    /// Content that is not what its name says.
    #[error(
        "{what} from {registry} is not what its digest says ({found} instead of {wanted}); the registry or something before it is damaged, push the image again"
    )]
    Mismatch {
        /// Host and port, or a directory.
        registry: String,
        /// A manifest or blob.
        what: String,
        /// What it should be.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// Content that ends too soon or too late.
    #[error(
        "{what} from {registry} has {found} of {wanted} bytes; the registry or something before it is damaged, push the image again"
    )]
    Length {
        /// Host and port, or a directory.
        registry: String,
        /// A blob.
        what: String,
        /// Bytes announced.
        wanted: u64,
        /// Bytes that came; more than `wanted` only ever by one piece.
        found: u64,
    },
    /// A document that cannot be what it has to be.
    #[error("{what} cannot be used: {why}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A format that is known and refused, or unknown.
    #[error("{what} is {found}; {way_out}")]
    Unsupported {
        /// Which document.
        what: String,
        /// What it is.
        found: String,
        /// What to do.
        way_out: &'static str,
    },
    /// Nothing to wrap.
    #[error(
        "{image} has neither Entrypoint nor Cmd, so there is nothing for the shim to start; name it with --entrypoint '[\"program\",\"argument\"]'"
    )]
    NoCommand {
        /// The image.
        image: String,
    },
    /// No shim runs where the image does.
    #[error("{image} is for {has}, and a shim is given for {given}; give one with --shim ARCHITECTURE=FILE")]
    NoShim {
        /// The image.
        image: String,
        /// Its platforms.
        has: String,
        /// The shims' platforms.
        given: String,
    },
    /// A file that cannot be the shim.
    #[error("{} cannot be used as shim: {why}", .path.display())]
    Shim {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Credentials that cannot be read.
    #[error("the credentials in {place} cannot be used: {why}")]
    Credentials {
        /// A file or a helper program.
        place: String,
        /// What is wrong with them.
        why: String,
    },
    /// The file system.
    #[error("cannot {task}")]
    File {
        /// What was being done, with the path.
        task: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program that was started.
    #[error("{program} failed: {why}")]
    Program {
        /// The program and its arguments.
        program: String,
        /// Its last words.
        why: String,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(", \"{message}\"") }
}

impl ImageError {
    /// True when the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Length { .. } => true,
            Self::Answer { status, .. } => matches!(*status, 401 | 429 | 500..),
            Self::Reference { .. }
            | Self::Digest { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::Mismatch { .. }
            | Self::Malformed { .. }
            | Self::Unsupported { .. }
            | Self::NoCommand { .. }
            | Self::NoShim { .. }
            | Self::Shim { .. }
            | Self::Credentials { .. }
            | Self::File { .. }
            | Self::Program { .. } => false,
        }
    }

    pub(crate) fn malformed(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Malformed { what: what.into(), why: why.to_string() }
    }

    /// For `map_err` on whatever touches files.
    pub(crate) fn file(task: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let task = task.into();
        move |source| Self::File { task, source }
    }
}
