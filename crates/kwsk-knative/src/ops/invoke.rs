//! Invoking an action: resolve, merge, allocate an id, run, record. The hot path.

use std::sync::Arc;
use std::time::Duration;

use kwsk_model::action::{Action, Exec};
use kwsk_model::activation::{Activation, ActivationId, ActivationResponse};
use kwsk_model::body::BodyError;
use kwsk_model::json::RawJson;
use kwsk_model::limits::{MAX_BLOCKING_WAIT_MS, MAX_PAYLOAD_BYTES, TooLarge};
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::proxy::RunContext;
use kwsk_translate::error::Invalid;

use super::detach::Detach;
use super::record::{ACTION_GONE, INTERRUPTED, NOT_PROVISIONED, Origin};
use super::resolve::{self, Resolved};
use super::throttle::InFlight;
use super::{Caller, Ops, now_ms, record};
use crate::activations::{Accepted, Progress};
use crate::error::{Error, Result};
use crate::invoke::{Begin, Call};

/// How long a caller waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: 202 as soon as the invocation is journalled.
    No,
    /// At most this long, then 202.
    AtMost(Duration),
}

impl Wait {
    /// The longest wait upstream grants.
    pub const LONGEST: Self = Self::AtMost(Duration::from_millis(MAX_BLOCKING_WAIT_MS));
}

/// What an invocation came to.
#[derive(Debug)]
pub enum Invoked {
    /// It ended in time.
    Ended(Arc<Activation>),
    /// It is journalled and will end in a record.
    Accepted(ActivationId),
}

/// A fresh activation id.
///
/// # Errors
/// When the system has no randomness.
pub fn new_id() -> Result<ActivationId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::store("random source", "read", error))?;
    Ok(ActivationId::from_bytes(bytes))
}

/// Reads the payload of an invocation or a fire: a JSON object, or nothing.
///
/// # Errors
/// [`Error::TooLarge`] above 1 MB, [`Error::Body`] for anything but an object.
pub fn payload(body: &[u8]) -> Result<RawJson> {
    TooLarge::check("Request", body.len() as u64, MAX_PAYLOAD_BYTES)?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(RawJson::empty_object());
    }
    let json: RawJson = serde_json::from_slice(body).map_err(BodyError::malformed)?;
    if json.is_object() { Ok(json) } else { Err(BodyError::malformed("Object expected").into()) }
}

/// Everything one run needs, resolved and checked.
struct Planned {
    caller: Caller,
    resolved: Resolved,
    arguments: RawJson,
    id: ActivationId,
    arrived_ms: u64,
    /// Given back when the run has ended.
    _in_flight: InFlight,
}

/// Invokes an action with `body` as payload.
///
/// # Errors
/// Everything that keeps the action from being started; once it was, the outcome is an activation.
pub async fn invoke(
    ops: &Arc<Ops>,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    body: &[u8],
    wait: Wait,
) -> Result<Invoked> {
    let arrived_ms = now_ms();
    let in_flight = ops.throttle.invocation(&caller.identity, &ops.platform.limits, arrived_ms)?;
    let resolved = resolve::action(ops, caller, name).await?;
    let payload = payload(body)?;
    let action = &resolved.action.entity;
    refuse_deprecated(ops, action)?;
    let arguments = resolved.parameters().arguments(&payload, action.is_final())?;
    let planned = Planned {
        caller: caller.clone(),
        id: new_id()?,
        arguments,
        arrived_ms,
        _in_flight: in_flight,
        resolved,
    };
    let accepted = || Accepted {
        activation_id: planned.id.clone(),
        transaction_id: caller.transaction.as_ref().to_owned(),
        namespace: caller.namespace().clone(),
        subject: caller.identity.subject.clone(),
        auth_uuid: caller.identity.key.uuid().to_owned(),
        action: name.clone(),
        payload: payload.clone(),
        accepted_at: arrived_ms,
    };
    match wait {
        Wait::No => {
            ops.activations.accept(&accepted()).await?;
            let id = planned.id.clone();
            let ops = Arc::clone(ops);
            let tasks = ops.tasks.clone();
            tasks.spawn(async move { run_accepted(&ops, planned).await });
            Ok(Invoked::Accepted(id))
        }
        Wait::AtMost(longest) => {
            let accepted = accepted();
            blocking(ops, planned, accepted, longest).await
        }
    }
}

