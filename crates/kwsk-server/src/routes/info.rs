//! What the platform says about itself, to everybody.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use kwsk_model::limits::{MAX_SEQUENCE_LENGTH, MB};
use kwsk_translate::platform::Platform;
use serde_json::{Value, json};

use crate::app::App;
use crate::respond;

/// `GET /`
pub(super) async fn system(State(app): State<Arc<App>>) -> Response {
    respond::json_text(StatusCode::OK, app.about.clone())
}

/// The document of `GET /`, made once: nothing in it changes while the server runs.
pub(crate) fn about(platform: &Platform) -> Bytes {
    let limits = &platform.limits;
    let (time, memory, logs) = (limits.action.timeout, limits.action.memory, limits.action.logs);
    let document = json!({
        "support": {
            "github": "https://github.com/apache/openwhisk/issues",
            "slack": "http://slack.openwhisk.org",
        },
        "description": "OpenWhisk",
        "api_paths": ["/api/v1"],
        "runtimes": platform.manifest.info(),
        "limits": {
            "actions_per_minute": limits.invocations_per_minute,
            "triggers_per_minute": limits.fires_per_minute,
            "concurrent_actions": limits.concurrent_invocations,
            "sequence_length": MAX_SEQUENCE_LENGTH,
            "default_min_action_duration": time.min,
            "default_max_action_duration": time.max,
            "default_min_action_memory": memory.min * MB,
            "default_max_action_memory": memory.max * MB,
            "default_min_action_logs": logs.min * MB,
            "default_max_action_logs": logs.max * MB,
            "min_action_duration": time.min,
            "max_action_duration": time.max,
            "min_action_memory": memory.min * MB,
            "max_action_memory": memory.max * MB,
            "min_action_logs": logs.min * MB,
            "max_action_logs": logs.max * MB,
        },
    });
    Bytes::from(document.to_string())
}

/// `GET /api/v1`
pub(super) async fn api() -> Response {
    respond::ok(&json!({
        "description": "OpenWhisk API",
        "api_version": "1.0.0",
        "api_version_path": "v1",
        "build": concat!("kwsk ", env!("CARGO_PKG_VERSION")),
        "buildno": env!("CARGO_PKG_VERSION"),
        "swagger_paths": {"ui": "/docs", "api-docs": "/api-docs"},
    }))
}

/// `GET /ping`
pub(super) async fn ping() -> Response {
    respond::text("pong")
}

/// `GET /invokers`: the platform is its own, only invoker.
pub(super) async fn invokers() -> Response {
    respond::ok(&json!({"invoker0/0": "up"}))
}

/// `GET /invokers/healthy/count`
pub(super) async fn healthy_invokers() -> Response {
    respond::ok(&Value::from(1))
}

/// `GET /invokers/ready`
pub(super) async fn ready() -> Response {
    respond::ok(&json!({"healthy": "1/1"}))
}
