//! Upstream's docker skeleton without its container: the program is run once per activation, gets the arguments as
//! JSON in `argv[1]` and on stdin, and prints its result as the last line of stdout.

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep_until};

use crate::launchpad::Launched;
use crate::logs::{LogSink, Source};
use crate::protocol::Answer;
use crate::stream::{Line, LineReader, Stream};

/// The kernel's bound on one argument (`MAX_ARG_STRLEN`, with its terminator). Longer ones are on stdin alone.
const ARGUMENT_MAX: usize = 128 * 1024 - 1;

/// What goes into `argv[1]`.
pub(crate) fn argument(arguments: &str) -> Option<String> {
    (arguments.len() <= ARGUMENT_MAX).then(|| arguments.to_owned())
}

/// Waits for the end of one run and picks its result.
pub(crate) async fn finish(
    launched: Launched,
    arguments: &str,
    limit: u64,
    deadline: Instant,
    sink: &mut LogSink,
) -> Answer {
    let Launched { process, pipes, .. } = launched;
    let mut stdout = LineReader::new(pipes.stdout, limit);
    let mut stderr = Stream::new(Source::Stderr, pipes.stderr);
    let mut stdin = Some(pipes.requests);
    let mut left = arguments.as_bytes();
    let mut last = None;
    let timer = sleep_until(deadline);
    let exited = process.exited();
    tokio::pin!(timer, exited);
    let mut open = true;
    let timed_out = loop {
        take(&mut stdout, &mut last, sink);
        if left.is_empty() {
            stdin = None;
        }
        tokio::select! {
            biased;
            written = write(&mut stdin, left), if stdin.is_some() => match written {
                Ok(n) => left = left.get(n..).unwrap_or_default(),
                Err(_) => left = &[],
            },
            more = stdout.fill(), if open => open = more,
            () = stderr.fill() => stderr.emit(sink),
            () = &mut exited => break false,
            () = &mut timer => break true,
        }
    };
    while stdout.fill_now() {
        take(&mut stdout, &mut last, sink);
    }
    if let Some(rest) = stdout.rest() {
        replace(&mut last, rest, sink);
    }
    stderr.drain(sink);
    if timed_out {
        process.kill();
        log(last, sink, Source::Stdout);
        return Answer::TimedOut;
    }
    result(last, limit, sink)
}

async fn write(stdin: &mut Option<tokio::net::unix::pipe::Sender>, bytes: &[u8]) -> std::io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        None => Ok(0),
    }
}

fn take(stdout: &mut LineReader, last: &mut Option<Line>, sink: &mut LogSink) {
    while let Some(line) = stdout.line() {
        replace(last, line, sink);
    }
}

/// A line is the result until another that is not blank comes after it.
fn replace(last: &mut Option<Line>, line: Line, sink: &mut LogSink) {
    if !line.head.trim_ascii().is_empty() {
        log(last.replace(line), sink, Source::Stdout);
    } else if last.is_none() {
        sink.line(Source::Stdout, &line.head);
    }
}

fn log(line: Option<Line>, sink: &mut LogSink, source: Source) {
    if let Some(line) = line {
        sink.line(source, &line.head);
    }
}

fn result(last: Option<Line>, limit: u64, sink: &mut LogSink) -> Answer {
    if let Some(line) = &last {
        let bracketed = matches!(line.head.trim_ascii_start().first(), Some(b'{' | b'['));
        let checked =
            line.length > limit || serde_json::from_slice::<serde::de::IgnoredAny>(&line.head).is_ok();
        if bracketed && checked {
            return Answer::of_line(200, &line.head, line.length, limit);
        }
    }
    log(last, sink, Source::Stderr);
    Answer::error(502, "The action did not return a dictionary.")
}