/// Deprecated kinds may be read and deleted only.
fn refuse_deprecated(ops: &Ops, action: &Action) -> Result<()> {
    let kind = action.exec.kind();
    match ops.platform.manifest.get(kind) {
        Some(runtime) if runtime.deprecated => Err(Invalid::Deprecated { kind: kind.to_owned() }.into()),
        _ => Ok(()),
    }
}

/// Waits for the end; a wait that expires journals the run as begun before it answers 202.
async fn blocking(
    ops: &Arc<Ops>,
    planned: Planned,
    accepted: Accepted,
    longest: Duration,
) -> Result<Invoked> {
    let run = {
        let ops = Arc::clone(ops);
        async move {
            let ended = run(&ops, &planned, None).await;
            (planned, ended)
        }
    };
    let mut run = Detach::new(&ops.tasks, run);
    match tokio::time::timeout(longest, &mut run).await {
        Ok((_, ended)) => ended.map(Invoked::Ended),
        Err(_) => {
            ops.activations.accept(&accepted).await?;
            ops.activations.begin(&accepted.activation_id).await?;
            // It may still queue for an instance and never get one.
            let background = Arc::clone(ops);
            ops.tasks.spawn(async move {
                if let (planned, Err(error)) = run.await {
                    not_run(&background, &planned, &error).await;
                }
            });
            Ok(Invoked::Accepted(accepted.activation_id))
        }
    }
}

/// Runs and records. Fails only when the run did not begin.
async fn run(ops: &Arc<Ops>, planned: &Planned, begin: Option<Begin>) -> Result<Arc<Activation>> {
    let Planned { caller, resolved, arguments, id, arrived_ms, .. } = planned;
    let action = &resolved.action.entity;
    if let Exec::Sequence { .. } = action.exec {
        return Err(Error::Unavailable("Sequences cannot be invoked yet."));
    }
    let call = Call {
        service: Arc::clone(&resolved.action.document),
        context: context(caller, resolved, id),
        arguments: arguments.clone(),
        begin,
    };
    let report = ops.invoker.invoke(call).await?;
    let activation = Arc::new(record::of_run(&origin(caller, id, *arrived_ms), resolved, report));
    keep(ops, caller, &activation).await?;
    Ok(activation)
}

fn origin<'a>(caller: &'a Caller, id: &'a ActivationId, arrived_ms: u64) -> Origin<'a> {
    let identity = &caller.identity;
    Origin { namespace: &identity.namespace, subject: &identity.subject, id, arrived_ms, cause: None }
}

/// What the runtime exports; the shim fills in the deadline when the run starts.
pub(crate) fn context(caller: &Caller, resolved: &Resolved, id: &ActivationId) -> RunContext {
    let action = &resolved.action.entity;
    RunContext {
        namespace: caller.namespace().to_string(),
        action_name: action.fqn().with_slash(),
        action_version: action.version.to_string(),
        activation_id: id.to_string(),
        transaction_id: caller.transaction.as_ref().to_owned(),
        deadline: String::new(),
        api_key: action.provides_api_key().then(|| caller.identity.key.reveal()),
    }
}

/// Hands the record over, unless the namespace wants none.
async fn keep(ops: &Ops, caller: &Caller, activation: &Arc<Activation>) -> Result<()> {
    if caller.identity.limits.store_activations == Some(false) {
        ops.activations.forget(&activation.activation_id).await
    } else {
        ops.activations.record(Arc::clone(activation)).await
    }
}

/// The background half of a 202. What did not begin because of a shutdown stays in the journal.
async fn run_accepted(ops: &Arc<Ops>, planned: Planned) {
    let id = planned.id.clone();
    let begin: Begin = {
        let (ops, id) = (Arc::clone(ops), id.clone());
        Box::new(move || {
            Box::pin(async move {
                if ops.shutdown.is_cancelled() {
                    return Err(Error::Unavailable("The platform is shutting down."));
                }
                ops.activations.begin(&id).await
            })
        })
    };
    let Err(error) = run(ops, &planned, Some(begin)).await else {
        return;
    };
    not_run(ops, &planned, &error).await;
}

