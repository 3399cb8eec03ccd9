//! JSON lines: requests on stdin (file descriptor 4 in kwsk's own launchers), answers on file descriptor 3, one run at a time.

use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::Sender;
use tokio::time::Instant;

use crate::alarm::{Alarm, Ring};
use crate::logs::{LogSink, Source};
use crate::process::{Pipes, Process};
use crate::protocol::{Answer, Frame, line_cap};
use crate::stream::{Line, LineReader, Stream};

/// The pipes of one process and what was read from them so far.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) requests: Sender,
    pub(crate) answers: LineReader,
    pub(crate) stdout: Stream,
    pub(crate) stderr: Stream,
    alarm: Alarm,
    limit: u64,
}

/// How an exchange ended.
enum Ended {
    Line(Line),
    Died,
    TimedOut,
}

impl Lines {
    /// `limit` is the most bytes of a result.
    pub(crate) fn new(pipes: Pipes, limit: u64) -> Self {
        Self {
            requests: pipes.requests,
            answers: LineReader::new(pipes.answers, line_cap(limit)),
            stdout: Stream::new(Source::Stdout, pipes.stdout),
            stderr: Stream::new(Source::Stderr, pipes.stderr),
            alarm: Alarm::new(),
            limit,
        }
    }

    /// Sends a line to one of our launchers and waits for its answer frame.
    pub(crate) async fn ask_launcher(
        &mut self,
        process: &Process,
        line: &[u8],
        deadline: Instant,
        sink: &mut LogSink,
    ) -> Answer {
        match self.exchange(process, line, deadline, sink).await {
            Ended::Line(line) => match Frame::parse(&line, self.limit) {
                Some(Frame::Answer { answer, .. }) => answer,
                // Something else wrote to descriptor 3.
                Some(Frame::Log { .. }) | None => Answer::of_line(200, &line.head, line.length, self.limit),
            },
            Ended::Died => Answer::Died,
            Ended::TimedOut => Answer::TimedOut,
        }
    }

    /// Sends a line to anyone's ActionLoop and waits for the line it answers.
    pub(crate) async fn ask_loop(
        &mut self,
        process: &Process,
        line: &[u8],
        deadline: Instant,
        sink: &mut LogSink,
    ) -> Answer {
        match self.exchange(process, line, deadline, sink).await {
            Ended::Line(line) if matches!(line.head.trim_ascii_start().first(), Some(b'{' | b'[')) => {
                Answer::of_line(200, &line.head, line.length, self.limit)
            }
            Ended::Line(_) => Answer::error(502, "The action did not return a dictionary or array."),
            Ended::Died => Answer::Died,
            Ended::TimedOut => Answer::TimedOut,
        }
    }

    /// Waits for the first line of a loop that promised one (`OW_WAIT_FOR_ACK`).
    pub(crate) async fn acknowledged(
        &mut self,
        process: &Process,
        deadline: Instant,
        sink: &mut LogSink,
    ) -> Answer {
        match self.exchange(process, &[], deadline, sink).await {
            Ended::Line(line) => {
                let ok = serde_json::from_slice::<serde_json::Value>(&line.head);
                match ok {
                    Ok(value) if value["ok"] == true => Answer::of_line(200, &line.head, 0, self.limit),
                    _ => Answer::of_line(502, &line.head, 0, self.limit),
                }
            }
            Ended::Died => Answer::Died,
            Ended::TimedOut => Answer::TimedOut,
        }
    }

    /// Everything at once and in the caller's task: a child that is stuck on one pipe still gets the others emptied.
    async fn exchange(
        &mut self,
        process: &Process,
        line: &[u8],
        deadline: Instant,
        sink: &mut LogSink,
    ) -> Ended {
        if !line.is_empty() {
            // Whatever is there already answers nothing.
            self.answers.discard();
        }
        let mut left = line;
        self.alarm.set(deadline);
        let exited = process.exited();
        tokio::pin!(exited);
        let mut watching = false;
        let ended = loop {
            if let Some(line) = self.answers.line() {
                break Ended::Line(line);
            }
            tokio::select! {
                biased;
                written = self.requests.write(left), if !left.is_empty() => match written {
                    Ok(n) => left = left.get(n..).unwrap_or_default(),
                    // It closed its end; what it does next decides.
                    Err(_) => left = &[],
                },
                more = self.answers.fill() => if !more {
                    break self.last_words();
                },
                () = self.stdout.fill(), if watching => self.stdout.emit(sink),
                () = self.stderr.fill(), if watching => self.stderr.emit(sink),
                () = &mut exited => {
                    while self.answers.fill_now() {}
                    break self.last_words();
                }
                ring = self.alarm.ring() => match ring {
                    Ring::Watch => watching = true,
                    Ring::TimeOut => break Ended::TimedOut,
                },
            }
        };
        // Writes to pipes are complete when they return, so everything from before the answer is there.
        self.stdout.drain(sink);
        self.stderr.drain(sink);
        ended
    }

    fn last_words(&mut self) -> Ended {
        self.answers.line().map_or(Ended::Died, Ended::Line)
    }
}
