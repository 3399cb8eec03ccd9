//! Reading a process's pipes: [`Stream`] for its logs, [`LineReader`] for its answers.

use std::future::pending;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use crate::logs::{LogSink, Source};

const CHUNK: usize = 8 * 1024;
/// No pipe holds more by default rights, so what was written before an answer is within this.
const DRAIN_MAX: usize = 1024 * 1024;
/// A log stream and the line that is not complete yet.
#[derive(Debug)]
pub(crate) struct Stream {
    source: Source,
    pipe: Pipe,
    partial: Vec<u8>,
}

#[derive(Debug)]
enum Pipe {
    /// Unknown to tokio, so that what arrives wakes nobody.
    Quiet(OwnedFd),
    Watched(Receiver),
    Closed,
}

impl Stream {
    pub(crate) fn new(source: Source, pipe: Receiver) -> Self {
        Self { source, pipe: Pipe::Watched(pipe).quiet(), partial: Vec::new() }
    }

    /// Waits for output, which is to be [emitted](Self::emit); for ever once the stream is closed. Cancel safe.
    pub(crate) async fn fill(&mut self) {
        if let Pipe::Quiet(_) = self.pipe {
            self.pipe = std::mem::replace(&mut self.pipe, Pipe::Closed).watched();
        }
        let Pipe::Watched(pipe) = &mut self.pipe else { return pending().await };
        self.partial.reserve(CHUNK);
        if !matches!(pipe.read_buf(&mut self.partial).await, Ok(n) if n > 0) {
            self.pipe = Pipe::Closed;
        }
    }

    /// Hands the complete lines over.
    pub(crate) fn emit(&mut self, sink: &mut LogSink) {
        sink.feed(self.source, &mut self.partial);
    }

    /// Takes what is in the pipe already; afterwards nobody watches it until the next [`fill`](Self::fill).
    pub(crate) fn drain(&mut self, sink: &mut LogSink) {
        if let Pipe::Watched(_) = self.pipe {
            self.pipe = std::mem::replace(&mut self.pipe, Pipe::Closed).quiet();
        }
        let Pipe::Quiet(pipe) = &self.pipe else { return sink.flush(self.source, &mut self.partial) };
        let mut total = 0;
        while total < DRAIN_MAX {
            self.partial.reserve(CHUNK);
            let room = self.partial.capacity() - self.partial.len();
            let read = read_now(pipe, &mut self.partial);
            total += read;
            // Less than there was room for empties a pipe.
            if read < room {
                break;
            }
            sink.feed(self.source, &mut self.partial);
        }
        sink.flush(self.source, &mut self.partial);
    }
}

impl Pipe {
    fn watched(self) -> Self {
        match self {
            Self::Quiet(fd) => Receiver::from_owned_fd_unchecked(fd).map_or_else(Self::lost, Self::Watched),
            Self::Watched(_) | Self::Closed => self,
        }
    }

    fn quiet(self) -> Self {
        match self {
            Self::Watched(pipe) => pipe.into_nonblocking_fd().map_or_else(Self::lost, Self::Quiet),
            Self::Quiet(_) | Self::Closed => self,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "the shape map_or_else asks for")]
    fn lost(error: std::io::Error) -> Self {
        tracing::warn!(%error, "a runtime's output cannot be read any more");
        Self::Closed
    }
}

/// Reads without waiting into the room that `into` has, and past tokio's readiness cache, which may not know yet what
/// was written a moment ago.
fn read_now(pipe: impl AsFd, into: &mut Vec<u8>) -> usize {
    rustix::io::read(pipe, spare_capacity(into)).unwrap_or(0)
}

/// Reads lines of any length while keeping at most `cap` bytes of each.
#[derive(Debug)]
pub(crate) struct LineReader {
    pipe: Receiver,
    cap: usize,
    buffer: Vec<u8>,
    scanned: usize,
    dropped: u64,
    closed: bool,
}

/// One line: its first bytes, and how long it was.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) head: Vec<u8>,
    pub(crate) length: u64,
}

impl LineReader {
    pub(crate) fn new(pipe: Receiver, cap: u64) -> Self {
        let cap = usize::try_from(cap).unwrap_or(usize::MAX);
        Self { pipe, cap, buffer: Vec::new(), scanned: 0, dropped: 0, closed: false }
    }

    /// Waits for more; false at the end of the stream. Cancel safe.
    pub(crate) async fn fill(&mut self) -> bool {
        if self.closed {
            return false;
        }
        self.buffer.reserve(CHUNK);
        self.closed = !matches!(self.pipe.read_buf(&mut self.buffer).await, Ok(n) if n > 0);
        !self.closed
    }

    /// Takes what is in the pipe already; false when there was nothing.
    pub(crate) fn fill_now(&mut self) -> bool {
        self.buffer.reserve(CHUNK);
        read_now(&self.pipe, &mut self.buffer) > 0
    }

    /// The next complete line, if there is one.
    pub(crate) fn line(&mut self) -> Option<Line> {
        match self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
            Some(at) => Some(self.cut(self.scanned + at, 1)),
            None => {
                self.trim();
                None
            }
        }
    }

    /// What is left when no newline will come.
    pub(crate) fn rest(&mut self) -> Option<Line> {
        (!self.buffer.is_empty()).then(|| self.cut(self.buffer.len(), 0))
    }

    /// Forgets everything read so far: nobody asked for it.
    pub(crate) fn discard(&mut self) {
        while self.fill_now() {
            self.buffer.clear();
        }
        self.buffer.clear();
        self.scanned = 0;
        self.dropped = 0;
    }

    fn cut(&mut self, end: usize, newline: usize) -> Line {
        let length = end as u64 + self.dropped;
        let head = self.buffer[..end.min(self.cap)].to_vec();
        self.buffer.drain(..end + newline);
        self.scanned = 0;
        self.dropped = 0;
        Line { head, length }
    }

    fn trim(&mut self) {
        if self.buffer.len() > self.cap {
            self.dropped += (self.buffer.len() - self.cap) as u64;
            self.buffer.truncate(self.cap);
        }
        self.scanned = self.buffer.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::unix::pipe;

    async fn lines(text: &[u8], cap: u64) -> Vec<(String, u64)> {
        let (mut sender, receiver) = pipe::pipe().unwrap();
        sender.write_all(text).await.unwrap();
        drop(sender);
        let mut reader = LineReader::new(receiver, cap);
        let mut all = Vec::new();
        let mut more = true;
        while more {
            more = reader.fill().await;
            while let Some(line) = reader.line() {
                all.push(line);
            }
        }
        all.extend(reader.rest());
        all.into_iter().map(|l| (String::from_utf8(l.head).unwrap(), l.length)).collect()
    }

    #[tokio::test]
    async fn long_lines_are_counted_not_kept() {
        assert_eq!(
            lines(b"ab\n\ncdef\ngh", 3).await,
            [("ab".into(), 2), (String::new(), 0), ("cde".into(), 4), ("gh".into(), 2)]
        );
        let mut long = vec![b'x'; 40_000];
        long.extend(b"\nend\n");
        assert_eq!(lines(&long, 4).await, [("xxxx".into(), 40_000), ("end".into(), 3)]);
    }

    #[tokio::test]
    async fn drains_what_was_just_written() {
        let (mut sender, receiver) = pipe::pipe().unwrap();
        let mut stream = Stream::new(Source::Stdout, receiver);
        let mut sink = LogSink::new(1000);
        sender.write_all(b"one\ntwo").await.unwrap();
        stream.drain(&mut sink);
        assert_eq!(sink.finish(false).len(), 2);
    }
}
