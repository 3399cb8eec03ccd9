//! Several runs at a time in one of our launchers: an owned task routes answers and output by tag.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::logs::{LogSink, Source};
use crate::process::Process;
use crate::protocol::actionloop::Lines;
use crate::protocol::{Answer, Frame, request_line};
use crate::spec::Run;

/// The way in: one per process.
#[derive(Debug)]
pub(crate) struct Multiplexer {
    requests: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    runs: Vec<Pending>,
    closed: bool,
}

#[derive(Debug)]
struct Pending {
    tag: u64,
    sink: LogSink,
    /// Output not yet ended by a newline, per stream.
    partial: [Vec<u8>; 2],
    reply: oneshot::Sender<Answer>,
    /// Taken with the answer, so that the sink and the answer leave together.
    done: Arc<Mutex<Option<LogSink>>>,
}

impl Multiplexer {
    /// Also returns the task that has to be run for it; it ends with the process.
    pub(crate) fn new(lines: Lines, process: Arc<Process>, limit: u64) -> (Self, impl Future<Output = ()>) {
        let (requests, incoming) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let task = route(lines, process, incoming, Arc::clone(&waiting), limit);
        (Self { requests, waiting, next: AtomicU64::new(1) }, task)
    }

    pub(crate) async fn run(&self, run: &Run, deadline: Instant, sink: &mut LogSink) -> Answer {
        let tag = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let done = Arc::new(Mutex::new(None));
        let own = std::mem::replace(sink, LogSink::new(0));
        {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                *sink = own;
                return Answer::Died;
            }
            let partial = [Vec::new(), Vec::new()];
            waiting.runs.push(Pending { tag, sink: own, partial, reply, done: Arc::clone(&done) });
        }
        // When the task is gone so is the entry, and the reply says it.
        self.requests.send(request_line(run, Some(tag))).ok();
        let answer = match timeout_at(deadline, answer).await {
            Ok(answer) => answer.unwrap_or(Answer::Died),
            Err(_) => {
                lock(&self.waiting).finish(tag, Answer::TimedOut);
                Answer::TimedOut
            }
        };
        if let Some(own) = lock(&done).take() {
            *sink = own;
        }
        answer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    fn finish(&mut self, tag: u64, answer: Answer) {
        let Some(index) = self.runs.iter().position(|run| run.tag == tag) else { return };
        let mut run = self.runs.swap_remove(index);
        run.sink.flush(Source::Stdout, &mut run.partial[0]);
        run.sink.flush(Source::Stderr, &mut run.partial[1]);
        *lock(&run.done) = Some(run.sink);
        // The caller may have given up in this very moment.
        run.reply.send(answer).ok();
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Answer { tag: Some(tag), answer } => self.finish(tag, answer),
            Frame::Answer { tag: None, .. } => {}
            Frame::Log { tag, stderr, text } => {
                let source = if stderr { Source::Stderr } else { Source::Stdout };
                if let Some(run) = self.runs.iter_mut().find(|run| run.tag == tag) {
                    let partial = &mut run.partial[usize::from(stderr)];
                    partial.extend_from_slice(text.as_bytes());
                    run.sink.feed(source, partial);
                }
            }
        }
    }

    fn close(&mut self) {
        self.closed = true;
        while let Some(tag) = self.runs.first().map(|run| run.tag) {
            self.finish(tag, Answer::Died);
        }
    }
}

/// Output that did not go through the launcher (grandchildren, native code) cannot be told apart: it is dropped.
async fn route(
    mut lines: Lines,
    process: Arc<Process>,
    mut incoming: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
    limit: u64,
) {
    let mut nowhere = LogSink::new(0);
    let mut outgoing: Vec<u8> = Vec::new();
    let mut written = 0;
    loop {
        while let Some(line) = lines.answers.line() {
            if let Some(frame) = Frame::parse(&line, limit) {
                lock(&waiting).frame(frame);
            }
        }
        tokio::select! {
            biased;
            result = lines.requests.write(&outgoing[written..]), if written < outgoing.len() => {
                written = result.map_or(outgoing.len(), |n| written + n);
            }
            more = lines.answers.fill() => if !more { break },
            () = lines.stdout.fill() => lines.stdout.emit(&mut nowhere),
            () = lines.stderr.fill() => lines.stderr.emit(&mut nowhere),
            request = incoming.recv(), if written == outgoing.len() => match request {
                Some(line) => (outgoing, written) = (line, 0),
                // Nobody can ask any more: the instance is gone.
                None => break,
            },
            () = process.exited() => {
                while lines.answers.fill_now() {}
                while let Some(frame) = lines.answers.line().and_then(|l| Frame::parse(&l, limit)) {
                    lock(&waiting).frame(frame);
                }
                break;
            }
        }
    }
    lock(&waiting).close();
}
