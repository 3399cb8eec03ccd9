//! OpenWhisk entities to Knative documents and back.
//!
//! This crate refuses to do I/O and to look at a clock or the environment: every function takes what it needs and
//! returns a value, so that each mapping can be tested without a cluster. What an installation decides is in
//! [`platform::Platform`], which is an argument and never a global.

pub mod action;
pub mod alarm;
pub mod capabilities;
pub mod delivery;
pub mod document;
pub mod error;
pub mod event;
mod foreign;
pub mod keys;
pub mod manifest;
pub mod names;
pub mod outcome;
pub mod package;
pub mod platform;
pub mod readiness;
pub mod rule;
pub mod sequence;
pub mod subject;
pub mod trigger;
pub mod validate;
