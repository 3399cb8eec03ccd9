//! Shims with real runtimes: Node.js and Python from `PATH`, shell scripts, and hostile programs.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod fake;
mod harness;

mod container;
#[cfg(feature = "check")]
mod contract;
mod hostile;
mod http_runtimes;
#[cfg(feature = "images")]
mod images;
mod launchers_node;
mod launchers_python;
mod limits;
mod loops;
mod state;
mod surface;
