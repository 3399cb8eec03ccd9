//! What one instance runs, what a run is given, and what it reports.

use std::path::PathBuf;
use std::sync::Arc;

use kwsk_model::activation::ActivationResponse;
use kwsk_model::json::RawJson;
use kwsk_model::limits::{Limits, MAX_RESULT_BYTES, MB};
use kwsk_model::params::Parameters;
use kwsk_model::proxy::RunContext;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What one instance runs. Shared and immutable: a changed action is another instance.
#[derive(Debug, Clone)]
pub struct ActionSpec {
    /// The action's own name.
    pub name: String,
    /// `nodejs:20`, `blackbox`, …
    pub kind: String,
    /// Entry point; `main` when absent.
    pub main: Option<String>,
    /// The code; `None` for images that bring their own.
    pub code: Option<CodeSource>,
    /// The code is base64.
    pub binary: bool,
    /// Init parameters, given to the runtime as environment.
    pub init_env: Map<String, Value>,
    /// Milliseconds; init and run each.
    pub timeout_ms: u64,
    /// MB.
    pub memory_mb: u64,
    /// Bytes of log text per activation; 0 collects none.
    pub logs_bytes: u64,
    /// Activations at a time; more than 1 only has effect when the runtime declares support.
    pub concurrency: u32,
    /// Longer results are cut.
    pub max_result_bytes: u64,
    /// Bound parameters, merged below the payload of requests and events that did not come through kwsk.
    pub parameters: Parameters,
    /// Context of runs that did not come through kwsk: the namespace, the full action name, the version, the key. The
    /// ids and the deadline are made per run.
    pub identity: RunContext,
}

impl ActionSpec {
    /// A specification with OpenWhisk's default limits and nothing bound.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: impl Into<String>, code: Option<CodeSource>) -> Self {
        let name = name.into();
        let limits = Limits::default();
        Self {
            identity: RunContext {
                namespace: "_".into(),
                action_name: format!("/_/{name}"),
                action_version: "0.0.1".into(),
                activation_id: String::new(),
                transaction_id: String::new(),
                deadline: String::new(),
                api_key: None,
            },
            name,
            kind: kind.into(),
            main: None,
            code,
            binary: false,
            init_env: Map::new(),
            timeout_ms: limits.timeout,
            memory_mb: limits.memory,
            logs_bytes: limits.logs * MB,
            concurrency: 1,
            max_result_bytes: MAX_RESULT_BYTES,
            parameters: Parameters::new(),
        }
    }

    /// The entry point.
    #[must_use]
    pub fn main(&self) -> &str {
        self.main.as_deref().unwrap_or("main")
    }
}

/// Where code is, exactly as it was sent: source text, or base64 text.
#[derive(Debug, Clone)]
pub enum CodeSource {
    /// In memory.
    Inline(Arc<str>),
    /// In a file.
    File(PathBuf),
}

/// One activation to run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The ids and the rest of what becomes `__OW_*`.
    pub context: RunContext,
    /// The complete arguments: an object or an array.
    pub arguments: RawJson,
}

/// How a run ended. The body of `application/vnd.kwsk.activation+json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Outcome and result.
    pub response: ActivationResponse,
    /// Formatted log lines.
    pub logs: Vec<String>,
    /// Milliseconds `/init` took, for the activation that needed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_ms: Option<u64>,
    /// Milliseconds `/run` took.
    pub run_ms: u64,
    /// Milliseconds since the epoch.
    pub start_ms: u64,
    /// Milliseconds since the epoch.
    pub end_ms: u64,
    /// Init and run.
    pub duration_ms: u64,
    /// The time limit ended it.
    pub timed_out: bool,
    /// False when nothing of the action was started, so that trying again is safe.
    #[serde(default = "truth")]
    pub ran: bool,
    /// The activation id had been run before: this is what is remembered of it, and nothing was run for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

fn truth() -> bool {
    true
}
