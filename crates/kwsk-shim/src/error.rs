//! Why a runtime process could not be had. Never reaches an action's caller as such: it becomes a response.

use std::io;
use std::path::PathBuf;

/// Why a launchpad or a runtime process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The work directory cannot be used.
    #[error("the work directory {path} cannot be used")]
    WorkDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no such program.
    #[error("the program {program} was not found")]
    NoProgram {
        /// `argv[0]`.
        program: String,
    },
    /// The process could not be started.
    #[error("the program {program} could not be started")]
    Spawn {
        /// `argv[0]`.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A pipe to the process could not be made.
    #[error("a pipe to the runtime could not be made")]
    Pipe(#[source] io::Error),
    /// Something else listens where the runtime is to.
    #[error("port {port} is taken")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The launchpad is stopping.
    #[error("no process is started while stopping")]
    Stopping,
}
