//! The commands of the binary.

#[cfg(feature = "images")]
mod append;
#[cfg(feature = "check")]
mod check;
mod drain;
mod exec;
mod flags;
mod install;
mod log;
mod work;

use std::io::Write as _;
use std::process::ExitCode;

use lexopt::Arg;

const HELP: &str = "\
The mini-invoker inside each action's container.

Usage: kwsk-shim <COMMAND> [OPTIONS]

Commands:
  exec     Start a runtime and answer Knative for it
  attach   Answer Knative for a runtime that is there already
  install  Copy the shim to a directory
";
#[cfg(feature = "check")]
const CHECK_HELP: &str = "  check    Tell whether a runtime keeps OpenWhisk's contract\n";
#[cfg(not(feature = "check"))]
const CHECK_HELP: &str = "";
#[cfg(feature = "images")]
const IMAGES_HELP: &str = "\
\x20 append   Add the shim to an image, over the registry API
  build    Make an image from files and Debian packages
  push     Push an image that was built
";
#[cfg(not(feature = "images"))]
const IMAGES_HELP: &str = "";
const MORE_HELP: &str = "\n`kwsk-shim <COMMAND> --help` says more.\n";

/// Runs the command that the arguments name.
pub(crate) fn run(mut args: lexopt::Parser) -> ExitCode {
    match dispatch(&mut args) {
        Ok(code) => code,
        Err(error) => {
            // Nobody can be told that stderr is closed.
            writeln!(std::io::stderr(), "kwsk-shim: {error:#}").ok();
            ExitCode::from(2)
        }
    }
}

fn dispatch(args: &mut lexopt::Parser) -> anyhow::Result<ExitCode> {
    let command = match args.next()? {
        Some(Arg::Value(command)) => command,
        Some(Arg::Short('h') | Arg::Long("help")) | None => {
            write!(std::io::stdout(), "{HELP}{CHECK_HELP}{IMAGES_HELP}{MORE_HELP}")?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Arg::Short('V') | Arg::Long("version")) => {
            writeln!(std::io::stdout(), "kwsk-shim {}", env!("CARGO_PKG_VERSION"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    match command.to_string_lossy().as_ref() {
        "exec" => exec::exec(args),
        "attach" => exec::attach(args),
        "install" => install::run(args),
        #[cfg(feature = "check")]
        "check" => check::run(args),
        #[cfg(feature = "images")]
        "append" => append::append(args),
        #[cfg(feature = "images")]
        "build" => append::build(args),
        #[cfg(feature = "images")]
        "push" => append::push(args),
        other => anyhow::bail!("there is no command '{other}'; `kwsk-shim --help` lists them"),
    }
}
