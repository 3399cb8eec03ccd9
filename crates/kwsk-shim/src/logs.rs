//! One activation's log lines: formatted, bounded, merged by arrival.

use jiff::Timestamp;
use kwsk_model::proxy::LOG_SENTINEL;

const INCOMPLETE: &str = "There was an issue while collecting your logs. Data might be missing.";
const DEVELOPER_ERROR: &str = "The action did not initialize or run as expected. Log data might be missing.";

/// Which of a process's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// Collects the lines of one activation.
#[derive(Debug)]
pub(crate) struct LogSink {
    limit: u64,
    used: u64,
    truncated: bool,
    incomplete: bool,
    ended: [bool; 2],
    lines: Vec<String>,
}

impl LogSink {
    /// A sink for `limit` bytes of raw text; 0 collects nothing.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: 0, truncated: false, incomplete: false, ended: [false; 2], lines: Vec::new() }
    }

    /// Takes the complete lines out of `bytes` and leaves the rest, which never grows beyond the limit.
    pub(crate) fn feed(&mut self, source: Source, bytes: &mut Vec<u8>) {
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|b| *b == b'\n') {
            self.line(source, &bytes[from..from + at]);
            from += at + 1;
        }
        bytes.drain(..from);
        if bytes.len() as u64 > self.limit.max(LOG_SENTINEL.len() as u64 * 2) {
            self.line(source, bytes);
            bytes.clear();
        }
    }

    /// Takes everything: what was written without a newline before the answer belongs to this activation.
    pub(crate) fn flush(&mut self, source: Source, bytes: &mut Vec<u8>) {
        self.feed(source, bytes);
        if !bytes.is_empty() {
            self.line(source, bytes);
            bytes.clear();
        }
    }

    /// One line without its newline.
    pub(crate) fn line(&mut self, source: Source, line: &[u8]) {
        let line = match line.strip_suffix(LOG_SENTINEL.as_bytes()) {
            Some(rest) => {
                self.ended[source as usize] = true;
                if rest.is_empty() {
                    return;
                }
                rest
            }
            None => line,
        };
        if self.truncated || self.limit == 0 {
            return;
        }
        self.used += line.len() as u64 + 1;
        if self.used > self.limit {
            self.truncated = true;
        } else {
            self.push(source, &String::from_utf8_lossy(line));
        }
    }

    /// False when nobody will see the lines.
    pub(crate) fn is_collecting(&self) -> bool {
        self.limit > 0
    }

    /// True when both streams printed their sentinel.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended == [true; 2]
    }

    /// The runtime did not say that its logs are complete.
    pub(crate) fn mark_incomplete(&mut self) {
        self.incomplete = true;
    }

    /// True when every line is there.
    pub(crate) fn is_complete(&self) -> bool {
        !self.truncated && !self.incomplete
    }

    /// The lines, with the platform's remarks at the end.
    pub(crate) fn finish(mut self, developer_error: bool) -> Vec<String> {
        if self.limit == 0 {
            return Vec::new();
        }
        if self.truncated {
            let limit = self.limit;
            let text = format!(
                "Logs were truncated because the total bytes size exceeds the limit of {limit} bytes."
            );
            self.push(Source::Stderr, &text);
        }
        if self.incomplete {
            self.push(Source::Stderr, INCOMPLETE);
        }
        if developer_error {
            self.push(Source::Stderr, DEVELOPER_ERROR);
        }
        self.lines
    }

    fn push(&mut self, source: Source, text: &str) {
        let name = match source {
            Source::Stdout => "stdout",
            Source::Stderr => "stderr",
        };
        let text = text.strip_suffix('\r').unwrap_or(text);
        // Nine digits of fraction make a timestamp of this century exactly the 30 characters upstream pads to.
        self.lines.push(format!("{:<30} {name}: {text}", format!("{:.9}", Timestamp::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sink: LogSink, developer_error: bool) -> Vec<String> {
        sink.finish(developer_error).into_iter().map(|line| line[31..].to_owned()).collect()
    }

    #[test]
    fn format() {
        let mut sink = LogSink::new(100);
        sink.feed(Source::Stdout, &mut b"a\n".to_vec());
        let line = sink.finish(false).remove(0);
        let (stamp, rest) = line.split_at(30);
        assert!(stamp.ends_with('Z') && stamp.as_bytes()[19] == b'.', "{stamp}");
        assert!(stamp.parse::<Timestamp>().is_ok());
        assert_eq!(rest, " stdout: a");
    }

    #[test]
    fn lines_and_leftovers() {
        let mut sink = LogSink::new(100);
        let mut bytes = "a\n\n«ä»\r\npart".as_bytes().to_vec();
        sink.feed(Source::Stdout, &mut bytes);
        assert_eq!(bytes, b"part");
        sink.flush(Source::Stdout, &mut bytes);
        sink.feed(Source::Stderr, &mut b"e\n".to_vec());
        assert_eq!(texts(sink, false), ["stdout: a", "stdout: ", "stdout: «ä»", "stdout: part", "stderr: e"]);
    }

    #[test]
    fn limit_is_bytes_with_newlines() {
        for (text, kept, truncated) in
            [("abc\nde\n", 2, false), ("abc\ndef\n", 1, true), ("abcdefgh\nx\n", 0, true), ("", 0, false)]
        {
            let mut sink = LogSink::new(7);
            sink.feed(Source::Stdout, &mut text.as_bytes().to_vec());
            assert_eq!(sink.is_complete(), !truncated, "{text}");
            let lines = texts(sink, true);
            assert_eq!(lines.len(), kept + usize::from(truncated) + 1, "{text}");
            assert_eq!(*lines.last().unwrap(), format!("stderr: {DEVELOPER_ERROR}"));
            if truncated {
                let expected =
                    "stderr: Logs were truncated because the total bytes size exceeds the limit of 7 bytes.";
                assert_eq!(lines[kept], expected);
            }
        }
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut sink = LogSink::new(100);
        let mut bytes = vec![b'x'; 200];
        sink.feed(Source::Stdout, &mut bytes);
        assert!(bytes.is_empty() && !sink.is_complete());
    }

    #[test]
    fn sentinels_end_and_are_stripped() {
        let mut sink = LogSink::new(1000);
        sink.feed(Source::Stdout, &mut format!("no newline{LOG_SENTINEL}\n").into_bytes());
        assert!(!sink.has_ended());
        sink.feed(Source::Stderr, &mut format!("{LOG_SENTINEL}\n").into_bytes());
        assert!(sink.has_ended());
        assert_eq!(texts(sink, false), ["stdout: no newline"]);
    }

    #[test]
    fn nothing_at_limit_zero() {
        let mut sink = LogSink::new(0);
        sink.feed(Source::Stdout, &mut b"a\n".to_vec());
        assert!(sink.is_complete());
        assert!(sink.finish(true).is_empty());
    }
}
