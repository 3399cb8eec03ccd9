//! From requests to runs.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use kwsk_model::activation::ActivationId;
use kwsk_model::json::RawJson;
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::proxy::RunContext;
use kwsk_translate::event::{self, CloudEvent, NotABatch, NotAnEvent};
use kwsk_translate::rule;

use super::metrics::Caller;
use super::{REPORT_MEDIA_TYPE, Refusal, header};
use crate::spec::{ActionSpec, Run};

const ACTIVATION_ID: HeaderName = HeaderName::from_static(header::ACTIVATION_ID);
const TRANSACTION_ID: HeaderName = HeaderName::from_static(header::TRANSACTION_ID);
const DEADLINE: HeaderName = HeaderName::from_static(header::DEADLINE);
const CONTEXT: HeaderName = HeaderName::from_static(header::CONTEXT);
const COMPLETE: HeaderName = HeaderName::from_static(header::COMPLETE);
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Events of one request.
const BATCH_MOST: usize = 100;

/// A run, who wants it and how it is to be answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) run: Run,
    pub(super) caller: Caller,
    pub(super) form: Form,
}

/// What an answer looks like.
#[derive(Debug)]
pub(super) enum Form {
    /// The whole report.
    Envelope,
    /// The result, with a status that says how it came about.
    Result,
    /// The result, with 200: any other status would have the event sent again.
    Delivered,
    /// The activation as an event.
    Event(Origin),
}

/// What the answer to an event repeats of it.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) transaction: String,
    pub(super) user: Option<String>,
    pub(super) cause: Option<ActivationId>,
    pub(super) rule: Option<FullyQualifiedEntityName>,
}

/// What the runs of a request are made of.
pub(super) struct Reader<'a> {
    pub(super) spec: &'a ActionSpec,
    /// The full name of the action.
    pub(super) action: &'a FullyQualifiedEntityName,
    pub(super) head: &'a Parts,
}

impl Reader<'_> {
    /// A request that is no event.
    pub(super) fn plain(&self, body: &[u8]) -> Result<Asked, Refusal> {
        let headers = &self.head.headers;
        let arguments = self.arguments(payload_of(body)?)?;
        let context = match self.context()? {
            Some(context) => context,
            None => {
                let id = match self.activation_id()? {
                    Some(id) => id,
                    None => random_id().ok_or_else(no_randomness)?,
                };
                let transaction = given(headers, &TRANSACTION_ID).unwrap_or(id.as_str()).to_owned();
                self.own_context(&id, transaction)?
            }
        };
        let form = if wants_envelope(headers) { Form::Envelope } else { Form::Result };
        let through_kwsk = matches!(form, Form::Envelope)
            || headers.contains_key(&CONTEXT)
            || headers.contains_key(&ACTIVATION_ID);
        let caller = if through_kwsk { Caller::Kwsk } else { Caller::Plain };
        Ok(Asked { run: Run { context, arguments }, caller, form })
    }

    /// One event.
    pub(super) fn event(&self, body: &[u8]) -> Result<Asked, Refusal> {
        let headers = &self.head.headers;
        let event = CloudEvent::from_http(texts(headers)?, body).map_err(|error| not_an_event(&error))?;
        let (run, origin) = self.of_event(&event)?;
        let form = match wants_envelope(headers) {
            true => Form::Envelope,
            false if is_listed(headers, &PREFER, "reply") => Form::Event(origin),
            false => Form::Delivered,
        };
        Ok(Asked { run, caller: Caller::Event, form })
    }

    /// Many events, all of them good.
    pub(super) fn batch(&self, body: &[u8]) -> Result<Vec<(Run, Origin)>, Refusal> {
        let headers = &self.head.headers;
        if let Some(name) = [CONTEXT, ACTIVATION_ID].iter().find(|name| headers.contains_key(*name)) {
            return Err(Refusal::bad(format!(
                "A batch cannot have the header {name}: it has many activations."
            )));
        }
        let content_type = given(headers, &CONTENT_TYPE).unwrap_or_default();
        let events =
            CloudEvent::from_batch(content_type, body, BATCH_MOST).map_err(|error| not_a_batch(&error))?;
        let run = |(index, event): (usize, &CloudEvent)| {
            self.of_event(event).map_err(|refusal| Refusal {
                message: format!("event {index} of the batch: {}", refusal.message),
                ..refusal
            })
        };
        events.iter().enumerate().map(run).collect()
    }

    fn of_event(&self, event: &CloudEvent) -> Result<(Run, Origin), Refusal> {
        let arguments = self.arguments(event.arguments())?;
        let rule = rule::of_path(self.head.uri.path());
        let context = match self.context()? {
            Some(context) => context,
            None => {
                let id = match self.activation_id()? {
                    Some(id) => id,
                    // An event that was sent to the action itself is no rule's; the action takes its place.
                    None => {
                        ActivationId::of_rule(&event.source, &event.id, rule.as_ref().unwrap_or(self.action))
                    }
                };
                let transaction = event.extensions.get(event::TRANSACTION).map(String::as_str);
                let transaction = transaction.or_else(|| given(&self.head.headers, &TRANSACTION_ID));
                self.own_context(&id, transaction.unwrap_or(id.as_str()).to_owned())?
            }
        };
        let fired = event.ty == event::TRIGGER_TYPE;
        let origin = Origin {
            transaction: context.transaction_id.clone(),
            user: event.extensions.get(event::USER).cloned(),
            cause: if fired { event.id.parse().ok() } else { None },
            rule,
        };
        Ok((Run { context, arguments }, origin))
    }

    /// The payload over the bound parameters, unless it is complete.
    fn arguments(&self, payload: RawJson) -> Result<RawJson, Refusal> {
        let complete = given(&self.head.headers, &COMPLETE) == Some("1");
        if complete || self.spec.parameters.is_empty() {
            return Ok(payload);
        }
        self.spec.parameters.arguments(&payload, false).map_err(|error| Refusal::bad(error.to_string()))
    }

    /// The context that kwsk sends whole.
    fn context(&self) -> Result<Option<RunContext>, Refusal> {
        let Some(text) = given(&self.head.headers, &CONTEXT) else { return Ok(None) };
        let context = serde_json::from_str(text)
            .map_err(|_| Refusal::bad(format!("The header {CONTEXT} is malformed.")))?;
        Ok(Some(context))
    }

    fn activation_id(&self) -> Result<Option<ActivationId>, Refusal> {
        let Some(text) = given(&self.head.headers, &ACTIVATION_ID) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| Refusal::bad(format!("{error}")))
    }

    /// The context of the specification, for this activation.
    fn own_context(&self, id: &ActivationId, transaction_id: String) -> Result<RunContext, Refusal> {
        let deadline = match given(&self.head.headers, &DEADLINE) {
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.to_owned(),
            Some(_) => {
                return Err(Refusal::bad(format!("The header {DEADLINE} is not a number of milliseconds.")));
            }
            None => now_ms().saturating_add(self.spec.timeout_ms).to_string(),
        };
        let activation_id = id.as_str().to_owned();
        Ok(RunContext { activation_id, transaction_id, deadline, ..self.spec.identity.clone() })
    }
}

