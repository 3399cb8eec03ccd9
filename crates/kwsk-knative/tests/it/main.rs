//! Adapter suites: one suite for every adapter of a port, the fakes included, for a fake may not lie.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod activations;
mod auth;
mod channels;
mod cluster;
mod code;
mod store;
mod support;
