//! What only real containers can show. `cargo xtask e2e` starts what these tests run on and tells them where it is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod container;
mod node;
mod shim;
