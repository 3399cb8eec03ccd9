//! The mini-invoker inside each action's container.
//!
//! A [`Shim`] is one instance of one action: at most one runtime child process, initialised once, given one run at a
//! time (or as many as the action's concurrency allows), killed as a whole group when it misbehaves. A [`Launchpad`]
//! starts those processes, keeps prewarmed ones and watches their memory. [`serve`] puts a shim on a socket.

mod alarm;
mod archive;
mod attached;
#[cfg(feature = "check")]
pub mod check;
mod clock;
mod code;
mod container;
mod error;
mod fetch;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod http;
#[cfg(feature = "images")]
pub mod image;
mod instance;
mod interpreter;
mod launchpad;
mod leftovers;
mod logs;
mod memory;
mod orphans;
mod ports;
mod process;
mod protocol;
mod recent;
mod resolve;
mod runtime;
mod seat;
mod shim;
mod spec;
mod stream;
mod supply;

pub use archive::{ArchiveError, ArchiveLimits, extract_zip};
pub use container::{ContainerAction, Given};
pub use error::LaunchError;
pub use http::{Bounds, REPORT_MEDIA_TYPE, header, serve, serve_within};
pub use launchpad::Launchpad;
pub use leftovers::reap_leftovers;
pub use runtime::{Features, Home, Runtime, Sandbox};
pub use shim::Shim;
pub use spec::{ActionSpec, CodeSource, Report, Run};
