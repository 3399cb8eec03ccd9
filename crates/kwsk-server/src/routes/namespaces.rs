//! Namespaces and their limits.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use kwsk_model::identity::{NamespaceLimits, SystemLimits};
use kwsk_model::limits::MAX_PARAMETERS_BYTES;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::Refused;
use crate::extract::{Auth, Within};
use crate::respond;

/// `GET /namespaces`: the one namespace of the key.
pub(super) async fn list(Auth(caller): Auth) -> Response {
    respond::ok(&[caller.namespace()])
}

/// `GET …/limits`
pub(super) async fn limits(State(app): State<Arc<App>>, within: Within) -> Result<Response, Refused> {
    within.must_own()?;
    Ok(respond::ok(&document(&app.ops.platform.limits, &within.caller.identity.limits)))
}

/// The limits of a namespace: its own where set, the system's elsewhere.
fn document(system: &SystemLimits, own: &NamespaceLimits) -> Value {
    let bounds = system.bounds_of(own);
    let concurrent = own.concurrent_invocations.unwrap_or(system.concurrent_invocations);
    let mut document = json!({
        "invocationsPerMinute": own.invocations_per_minute.unwrap_or(system.invocations_per_minute),
        "concurrentInvocations": concurrent,
        "firesPerMinute": own.fires_per_minute.unwrap_or(system.fires_per_minute),
        "minActionMemory": bounds.memory.min,
        "maxActionMemory": bounds.memory.max,
        "minActionLogs": bounds.logs.min,
        "maxActionLogs": bounds.logs.max,
        "minActionTimeout": bounds.timeout.min,
        "maxActionTimeout": bounds.timeout.max,
        "minActionConcurrency": bounds.concurrency.min,
        "maxActionConcurrency": bounds.concurrency.max,
        "maxParameterSize": format!("{MAX_PARAMETERS_BYTES} B"),
        "maxActionInstances": concurrent,
    });
    if let Some(kinds) = &own.allowed_kinds {
        document["allowedKinds"] = json!(kinds);
    }
    if let Some(store) = own.store_activations {
        document["storeActivations"] = json!(store);
    }
    document
}

/// `GET …/limits/…`
pub(super) async fn no_inner_limits(within: Within) -> Result<Response, Refused> {
    within.must_own()?;
    Err(Refused::invalid("Inner entity level routes for limits are not yet implemented."))
}
