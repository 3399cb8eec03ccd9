//! A shim on a socket: requests and events in, one answer out.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kwsk_model::limits::MAX_BODY_BYTES;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::surface::Surface;
use crate::shim::Shim;

mod answer;
mod batch;
mod body;
mod metrics;
mod request;
mod surface;

/// A whole [`Report`](crate::Report), for those who ask for it in `Accept`.
pub const REPORT_MEDIA_TYPE: &str = "application/vnd.kwsk.activation+json";

/// The headers between kwsk and its shims.
pub mod header {
    /// Activation id, in requests.
    pub const ACTIVATION_ID: &str = "x-kwsk-activation-id";
    /// Transaction id, in requests.
    pub const TRANSACTION_ID: &str = "x-request-id";
    /// Epoch milliseconds, in requests.
    pub const DEADLINE: &str = "x-kwsk-deadline";
    /// The whole [`RunContext`](kwsk_model::proxy::RunContext) as JSON, in requests; replaces the three above.
    pub const CONTEXT: &str = "x-kwsk-context";
    /// `1`: the arguments are complete, nothing is merged below them.
    pub const COMPLETE: &str = "x-kwsk-complete";
    /// Activation id, in every answer of a run.
    pub const ACTIVATION: &str = "x-kwsk-activation";
    /// Milliseconds of the init, if this run had to do it.
    pub const INIT_MS: &str = "x-kwsk-init-ms";
    /// Milliseconds of the run.
    pub const RUN_MS: &str = "x-kwsk-run-ms";
    /// Outcome code, 0–3.
    pub const OUTCOME: &str = "x-kwsk-outcome";
}

/// Bytes of a request's line and headers; more is answered with 431.
const HEAD_BYTES: usize = 64 * 1024;

/// How patient a server is, and how much it takes in.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From the end of a request to the end of the next one's head; the connection is closed then. Idle connections are
    /// meant too, and a proxy that keeps them longer than this side loses requests: Go's keeps them for 90 seconds.
    pub head: Duration,
    /// From the end of a request's head to the end of its body; 408 then.
    pub body: Duration,
    /// Bytes of a request's body; 413 beyond.
    pub body_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head: Duration::from_secs(120), body: Duration::from_secs(60), body_bytes: MAX_BODY_BYTES }
    }
}

/// Serves `shim` until `shutdown`, then lets the requests that are running finish. The shim is not stopped.
///
/// One action is one runtime, so a current-thread tokio runtime is the best place for it: a second thread would only
/// add wake-ups to each request.
///
/// # Errors
/// When the listener fails, or when the full name of the action in the specification's identity is none.
pub async fn serve(listener: TcpListener, shim: Arc<Shim>, shutdown: CancellationToken) -> io::Result<()> {
    serve_within(Bounds::default(), listener, shim, shutdown).await
}

/// [`serve`] with other bounds.
///
/// # Errors
/// As [`serve`].
pub async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    shim: Arc<Shim>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let surface = Arc::new(Surface::new(shim, bounds)?);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&surface), shutdown.clone()));
                }
                // The client was gone before it was accepted, or descriptors are short for a moment.
                Err(error) if is_transient(&error) => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            },
            Some(_) = connections.join_next() => {}
            () = shutdown.cancelled() => break,
        }
    }
    // Else the kernel goes on taking connections that nobody will answer.
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(23 | 24))
}

async fn connection(stream: TcpStream, surface: Arc<Surface>, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone at once");
        return;
    }
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(surface.bounds().head).max_header_size(HEAD_BYTES);
    let service = service_fn(move |request| {
        let surface = Arc::clone(&surface);
        async move { Ok::<_, Infallible>(surface.answer(request).await) }
    });
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

type Reply = Response<Full<Bytes>>;

/// Why a request is not answered with a run.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    fn reply(&self) -> Reply {
        reply(self.status, json!({ "error": self.message }).to_string().into())
    }
}

fn reply(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
