//! What takes long is told while it lasts.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long nothing is said about a blob that is on its way.
const EVERY: Duration = Duration::from_secs(5);

/// Where lines about the progress go.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Calls `tell` with each line.
    #[must_use]
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Says nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    pub(crate) fn say(&self, line: &str) {
        (self.0)(line);
    }

    /// Counts the bytes of one blob.
    pub(crate) fn meter(&self, what: String, size: u64) -> Meter {
        Meter { progress: self.clone(), what, size, seen: 0, said: Instant::now() }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Says how far a blob is, now and then.
pub(crate) struct Meter {
    progress: Progress,
    what: String,
    size: u64,
    seen: u64,
    said: Instant,
}

impl Meter {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.seen += bytes;
        if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            self.progress.say(&format!("{}: {} of {}", self.what, size(self.seen), size(self.size)));
        }
    }
}

/// `12.3 MB`.
pub(crate) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", tenths(1_000)),
        _ => format!("{} MB", tenths(1_000_000)),
    }
}
