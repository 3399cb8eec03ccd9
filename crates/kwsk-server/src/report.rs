//! What the operator is told when the server does not start, and where the log goes.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use kwsk_knative::cluster::local::StartError;
use kwsk_knative::cluster::local::store::Opening;
use kwsk_knative::error::Error;
use tracing_subscriber::EnvFilter;

use crate::config::BadConfig;
use crate::error::Chain;

/// Exit codes of `sysexits.h`.
mod exit {
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATA: u8 = 65;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const OS: u8 = 71;
    pub(super) const CANNOT_CREATE: u8 = 73;
    pub(super) const IO: u8 = 74;
    pub(super) const TRY_LATER: u8 = 75;
}

/// Why the server does not start. `Display` is one line that names the way out.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The address is taken, or not ours.
    #[error("cannot listen on {listen}: {}choose another address with --listen", hint(.source))]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The data directory or the runtimes.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What is stored cannot be used.
    #[error("the stored state cannot be used: restore the data directory or choose another with --data")]
    State(#[source] Error),
    /// The process lacks something every process has.
    #[error("the system refuses threads, signals or sockets")]
    Runtime(#[source] io::Error),
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it or ",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; ",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address; ",
        _ => "",
    }
}

impl Fatal {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Bind { .. } => exit::UNAVAILABLE,
            Self::Start(StartError::Store(opening)) => match opening {
                Opening::Directory { .. } => exit::CANNOT_CREATE,
                Opening::InUse { .. } => exit::TRY_LATER,
                Opening::Newer { .. } | Opening::Damaged { .. } => exit::DATA,
                Opening::Database { .. } => exit::IO,
            },
            Self::Start(StartError::Launch(_)) => exit::CANNOT_CREATE,
            Self::Start(StartError::Read(_)) | Self::State(_) => exit::IO,
            Self::Runtime(_) => exit::OS,
        }
    }
}

/// One line on stderr and the exit code for it.
#[must_use]
pub fn fatal(error: &Fatal) -> ExitCode {
    line(&format!("{}", Chain(error)));
    ExitCode::from(error.exit_code())
}

/// One line on stderr about wrong flags or environment.
#[must_use]
pub fn usage(error: &BadConfig) -> ExitCode {
    line(&error.to_string());
    ExitCode::from(exit::USAGE)
}

/// One line on stderr about a command that failed.
#[must_use]
pub fn failed(why: &str) -> ExitCode {
    line(why);
    ExitCode::FAILURE
}

/// `--help` and `--version`.
#[must_use]
pub fn text(text: &str) -> ExitCode {
    print(&mut io::stdout().lock(), &format!("{}\n", text.trim_end()));
    ExitCode::SUCCESS
}

fn line(text: &str) {
    print(&mut io::stderr().lock(), &format!("kwsk-server: {}\n", text.replace('\n', " ")));
}

/// Writes to a terminal or pipe. When nobody reads any more there is nobody to tell.
pub(crate) fn print(to: &mut impl Write, text: &str) {
    if to.write_all(text.as_bytes()).and_then(|()| to.flush()).is_err() {
        tracing::debug!("nobody reads the output");
    }
}

/// Sends the log to stderr, once per process.
pub fn log_to_stderr(filter: &str) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .finish();
    // A second server in one process logs where the first one does.
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("the log was already set up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_address_and_flag() {
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        let error = Fatal::Bind { listen: "127.0.0.1:3233".parse().unwrap(), source };
        let text = Chain(&error).to_string();
        assert!(
            text.starts_with("cannot listen on 127.0.0.1:3233: another program listens there;"),
            "{text}"
        );
        assert!(text.contains("--listen"), "{text}");
        assert_eq!(error.exit_code(), 69);
    }
}