/// Records an accepted invocation that could not begin; at a shutdown, the next process does.
async fn not_run(ops: &Arc<Ops>, planned: &Planned, error: &Error) {
    if ops.shutdown.is_cancelled() {
        return;
    }
    let id = &planned.id;
    tracing::warn!(activation = %id, %error, "an accepted invocation could not be run");
    let Planned { caller, resolved, arrived_ms, .. } = planned;
    let response = ActivationResponse::whisk_error(NOT_PROVISIONED);
    let failed = record::of_failure(&origin(caller, id, *arrived_ms), resolved, now_ms(), response);
    if let Err(error) = keep(ops, caller, &Arc::new(failed)).await {
        tracing::error!(activation = %id, %error, "the record of a failed invocation could not be kept");
    }
}

/// After a restart: runs what was accepted and had not begun, and closes what had begun with a record that says so.
///
/// # Errors
/// When the journal cannot be read.
pub async fn resume(ops: &Arc<Ops>) -> Result<usize> {
    let unfinished = ops.activations.unfinished().await?;
    let count = unfinished.len();
    for (accepted, progress) in unfinished {
        let ops = Arc::clone(ops);
        let tasks = ops.tasks.clone();
        tasks.spawn(async move {
            let id = accepted.activation_id.clone();
            if let Err(error) = resume_one(&ops, accepted, progress).await {
                tracing::error!(activation = %id, %error, "an accepted invocation could not be resumed");
            }
        });
    }
    Ok(count)
}

async fn resume_one(ops: &Arc<Ops>, accepted: Accepted, progress: Progress) -> Result<()> {
    let Accepted { activation_id: id, namespace, subject, action: name, payload, accepted_at, .. } =
        &accepted;
    let origin = Origin { namespace, subject, id, arrived_ms: *accepted_at, cause: None };
    let missing = |response| record::of_missing(&origin, name, now_ms(), response);
    let Some(identity) = ops.auth.owner_of(namespace).await? else {
        let gone = missing(ActivationResponse::application_error(ACTION_GONE));
        return ops.activations.record_durably(Arc::new(gone)).await;
    };
    let caller = Caller { identity, transaction: accepted.transaction_id.as_str().into() };
    let resolved = resolve::action(ops, &caller, name).await;
    let closed = match (progress, resolved) {
        (Progress::Waiting, Ok(resolved)) => {
            let locked = resolved.action.entity.is_final();
            match resolved.parameters().arguments(payload, locked) {
                Ok(arguments) => {
                    let planned = Planned {
                        _in_flight: ops.throttle.resumed(namespace, 1),
                        caller,
                        arguments,
                        id: id.clone(),
                        arrived_ms: *accepted_at,
                        resolved,
                    };
                    run_accepted(ops, planned).await;
                    return Ok(());
                }
                Err(error) => missing(ActivationResponse::application_error(error.to_string())),
            }
        }
        (Progress::Waiting, Err(error)) if error.fault() == kwsk_model::fault::Fault::Unavailable => {
            return Err(error);
        }
        (Progress::Waiting, Err(_)) => missing(ActivationResponse::application_error(ACTION_GONE)),
        (Progress::Begun, Ok(resolved)) => {
            record::of_failure(&origin, &resolved, now_ms(), ActivationResponse::whisk_error(INTERRUPTED))
        }
        (Progress::Begun, Err(_)) => missing(ActivationResponse::whisk_error(INTERRUPTED)),
    };
    ops.activations.record_durably(Arc::new(closed)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        for (body, good) in [
            ("", true),
            (" \n", true),
            ("{}", true),
            (r#" {"a":[1]} "#, true),
            ("[1]", false),
            ("1", false),
            ("null", false),
            ("{", false),
            ("{}x", false),
            (r#"{"a":1e999999}"#, true),
        ] {
            assert_eq!(payload(body.as_bytes()).is_ok(), good, "{body}");
        }
        assert!(payload(b"{\"a\":\"\xff\"}").is_err());
        let large = format!("\"{}\"", "a".repeat(1_048_575));
        assert_eq!(
            payload(large.as_bytes()).unwrap_err().to_string(),
            "Request larger than allowed: 1048577 > 1048576 bytes."
        );
    }
}
