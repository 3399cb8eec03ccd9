//! One activation's log lines: formatted, bounded, merged by arrival.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    /// The line being read is over the limit, and its beginning is gone.
    overlong: [bool; 2],
    lines: Vec<String>,
}

impl LogSink {
    /// A sink for `limit` bytes of raw text; 0 collects nothing.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            truncated: false,
            incomplete: false,
            ended: [false; 2],
            overlong: [false; 2],
            lines: Vec::new(),
        }
    }

    /// Takes the complete lines out of `bytes` and leaves the rest, which never grows beyond the limit.
    pub(crate) fn feed(&mut self, source: Source, bytes: &mut Vec<u8>) {
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|b| *b == b'\n') {
            self.line(source, &bytes[from..from + at]);
            from += at + 1;
        }
        bytes.drain(..from);
        if self.is_overlong(bytes) {
            // Whatever follows, this line is cut off; only whether it ends in a sentinel is still of interest.
            self.overlong[source as usize] = true;
            self.truncated = self.limit > 0;
            bytes.drain(..bytes.len() - LOG_SENTINEL.len() - 1);
        }
    }

    /// True for a line that is over the limit even without a sentinel and a carriage return at its end.
    fn is_overlong(&self, line: &[u8]) -> bool {
        line.len() as u64 > self.limit + LOG_SENTINEL.len() as u64 + 1
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
        let is_overlong = std::mem::take(&mut self.overlong[source as usize]) || self.is_overlong(line);
        let text = without_sentinels(line);
        if text.len() < line.len() {
            self.ended[source as usize] = true;
            if text.is_empty() {
                return;
            }
        }
        if self.truncated || self.limit == 0 {
            return;
        }
        self.used += text.len() as u64 + 1;
        if is_overlong || self.used > self.limit {
            self.truncated = true;
        } else {
            self.push(source, &String::from_utf8_lossy(text));
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
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.lines.push(format!("{} {name}: {text}", timestamp(now)));
    }
}

/// `line` without the sentinels at its end, should there be any; a carriage return behind one goes with it.
fn without_sentinels(line: &[u8]) -> &[u8] {
    let mut text = line;
    while let Some(rest) = text.strip_suffix(b"\r").unwrap_or(text).strip_suffix(LOG_SENTINEL.as_bytes()) {
        text = rest;
    }
    text
}

/// RFC 3339 in UTC. Nine digits of fraction make it exactly the 30 characters upstream pads to.
pub(crate) fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Year, month and day of a day since 1970-01-01, counted in years that begin in March: the leap day is their last.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + DAYS_TO_1970;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // March to July and August to December have 153 days each.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (400 * era + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn timestamps(seconds in 0..253_402_300_800_u64, nanos in 0..1_000_000_000_u32) {
            let expected = Timestamp::new(i64::try_from(seconds).unwrap(), i32::try_from(nanos).unwrap());
            // Theirs ends a little before the year 10000.
            if let Ok(expected) = expected {
                prop_assert_eq!(timestamp(Duration::new(seconds, nanos)), format!("{expected:.9}"));
            }
        }
    }

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
        assert!(bytes.len() < 100 && !sink.is_complete());
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
    fn sentinels_are_found_however_the_line_arrives() {
        for (line, kept, complete) in [
            (format!("{}{LOG_SENTINEL}", "x".repeat(64)), 1, true),
            (format!("{}{LOG_SENTINEL}", "x".repeat(300)), 0, false),
            (format!("{LOG_SENTINEL}{LOG_SENTINEL}"), 0, true),
            (format!("{LOG_SENTINEL}\r"), 0, true),
        ] {
            for piece in [1, 7, 1000] {
                let mut sink = LogSink::new(100);
                for source in [Source::Stdout, Source::Stderr] {
                    let mut rest = Vec::new();
                    let text = if source == Source::Stdout { line.as_str() } else { LOG_SENTINEL };
                    for piece in [text, "\n"].concat().as_bytes().chunks(piece) {
                        rest.extend_from_slice(piece);
                        sink.feed(source, &mut rest);
                    }
                }
                assert!(sink.has_ended() && sink.is_complete() == complete, "{line} by {piece}");
                assert_eq!(texts(sink, false).len(), kept + usize::from(!complete), "{line} by {piece}");
            }
        }
    }

    #[test]
    fn nothing_at_limit_zero() {
        let mut sink = LogSink::new(0);
        sink.feed(Source::Stdout, &mut b"a\n".to_vec());
        assert!(sink.is_complete());
        assert!(sink.finish(true).is_empty());
    }
}
