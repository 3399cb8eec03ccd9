//! `kwsk-server append`: the same as `kwsk-shim append`, from where the platform is run.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use kwsk_shim::image::{SHIM_PATH, command};

use crate::report;

/// What follows `append`, when that is what the command line asks for.
#[must_use]
pub fn asked(arguments: impl IntoIterator<Item = OsString>) -> Option<impl Iterator<Item = OsString>> {
    let mut arguments = arguments.into_iter().skip(1);
    (arguments.next()? == "append").then_some(arguments)
}

/// Appends the shim to an image. Without `--shim`, the shim of the server's own image is the one.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let own = Some(Path::new(SHIM_PATH)).filter(|path| path.is_file());
    match command::append(arguments, own) {
        Ok(code) => code,
        Err(error) => report::failed(&format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn append_is_a_command_and_nothing_else_is() {
        let asked_of = |words: &[&str]| asked(line(words)).map(Iterator::collect::<Vec<_>>);
        assert_eq!(asked_of(&["kwsk-server", "append", "debian", "--to"]), Some(line(&["debian", "--to"])));
        for serve in [&["kwsk-server"] as &[&str], &["kwsk-server", "--data", "append"], &["append"], &[]] {
            assert_eq!(asked_of(serve), None);
        }
    }
}
