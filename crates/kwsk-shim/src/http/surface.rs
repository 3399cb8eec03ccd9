//! Who is answered how.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_translate::event::Mode;

use super::metrics::{self, Caller, Metrics};
use super::request::{Reader, given};
use super::{Bounds, Refusal, Reply, answer, batch, body, reply};
use crate::shim::Shim;
use crate::spec::{Report, Run};

const READY: &str = "/kwsk/ready";
const METRICS: &str = "/kwsk/metrics";
/// Paths that begin with this are for kwsk's own use.
const RESERVED: &str = "/kwsk/";

/// What the requests of one server share.
#[derive(Debug)]
pub(super) struct Surface {
    shim: Arc<Shim>,
    action: FullyQualifiedEntityName,
    metrics: Metrics,
    bounds: Bounds,
}

/// What a request is for.
enum Task {
    Ready,
    Metrics,
    Plain,
    Events(Mode),
}

/// A request that cannot be anything.
enum Wrong {
    Path(String),
    Method(&'static str),
}

impl Surface {
    pub(super) fn new(shim: Arc<Shim>, bounds: Bounds) -> io::Result<Self> {
        let name = &shim.spec().identity.action_name;
        let action = name.parse().map_err(|error| {
            let text =
                format!("'{name}' is not the full name of an action, /namespace/[package/]name: {error}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        Ok(Self { shim, action, metrics: Metrics::new(), bounds })
    }

    pub(super) fn shim(&self) -> &Shim {
        &self.shim
    }

    pub(super) fn action(&self) -> &FullyQualifiedEntityName {
        &self.action
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// One run, counted.
    pub(super) async fn run(&self, run: Run, caller: Caller) -> Report {
        let _in_flight = self.metrics.begin();
        let report = self.shim.run(run).await;
        self.metrics.count(caller, &report);
        report
    }

    pub(super) async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Reply {
        let (head, mut body) = request.into_parts();
        match task(&head) {
            Ok(Task::Plain) => self.answer_run(&head, body, None).await,
            Ok(Task::Events(mode)) => self.answer_run(&head, body, Some(mode)).await,
            Ok(Task::Ready) => self.finish(self.readiness(), &head, &mut body).await,
            Ok(Task::Metrics) => {
                let mut answer = reply(StatusCode::OK, self.metrics.text().into());
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::MEDIA_TYPE));
                self.finish(answer, &head, &mut body).await
            }
            Err(wrong) => self.finish(wrong.reply(&head), &head, &mut body).await,
        }
    }

    fn readiness(&self) -> Reply {
        if self.shim.is_ready() {
            return reply(StatusCode::OK, Bytes::from_static(br#"{"ok":true}"#));
        }
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "The action's runtime is not ready.").reply()
    }

    async fn answer_run(self: &Arc<Self>, head: &Parts, mut body: Incoming, mode: Option<Mode>) -> Reply {
        let refused = match body::read(&mut body, &self.bounds).await {
            Ok(bytes) => match self.run_body(head, bytes, mode).await {
                Ok(answer) => return answer,
                Err(refusal) => refusal,
            },
            Err(unread) => unread.refusal(&self.bounds),
        };
        if mode.is_some() {
            self.metrics.refuse_event();
        }
        let late = refused.status == StatusCode::REQUEST_TIMEOUT;
        match late {
            true => closing(refused.reply()),
            false => self.finish(refused.reply(), head, &mut body).await,
        }
    }

    async fn run_body(
        self: &Arc<Self>,
        head: &Parts,
        body: Bytes,
        mode: Option<Mode>,
    ) -> Result<Reply, Refusal> {
        let reader = Reader { spec: self.shim.spec(), action: &self.action, head };
        let asked = match mode {
            None => reader.plain(&body)?,
            Some(Mode::Binary | Mode::Structured) => reader.event(&body)?,
            Some(Mode::Batch) => return Ok(batch::answer(self, reader.batch(&body)?).await),
        };
        drop(body);
        let id = asked.run.context.activation_id.clone();
        let report = self.run(asked.run, asked.caller).await;
        Ok(answer::of_run(&report, id, asked.form, &self.action))
    }

    /// The answer to a request whose body nobody wants.
    async fn finish(&self, answer: Reply, head: &Parts, body: &mut Incoming) -> Reply {
        // Whoever waits to be asked for the body is not asked.
        let waits = head.headers.contains_key(EXPECT) && !body.is_end_stream();
        if !waits && body::discard(body, &self.bounds).await { answer } else { closing(answer) }
    }
}

impl Wrong {
    fn reply(&self, head: &Parts) -> Reply {
        match self {
            Self::Path(message) => Refusal::new(StatusCode::NOT_FOUND, message.as_str()).reply(),
            Self::Method(allowed) => {
                let text = format!("{} is not allowed here, only {allowed}.", head.method);
                let mut answer = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).reply();
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                answer
            }
        }
    }
}

fn task(head: &Parts) -> Result<Task, Wrong> {
    let (path, asks) = (head.uri.path(), matches!(head.method, Method::GET | Method::HEAD));
    match path {
        READY | METRICS if !asks => return Err(Wrong::Method("GET, HEAD")),
        READY => return Ok(Task::Ready),
        METRICS => return Ok(Task::Metrics),
        _ => {}
    }
    let reserved = path.starts_with(RESERVED);
    if head.method != Method::POST {
        let message = || Wrong::Path(format!("There is nothing at {path}."));
        return Err(if reserved { message() } else { Wrong::Method("POST") });
    }
    let has_version = head.headers.contains_key("ce-specversion");
    match Mode::of(given(&head.headers, &CONTENT_TYPE), has_version) {
        Some(mode) => Ok(Task::Events(mode)),
        None if reserved => {
            Err(Wrong::Path(format!("{path} takes CloudEvents only; anything else is to be posted to /.")))
        }
        None => Ok(Task::Plain),
    }
}

fn closing(mut answer: Reply) -> Reply {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
