//! The objects kwsk writes, as types: Knative's (the fields kwsk knows) and its own.
//!
//! Unknown fields of objects that others wrote are tolerated when reading. Nothing here decides anything; the modules
//! named after OpenWhisk's entities do.

pub mod channel;
pub mod condition;
pub mod destination;
pub mod kservice;
pub mod own;
pub mod pingsource;
pub mod subscription;
