//! The documentation, without a warning.

use crate::workspace::{self, cargo};

pub(crate) fn run() -> anyhow::Result<()> {
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    workspace::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}
