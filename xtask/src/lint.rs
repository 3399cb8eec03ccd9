//! rustfmt and clippy.

use crate::workspace::{self, cargo};

pub(crate) fn run() -> anyhow::Result<()> {
    workspace::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    workspace::run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}
