//! The kwsk server: parse, run, exit code.

use std::process::ExitCode;

use kwsk_server::config::{Asked, Config};
use kwsk_server::{append, report, run};

fn main() -> ExitCode {
    if let Some(arguments) = append::asked(std::env::args_os()) {
        return append::run(arguments);
    }
    match Config::from_command_line() {
        Ok(Asked::Serve(config)) => match run(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report::fatal(&error),
        },
        Ok(Asked::Text(text)) => report::text(&text),
        Err(error) => report::usage(&error),
    }
}
