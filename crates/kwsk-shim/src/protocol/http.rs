//! `/init` and `/run` over HTTP, with one kept connection per run at a time.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::alarm::{Alarm, Ring};
use crate::logs::{LogSink, Source};
use crate::process::{Pipes, Process};
use crate::protocol::Answer;
use crate::stream::Stream;

/// Servers close idle connections after five seconds and more; younger ones are surely alive.
const IDLE_MAX: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(100);
const SENTINEL_WAIT: Duration = Duration::from_secs(2);

/// One HTTP runtime.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    host: HeaderValue,
    limit: u64,
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    driver: Connection<TokioIo<TcpStream>, Full<Bytes>>,
    /// The same socket, past tokio's readiness cache.
    probe: std::net::TcpStream,
    used: Instant,
}

impl Kept {
    /// True when the other end neither closed it nor sent what nobody asked for. Tokio learns of both only when its
    /// driver has its next turn, and until then would take the connection for a good one.
    fn is_quiet(&self) -> bool {
        let peeked = self.probe.peek(&mut [0]);
        peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

/// The streams of a runtime that was spawned.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Stream,
    stderr: Stream,
    alarm: Alarm,
}

impl Output {
    pub(crate) fn new(pipes: Pipes) -> Self {
        let stdout = Stream::new(Source::Stdout, pipes.stdout);
        Self { stdout, stderr: Stream::new(Source::Stderr, pipes.stderr), alarm: Alarm::new() }
    }

    pub(crate) fn drain(&mut self, sink: &mut LogSink) {
        self.stdout.drain(sink);
        self.stderr.drain(sink);
    }

    /// Waits for the runtime to say that the logs are complete, unless that was among what was drained.
    pub(crate) async fn settle(&mut self, sink: &mut LogSink) {
        if sink.has_ended() {
            return;
        }
        let timer = sleep(SENTINEL_WAIT);
        tokio::pin!(timer);
        while !sink.has_ended() {
            tokio::select! {
                biased;
                () = self.stdout.fill() => self.stdout.emit(sink),
                () = self.stderr.fill() => self.stderr.emit(sink),
                () = &mut timer => {
                    sink.mark_incomplete();
                    break;
                }
            }
        }
        self.drain(sink);
    }
}

/// Waits for `call` while the process's output is collected.
pub(crate) async fn attended(
    call: impl Future<Output = Answer>,
    process: Option<&Process>,
    output: Option<&mut Output>,
    deadline: Instant,
    sink: &mut LogSink,
) -> Answer {
    let exited = async {
        match process {
            Some(process) => process.exited().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(call, exited);
    let Some(output) = output else {
        let timer = sleep_until(deadline);
        tokio::pin!(timer);
        return tokio::select! {
            biased;
            answer = &mut call => answer,
            () = &mut exited => Answer::Died,
            () = &mut timer => Answer::TimedOut,
        };
    };
    let mut watching = false;
    output.alarm.set(deadline);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut call => break answer,
            () = output.stdout.fill(), if watching => output.stdout.emit(sink),
            () = output.stderr.fill(), if watching => output.stderr.emit(sink),
            () = &mut exited => break Answer::Died,
            ring = output.alarm.ring() => match ring {
                Ring::Watch => watching = true,
                Ring::TimeOut => break Answer::TimedOut,
            },
        }
    };
    output.drain(sink);
    answer
}

impl Client {
    pub(crate) fn new(address: SocketAddr, limit: u64) -> Self {
        let host =
            HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("localhost"));
        Self { address, host, limit, kept: Mutex::default() }
    }

    /// `POST /init`, again and again while nobody listens yet; `reached` is told when somebody does. The caller brings
    /// the deadline.
    pub(crate) async fn init(&self, body: Bytes, reached: impl FnOnce()) -> Answer {
        let mut reached = Some(reached);
        let mut pause = RETRY_FIRST;
        loop {
            if let Ok(kept) = self.connect().await {
                if let Some(reached) = reached.take() {
                    reached();
                }
                match self.call(kept, "/init", body.clone()).await {
                    // It had closed before anything was sent.
                    Answer::Unsent => {}
                    answer => return answer,
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// `POST /run`, once: it is only repeated when nothing was sent.
    pub(crate) async fn run(&self, body: Bytes) -> Answer {
        if let Some(kept) = self.take() {
            match self.call(kept, "/run", body.clone()).await {
                Answer::Unsent => {}
                answer => return answer,
            }
        }
        match self.connect().await {
            Ok(kept) => self.call(kept, "/run", body).await,
            Err(_) => Answer::Unsent,
        }
    }

    fn take(&self) -> Option<Kept> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|kept| kept.used.elapsed() < IDLE_MAX && !kept.sender.is_closed());
        std::iter::from_fn(|| all.pop()).find(Kept::is_quiet)
    }

    async fn connect(&self) -> std::io::Result<Kept> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let probe = stream.as_fd().try_clone_to_owned()?.into();
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        Ok(Kept { sender, driver, probe, used: Instant::now() })
    }

    /// The connection is driven here, by whoever waits for the answer, instead of by a task of its own.
    async fn call(&self, kept: Kept, path: &'static str, body: Bytes) -> Answer {
        let Ok(request) = http::Request::post(path)
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(body))
        else {
            return Answer::NotStarted;
        };
        let Kept { mut sender, mut driver, probe, .. } = kept;
        let exchange = async {
            if sender.ready().await.is_err() {
                return (sender, Err(Answer::Unsent));
            }
            let answer = match sender.try_send_request(request).await {
                Ok(response) => self.read(response).await.ok_or(Answer::Died),
                // A message that comes back was never written.
                Err(mut error) => Err(match error.take_message() {
                    Some(_) => Answer::Unsent,
                    None => Answer::Died,
                }),
            };
            (sender, answer)
        };
        tokio::pin!(exchange);
        let (sender, answer) = tokio::select! {
            biased;
            answered = &mut exchange => answered,
            _ = &mut driver => {
                // The answer may have arrived together with the end of the connection; as long as there is the latter,
                // nobody says that no more will come.
                drop(driver);
                return match exchange.await.1 {
                    Ok((answer, _)) | Err(answer) => answer,
                };
            }
        };
        match answer {
            Ok((answer, true)) => {
                let kept = Kept { sender, driver, probe, used: Instant::now() };
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                answer
            }
            Ok((answer, false)) | Err(answer) => answer,
        }
    }

    /// Reads the whole body, keeping no more than is shown of it.
    async fn read(&self, response: http::Response<Incoming>) -> Option<(Answer, bool)> {
        let status = response.status().as_u16();
        let closes = response.headers().get(http::header::CONNECTION).is_some_and(|v| v == "close");
        let reusable = !closes && response.version() == http::Version::HTTP_11;
        let cap = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut body = response.into_body();
        let mut head = Vec::new();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.ok()?.into_data() {
                length += data.len() as u64;
                let room = cap.saturating_sub(head.len()).min(data.len());
                head.extend_from_slice(&data[..room]);
            }
        }
        Some((Answer::of_line(status, &head, length, self.limit), reusable))
    }
}