fn not_an_event(error: &NotAnEvent) -> Refusal {
    match error {
        NotAnEvent::Format(_) => Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string()),
        NotAnEvent::Missing(_)
        | NotAnEvent::Version(_)
        | NotAnEvent::Repeated(_)
        | NotAnEvent::Malformed(_)
        | NotAnEvent::Batch => Refusal::bad(error.to_string()),
    }
}

fn not_a_batch(error: &NotABatch) -> Refusal {
    match error {
        NotABatch::Format(_) => Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string()),
        NotABatch::TooMany(_) => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        NotABatch::Malformed(_) | NotABatch::Event { .. } => Refusal::bad(error.to_string()),
    }
}

fn no_randomness() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The system has no randomness.")
}

fn payload_of(body: &[u8]) -> Result<RawJson, Refusal> {
    if body.is_empty() {
        return Ok(RawJson::empty_object());
    }
    let malformed = || Refusal::bad("The request content was malformed:\nnot a JSON object or array");
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let payload = RawJson::parse(text.to_owned()).map_err(|_| malformed())?;
    if payload.is_object() || payload.is_array() { Ok(payload) } else { Err(malformed()) }
}

/// The headers that are text; those of attributes have to be.
fn texts(headers: &HeaderMap) -> Result<impl Iterator<Item = (&str, &str)>, Refusal> {
    let text = |value: &http::HeaderValue| value.to_str().is_err();
    if let Some((name, _)) =
        headers.iter().find(|(name, value)| name.as_str().starts_with("ce-") && text(value))
    {
        return Err(Refusal::bad(format!("The header {name} is not ASCII: percent-encode it.")));
    }
    Ok(headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))))
}

/// The text of a header that is there and not empty.
pub(super) fn given<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
}

fn wants_envelope(headers: &HeaderMap) -> bool {
    is_listed(headers, &ACCEPT, REPORT_MEDIA_TYPE)
}

/// True when `item`, with whatever parameters, is in the list that the header is.
fn is_listed(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut items = lists.flat_map(|list| list.split(',')).filter_map(|item| item.split(';').next());
    items.any(|listed| listed.trim().eq_ignore_ascii_case(item))
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
