//! Tests of the real binary: what only a process can show, such as being killed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stdout, reason = "shown when a test fails")]

mod clients;
mod durability;
mod examples;
mod load;
mod operator;
mod server;
