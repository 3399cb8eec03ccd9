//! `PUT actions/…`.

use kwsk_model::action::{Action, ActionPut, Exec};
use kwsk_model::limits::{LimitBounds, Limits, LimitsPut, MAX_EXEC_BYTES, MAX_SEQUENCE_LENGTH, TooLarge};
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::params::{Annotations, Parameter, Parameters};
use serde_json::Value;

use super::{may_write, next_version, sizes};
use crate::error::Invalid;
use crate::platform::Platform;

/// The parameter in which sequences show their components.
const COMPONENTS: &str = "_actions";

/// The action that `put` makes of `existing`. `allowed_kinds` of `None`, or none, allow every kind. Whether the
/// components of a sequence exist is for [`crate::sequence::Check`].
///
/// # Errors
/// [`Invalid`], in this order: sizes (413), limits (400), kind (403), existence (409), everything about `exec` (400).
#[expect(clippy::too_many_arguments, reason = "each is a fact the decision depends on")]
pub fn action(
    platform: &Platform,
    bounds: &LimitBounds,
    name: &FullyQualifiedEntityName,
    existing: Option<&Action>,
    put: ActionPut,
    overwrite: bool,
    now_ms: u64,
    allowed_kinds: Option<&[String]>,
) -> Result<Action, Invalid> {
    check_sizes(&put)?;
    check_limits(bounds, &put.limits)?;
    check_kind(put.exec.as_ref(), allowed_kinds)?;
    may_write(existing, overwrite)?;
    let exec = put.exec.clone().or_else(|| existing.map(|action| action.exec.clone()));
    let exec = exec.ok_or(Invalid::ExecUndefined)?;
    check_deprecated(platform, &exec)?;
    check_sequence(name, &exec)?;
    Ok(Action {
        namespace: name.path.clone(),
        name: name.name.clone(),
        version: next_version(put.version, existing.map(|action| action.version)),
        publish: put.publish.or(existing.map(|action| action.publish)).unwrap_or_default(),
        parameters: parameters(&exec, existing, put.parameters),
        annotations: annotations(
            &exec,
            existing,
            put.annotations.unwrap_or_default(),
            // A sequence in the same PUT makes upstream forget the keys to drop.
            if matches!(put.exec, Some(Exec::Sequence { .. })) { &[] } else { &put.del_annotations },
        ),
        limits: put.limits.over(&existing.map_or_else(|| default_limits(bounds), |action| action.limits)),
        exec,
        updated: now_ms,
    })
}

fn check_sizes(put: &ActionPut) -> Result<(), Invalid> {
    TooLarge::check("exec", put.exec.as_ref().map_or(0, Exec::size), MAX_EXEC_BYTES)?;
    sizes(put.parameters.as_ref(), put.annotations.as_ref())
}

/// Checks what is asked for, and only that: an action may keep limits from before its namespace's were narrowed.
fn check_limits(bounds: &LimitBounds, put: &LimitsPut) -> Result<(), Invalid> {
    let allowed = Limits {
        timeout: bounds.timeout.min,
        memory: bounds.memory.min,
        logs: bounds.logs.min,
        concurrency: bounds.concurrency.min,
        instances: None,
    };
    Ok(bounds.check(&put.over(&allowed))?)
}

/// OpenWhisk's defaults, moved into the bounds of the namespace.
fn default_limits(bounds: &LimitBounds) -> Limits {
    let default = Limits::default();
    let within = |value: u64, bounds: kwsk_model::limits::Bounds| value.min(bounds.max).max(bounds.min);
    Limits {
        timeout: within(default.timeout, bounds.timeout),
        memory: within(default.memory, bounds.memory),
        logs: within(default.logs, bounds.logs),
        concurrency: within(default.concurrency, bounds.concurrency),
        instances: None,
    }
}

fn check_kind(exec: Option<&Exec>, allowed: Option<&[String]>) -> Result<(), Invalid> {
    let (Some(exec), Some(allowed)) = (exec, allowed) else {
        return Ok(());
    };
    if allowed.is_empty() || allowed.iter().any(|kind| kind == exec.kind()) {
        return Ok(());
    }
    Err(Invalid::KindNotAllowed { kind: exec.kind().to_owned() })
}

fn check_deprecated(platform: &Platform, exec: &Exec) -> Result<(), Invalid> {
    match exec {
        Exec::Code { kind, .. } if platform.manifest.get(kind).is_some_and(|k| k.deprecated) => {
            Err(Invalid::Deprecated { kind: kind.clone() })
        }
        Exec::Code { .. } | Exec::Blackbox { .. } | Exec::Sequence { .. } => Ok(()),
    }
}

fn check_sequence(name: &FullyQualifiedEntityName, exec: &Exec) -> Result<(), Invalid> {
    let Exec::Sequence { components } = exec else {
        return Ok(());
    };
    if components.is_empty() {
        Err(Invalid::SequenceEmpty)
    } else if components.len() > MAX_SEQUENCE_LENGTH as usize {
        Err(Invalid::SequenceTooLong)
    } else if components.contains(name) {
        Err(Invalid::SequenceCycle)
    } else {
        Ok(())
    }
}

/// A sequence shows its components and takes nothing from the client; what was one starts without.
fn parameters(exec: &Exec, existing: Option<&Action>, given: Option<Parameters>) -> Parameters {
    if let Exec::Sequence { components } = exec {
        let names = components.iter().map(|name| Value::from(name.with_slash())).collect();
        let parameter = Parameter { key: COMPONENTS.to_owned(), value: names, init: false, encryption: None };
        return [parameter].into_iter().collect();
    }
    let kept = existing.filter(|action| !matches!(action.exec, Exec::Sequence { .. }));
    given.or_else(|| kept.map(|action| action.parameters.clone())).unwrap_or_default()
}

fn annotations(
    exec: &Exec,
    existing: Option<&Action>,
    given: Annotations,
    deleted: &[String],
) -> Annotations {
    let mut all = match existing {
        Some(action) => action.annotations.updated(&given, deleted),
        None => given,
    };
    if existing.is_none() && all.get("provide-api-key").is_none() {
        all.set("provide-api-key", false);
    }
    all.set("exec", exec.kind());
    all
}
