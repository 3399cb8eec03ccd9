//! What kwsk needs from the outside, and what it does with it.
//!
//! Five ports ([`cluster::Cluster`], [`invoke::Invoker`], [`activations::ActivationStore`], [`code::CodeStore`],
//! [`auth::Authenticator`]), their adapters, and the operations ([`ops`]) that OpenWhisk's API consists of. Every operation
//! is fetch → validate → build → apply; the middle two are pure and live in `kwsk-translate`. This crate owns no socket
//! of the API and reads no flags.

pub mod activations;
pub mod auth;
pub mod cluster;
pub mod code;
pub mod error;
pub mod invoke;
pub mod ops;
