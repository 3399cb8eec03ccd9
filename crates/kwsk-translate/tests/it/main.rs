//! What this crate writes: pinned by golden manifests, checked against Knative's own schemas, read back by properties.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod events;
mod example;
mod golden;
mod names;
mod oracle;
mod placement;
mod round_trip;
mod schema;

#[path = "../../../kwsk-model/tests/it/strategies.rs"]
mod strategies;

#[path = "../../examples/manifest.rs"]
#[allow(dead_code, reason = "its main is not called here")]
mod manifest;
