//! A whole platform in a temporary directory, for tests that drive it over real HTTP.
//!
//! [`TestApp`] is the router, operations and `LocalCluster` of the real server with real runtimes, on a free port of this machine.
//! [`Client`]s differ by what they may do. When a `TestApp` is dropped it shuts down as the server does and fails the test when a
//! process is left behind.

pub mod app;
pub mod client;
pub mod coverage;
pub mod wait;

pub use app::{TestApp, TestConfig};
pub use client::{Client, Reply};
pub use wait::eventually;

use serde_json::{Value, json};

/// The body of a PUT of a Node.js action.
#[must_use]
pub fn js(code: &str) -> Value {
    json!({"exec": {"kind": "nodejs:default", "code": code}})
}

/// The body of a PUT of a Python action.
#[must_use]
pub fn py(code: &str) -> Value {
    json!({"exec": {"kind": "python:default", "code": code}})
}

/// An action that answers with its arguments.
#[must_use]
pub fn echo() -> Value {
    js("const main = args => args")
}

/// The body of a PUT of a rule.
#[must_use]
pub fn rule(trigger: &str, action: &str) -> Value {
    json!({"trigger": format!("/_/{trigger}"), "action": format!("/_/{action}")})
}
