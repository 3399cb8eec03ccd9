//! From what the shim reported to the record: pure.

use kwsk_model::activation::{Activation, ActivationId, ActivationResponse};
use kwsk_model::params::Annotations;
use kwsk_shim::Report;
use serde_json::json;

use super::resolve::Resolved;

/// What is told to those who ask for an activation that had begun when the process ended.
pub const INTERRUPTED: &str =
    "The activation was interrupted while it ran: the platform restarted and its outcome is unknown.";
/// What is told when no instance could be made.
pub const NOT_PROVISIONED: &str = "Failed to provision resources to run the action.";
/// What is told when the action vanished between acceptance and run.
pub const ACTION_GONE: &str = "Action could not be found or may have been deleted.";

/// Who invoked what, and when it was asked for.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    /// The invoker's namespace.
    pub namespace: &'a kwsk_model::name::Namespace,
    /// The invoker's subject.
    pub subject: &'a str,
    /// The id.
    pub id: &'a ActivationId,
    /// Milliseconds since the epoch when the request arrived.
    pub arrived_ms: u64,
    /// The enclosing sequence.
    pub cause: Option<&'a ActivationId>,
}

fn annotations(resolved: &Resolved, wait_ms: u64) -> Annotations {
    let action = &resolved.action.entity;
    let mut all = Annotations::new();
    all.set("path", action.fqn().to_string());
    all.set("waitTime", wait_ms);
    all.set("kind", action.exec.kind());
    let limits = &action.limits;
    all.set(
        "limits",
        json!({
            "timeout": limits.timeout, "memory": limits.memory,
            "logs": limits.logs, "concurrency": limits.concurrency,
        }),
    );
    if let Some(binding) = resolved.binding_name() {
        all.set("binding", binding);
    }
    all
}

/// The record of a run.
#[must_use]
pub fn of_run(origin: &Origin<'_>, resolved: &Resolved, report: Report) -> Activation {
    let mut annotations = annotations(resolved, report.start_ms.saturating_sub(origin.arrived_ms));
    annotations.set("timeout", report.timed_out);
    if let Some(init_ms) = report.init_ms {
        annotations.set("initTime", init_ms);
    }
    if origin.cause.is_some() {
        annotations.set("causedBy", "sequence");
    }
    Activation {
        start: report.start_ms,
        end: Some(report.end_ms),
        duration: Some(report.duration_ms),
        response: report.response,
        logs: report.logs,
        ..blank(origin, resolved, annotations)
    }
}

/// The record of something that did not run to an end: interrupted, or never provisioned.
#[must_use]
pub fn of_failure(
    origin: &Origin<'_>,
    resolved: &Resolved,
    now_ms: u64,
    response: ActivationResponse,
) -> Activation {
    let annotations = annotations(resolved, now_ms.saturating_sub(origin.arrived_ms));
    Activation {
        start: now_ms,
        end: Some(now_ms),
        duration: Some(0),
        response,
        ..blank(origin, resolved, annotations)
    }
}

fn blank(origin: &Origin<'_>, resolved: &Resolved, annotations: Annotations) -> Activation {
    let action = &resolved.action.entity;
    Activation {
        namespace: origin.namespace.clone(),
        name: action.name.clone(),
        version: action.version,
        subject: origin.subject.to_owned(),
        activation_id: origin.id.clone(),
        start: origin.arrived_ms,
        end: None,
        duration: None,
        cause: origin.cause.cloned(),
        response: ActivationResponse::whisk_error(INTERRUPTED),
        logs: Vec::new(),
        annotations,
        publish: false,
    }
}

/// The record of an accepted invocation whose action no longer exists, so that nothing is known but its name.
#[must_use]
pub fn of_missing(
    origin: &Origin<'_>,
    name: &kwsk_model::name::FullyQualifiedEntityName,
    now_ms: u64,
    response: ActivationResponse,
) -> Activation {
    Activation {
        namespace: origin.namespace.clone(),
        name: name.name.clone(),
        version: kwsk_model::version::SemVer::default(),
        subject: origin.subject.to_owned(),
        activation_id: origin.id.clone(),
        start: now_ms,
        end: Some(now_ms),
        duration: Some(0),
        cause: origin.cause.cloned(),
        response,
        logs: Vec::new(),
        annotations: [("path", name.to_string())].into_iter().collect(),
        publish: false,
    }
}
