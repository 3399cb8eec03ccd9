//! Doors for the fuzz targets of the repository's `fuzz` directory, which see public items only.

use crate::logs::{LogSink, Source};

/// What came out of a sink.
#[derive(Debug, PartialEq, Eq)]
pub struct Collected {
    /// The texts of standard output and of standard error, without time and stream.
    pub texts: [Vec<String>; 2],
    /// Both streams printed their sentinel.
    pub has_ended: bool,
    /// Nothing was cut off.
    pub is_complete: bool,
}

/// What a sink for `limit` bytes makes of pieces of output; `true` is standard error.
#[must_use]
pub fn collect(limit: u64, pieces: &[(bool, &[u8])]) -> Collected {
    let mut sink = LogSink::new(limit);
    let mut rests = [Vec::new(), Vec::new()];
    let source = |is_stderr: bool| if is_stderr { Source::Stderr } else { Source::Stdout };
    for (is_stderr, piece) in pieces {
        let rest = &mut rests[usize::from(*is_stderr)];
        rest.extend_from_slice(piece);
        sink.feed(source(*is_stderr), rest);
    }
    for (is_stderr, rest) in [false, true].into_iter().zip(&mut rests) {
        sink.flush(source(is_stderr), rest);
    }
    let (has_ended, is_complete) = (sink.has_ended(), sink.is_complete());
    let mut texts = [Vec::new(), Vec::new()];
    let mut lines = sink.finish(false);
    if !is_complete {
        // The platform's own remark about it.
        lines.pop();
    }
    for line in lines {
        // The time has 30 characters; a space follows.
        let line = line.get(31..).unwrap_or_default();
        match (line.strip_prefix("stdout: "), line.strip_prefix("stderr: ")) {
            (Some(text), _) => texts[0].push(text.to_owned()),
            (None, Some(text)) => texts[1].push(text.to_owned()),
            (None, None) => unreachable!("a line of neither stream: {line}"),
        }
    }
    Collected { texts, has_ended, is_complete }
}
