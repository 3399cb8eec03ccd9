//! OpenWhisk's entities as Rust types.
//!
//! This crate refuses to do I/O: it knows no HTTP, no clock, no Kubernetes and no randomness. It holds the grammar of
//! names, the exact JSON of every entity, the rules by which parameters merge and versions bump, and the limits with
//! the texts OpenWhisk answers when one is exceeded. Every `Display` of an error that a client sees is OpenWhisk's own wording.

pub mod action;
pub mod activation;
pub mod body;
pub mod fault;
pub mod identity;
pub mod json;
pub mod limits;
pub mod name;
pub mod package;
pub mod params;
pub mod proxy;
pub mod rule;
pub mod runtimes;
pub mod trigger;
pub mod version;
