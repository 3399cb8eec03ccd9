//! `append`, `build` and `push`: images over the registry API.

use std::process::ExitCode;

use kwsk_shim::image::command;

pub(crate) fn append(args: &mut lexopt::Parser) -> anyhow::Result<ExitCode> {
    command::append(args.raw_args()?, command::this_program().as_deref())
}

pub(crate) fn build(args: &mut lexopt::Parser) -> anyhow::Result<ExitCode> {
    command::build(args.raw_args()?)
}

pub(crate) fn push(args: &mut lexopt::Parser) -> anyhow::Result<ExitCode> {
    command::push(args.raw_args()?)
}
