//! From reports to answers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use kwsk_model::activation::{ActivationId, Outcome};
use kwsk_model::json::RawJson;
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_translate::event::{self, ActivationNotice, CloudEvent};

use super::request::{Form, Origin};
use super::{REPORT_MEDIA_TYPE, Reply, header, reply};
use crate::logs::timestamp;
use crate::spec::Report;

const ACTIVATION: HeaderName = HeaderName::from_static(header::ACTIVATION);
const INIT_MS: HeaderName = HeaderName::from_static(header::INIT_MS);
const RUN_MS: HeaderName = HeaderName::from_static(header::RUN_MS);
const OUTCOME: HeaderName = HeaderName::from_static(header::OUTCOME);

/// The answer to one run.
pub(super) fn of_run(report: &Report, id: String, form: Form, action: &FullyQualifiedEntityName) -> Reply {
    if !report.ran {
        return not_run(report);
    }
    let mut answer = match form {
        Form::Envelope => typed(whole(report), REPORT_MEDIA_TYPE),
        Form::Result => reply(status(report.response.outcome), result(report)),
        Form::Delivered => reply(StatusCode::OK, result(report)),
        Form::Event(origin) => match notice(report, &id, origin, action) {
            Some(notice) => binary(&event::activation_event(notice)),
            None => reply(StatusCode::OK, result(report)),
        },
    };
    mark(answer.headers_mut(), report, id);
    answer
}

/// Nothing was started: whoever asks again may be luckier. Without the marker it is plain that asking again is safe.
pub(super) fn not_run(report: &Report) -> Reply {
    let mut answer = reply(StatusCode::SERVICE_UNAVAILABLE, result(report));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// The answer to a batch.
pub(super) fn of_batch(events: &[CloudEvent]) -> Reply {
    typed(CloudEvent::to_batch(events).into(), event::BATCH)
}

/// The event of a run; `None` when its id is no activation id.
pub(super) fn event_of(
    report: &Report,
    id: &str,
    origin: Origin,
    action: &FullyQualifiedEntityName,
) -> Option<CloudEvent> {
    notice(report, id, origin, action).map(event::activation_event)
}

fn notice(
    report: &Report,
    id: &str,
    origin: Origin,
    action: &FullyQualifiedEntityName,
) -> Option<ActivationNotice> {
    Some(ActivationNotice {
        id: id.parse::<ActivationId>().ok()?,
        action: action.clone(),
        time: Some(timestamp(Duration::from_millis(report.end_ms))),
        transaction: Some(origin.transaction).filter(|text| !text.is_empty()),
        user: origin.user,
        cause: origin.cause,
        rule: origin.rule,
        report: serde_json::to_string(report).and_then(RawJson::parse).ok()?,
    })
}

fn whole(report: &Report) -> Bytes {
    serde_json::to_vec(report).unwrap_or_default().into()
}

/// The result, not copied.
fn result(report: &Report) -> Bytes {
    struct Text(RawJson);
    impl AsRef<[u8]> for Text {
        fn as_ref(&self) -> &[u8] {
            self.0.get().as_bytes()
        }
    }
    match &report.response.result {
        Some(result) => Bytes::from_owner(Text(result.clone())),
        None => Bytes::from_static(b"{}"),
    }
}

fn status(outcome: Outcome) -> StatusCode {
    match outcome {
        Outcome::Success => StatusCode::OK,
        Outcome::ApplicationError | Outcome::DeveloperError => StatusCode::BAD_GATEWAY,
        Outcome::WhiskError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn typed(body: Bytes, media_type: &'static str) -> Reply {
    let mut answer = reply(StatusCode::OK, body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

fn binary(event: &CloudEvent) -> Reply {
    let (headers, body) = event.to_binary();
    let mut answer = reply(StatusCode::OK, body.into());
    for (name, value) in headers {
        // Names and values are ours: letters, and what percent-encoding leaves.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// What says that the action ran, and how long.
fn mark(headers: &mut HeaderMap, report: &Report, id: String) {
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(ACTIVATION, id);
    }
    headers.insert(INIT_MS, number(report.init_ms.unwrap_or(0)));
    headers.insert(RUN_MS, number(report.run_ms));
    headers.insert(OUTCOME, number(report.response.outcome.code().into()));
}

/// Most numbers are one digit.
fn number(number: u64) -> HeaderValue {
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let digit = usize::try_from(number).ok().and_then(|number| DIGITS.get(number).copied());
    digit.map_or_else(|| number.into(), HeaderValue::from_static)
}
