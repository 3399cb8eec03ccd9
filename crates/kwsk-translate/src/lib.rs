//! OpenWhisk entities to Knative documents and back.
//!
//! This crate refuses to do I/O and to look at a clock or the environment: every function takes what it needs and
//! returns a value, so that each mapping can be tested without a cluster.

pub mod document;
pub mod error;
pub mod outcome;
