//! Properties of the entities: their JSON, their names, and how parameters merge.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod entities;
mod names;
mod parameters;
mod strategies;
