//! `install`: for an init container that brings the shim to another image.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use lexopt::Arg;

const HELP: &str = "\
Copy this program to another directory, as `shim`.

Usage: kwsk-shim install DIR

For an init container that shares a volume with the container of the action, which is then started with
/kwsk/bin/shim:

  kwsk-shim install /kwsk/bin
";

pub(crate) fn run(args: &mut lexopt::Parser) -> anyhow::Result<ExitCode> {
    let mut directory: Option<OsString> = None;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                write!(std::io::stdout(), "{HELP}")?;
                return Ok(ExitCode::SUCCESS);
            }
            Arg::Value(value) if directory.is_none() => directory = Some(value),
            other => return Err(other.unexpected().into()),
        }
    }
    let directory =
        directory.context("install: no directory is given, as in `kwsk-shim install /kwsk/bin`")?;
    install(Path::new(&directory))?;
    Ok(ExitCode::SUCCESS)
}

/// Under another name first, so that whoever waits for the file never starts half of it.
fn install(directory: &Path) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("install: this program's own file cannot be found")?;
    let failed = || format!("install: {} cannot be written", directory.display());
    fs::create_dir_all(directory).with_context(failed)?;
    let partial = directory.join(".shim.partial");
    fs::copy(own, &partial).with_context(failed)?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).with_context(failed)?;
    fs::rename(partial, directory.join("shim")).with_context(failed)
}
