//! A shim on a socket: `POST /` in, one answer out.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kwsk_model::activation::{ActivationId, Outcome};
use kwsk_model::json::RawJson;
use kwsk_model::limits::MAX_BODY_BYTES;
use kwsk_model::proxy::RunContext;
use kwsk_translate::event::{self, CloudEvent};
use kwsk_translate::rule;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::shim::Shim;
use crate::spec::{Report, Run};

/// A whole [`Report`], for those who ask for it in `Accept`.
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

type Reply = Response<Full<Bytes>>;

/// Serves `shim` until `shutdown`, then lets the requests that are running finish. The shim is not stopped.
///
/// One action is one runtime, so a current-thread tokio runtime is the best place for it: a second thread would only
/// add wake-ups to each request.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, shim: Arc<Shim>, shutdown: CancellationToken) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shim), shutdown.clone()));
                }
                // The client was gone before it was accepted, or descriptors are short for a moment.
                Err(error) if is_transient(&error) => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            },
            Some(_) = connections.join_next() => {}
            () = shutdown.cancelled() => break,
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(23 | 24))
}

async fn connection(stream: TcpStream, shim: Arc<Shim>, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone at once");
        return;
    }
    let service = service_fn(move |request| {
        let shim = Arc::clone(&shim);
        async move { Ok::<_, Infallible>(handle(&shim, request).await) }
    });
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
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

async fn handle(shim: &Shim, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let is_event = event::is_event(texts(&head.headers));
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/kwsk/ready") => return reply(StatusCode::OK, "{\"ok\":true}".into()),
        (&Method::POST, "/") => {}
        (&Method::POST, _) if is_event => {}
        _ => return refusal(StatusCode::NOT_FOUND, "The requested resource does not exist."),
    }
    let limit = usize::try_from(MAX_BODY_BYTES).unwrap_or(usize::MAX);
    let body = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "The request entity is too large.");
        }
        Err(_) => return refusal(StatusCode::BAD_REQUEST, "The request ended early."),
    };
    match prepare(shim, &head, &body, is_event) {
        Ok(run) => {
            let id = run.context.activation_id.clone();
            let report = shim.run(run).await;
            answer(&report, &id, &head.headers)
        }
        Err(text) => refusal(StatusCode::BAD_REQUEST, &text),
    }
}

fn prepare(shim: &Shim, head: &Parts, body: &[u8], is_event: bool) -> Result<Run, String> {
    let (spec, headers) = (shim.spec(), &head.headers);
    let (payload, event) = if is_event {
        let event = CloudEvent::from_http(texts(headers), body).map_err(|error| error.to_string())?;
        (event.arguments(), Some(event))
    } else {
        (payload_of(body)?, None)
    };
    let complete = given(headers, header::COMPLETE) == Some("1");
    let arguments = match complete {
        true => payload,
        false => spec.parameters.arguments(&payload, false).map_err(|error| error.to_string())?,
    };
    if let Some(context) = given(headers, header::CONTEXT) {
        let context: RunContext = serde_json::from_str(context)
            .map_err(|_| format!("The header {} is malformed.", header::CONTEXT))?;
        return Ok(Run { context, arguments });
    }
    let mut context = spec.identity.clone();
    // An event that was sent to the action itself is no rule's; the action takes its place.
    let derived = event.and_then(|event| {
        let own = || context.action_name.trim_start_matches('/').parse().ok();
        let target = rule::of_path(head.uri.path()).or_else(own)?;
        Some(ActivationId::of_rule(&event.source, &event.id, &target))
    });
    let id = match (given(headers, header::ACTIVATION_ID), derived) {
        (Some(id), _) => id.parse::<ActivationId>().map_err(|error| error.to_string())?,
        (None, Some(id)) => id,
        (None, None) => random_id().ok_or("The system has no randomness.")?,
    };
    context.transaction_id =
        given(headers, header::TRANSACTION_ID).map_or_else(|| id.to_string(), str::to_owned);
    context.activation_id = id.to_string();
    context.deadline = given(headers, header::DEADLINE)
        .map_or_else(|| (now_ms() + spec.timeout_ms).to_string(), str::to_owned);
    Ok(Run { context, arguments })
}

fn payload_of(body: &[u8]) -> Result<RawJson, String> {
    if body.is_empty() {
        return Ok(RawJson::empty_object());
    }
    let malformed = || "The request content was malformed:\nnot a JSON object or array".to_owned();
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let payload = RawJson::parse(text.to_owned()).map_err(|_| malformed())?;
    if payload.is_object() || payload.is_array() { Ok(payload) } else { Err(malformed()) }
}

/// The headers that are text.
fn texts(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
}

fn given<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
}

fn random_id() -> Option<ActivationId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(ActivationId::from_bytes(bytes))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn answer(report: &Report, id: &str, asked: &HeaderMap) -> Reply {
    let wants_all = asked
        .get(http::header::ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(REPORT_MEDIA_TYPE.as_bytes()));
    let mut answer = if wants_all {
        let mut whole = reply(StatusCode::OK, serde_json::to_vec(report).unwrap_or_default().into());
        whole.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(REPORT_MEDIA_TYPE));
        whole
    } else {
        let status = match report.response.outcome {
            Outcome::Success => StatusCode::OK,
            Outcome::ApplicationError | Outcome::DeveloperError => StatusCode::BAD_GATEWAY,
            Outcome::WhiskError => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let result = report.response.result.as_ref().map_or("{}", |result| result.get());
        reply(status, Bytes::copy_from_slice(result.as_bytes()))
    };
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(header::ACTIVATION, id);
    }
    headers.insert(header::INIT_MS, report.init_ms.unwrap_or(0).into());
    headers.insert(header::RUN_MS, report.run_ms.into());
    headers.insert(header::OUTCOME, u16::from(report.response.outcome.code()).into());
    answer
}

fn refusal(status: StatusCode, message: &str) -> Reply {
    reply(status, json!({ "error": message }).to_string().into())
}

fn reply(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
