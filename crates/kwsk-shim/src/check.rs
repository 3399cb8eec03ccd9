//! Does a runtime keep OpenWhisk's contract? [`run`] starts it (or takes one that runs), puts it through every [`Case`]
//! and says what was sent, what was expected and what came back.
//!
//! Two layers: the protocol as raw requests, and the outcomes and logs of activations through a [`Shim`](crate::Shim)
//! that starts the runtime (`exec/…`) or finds it running (`attach/…`). Each case has a process of its own, except with
//! [`Target::Running`], where there is one process, and what needs a fresh one is skipped.

mod bench;
mod call;
mod case;
mod finding;
mod protocol;
mod samples;
mod subject;
mod through;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::error::LaunchError;

pub use case::{Case, Level, cases};
pub use finding::{Checked, Finding, Summary, Verdict};
pub use samples::{LANGUAGES, Language, SAMPLES, Samples, SamplesError};

use bench::Bench;
use finding::Stop;

/// Which runtime.
#[derive(Debug, Clone)]
pub enum Target {
    /// A command line that starts it; `{port}` in it becomes a free port.
    Command(Vec<String>),
    /// One that is running.
    Running(SocketAddr),
}

/// What is checked, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The runtime.
    pub target: Target,
    /// The actions it is given.
    pub samples: Samples,
    /// Where a command without `{port}` listens.
    pub port: u16,
    /// For each start and each call.
    pub timeout: Duration,
    /// The action time limit in cases that exceed it. Init and run have to manage with it.
    pub time_limit: Duration,
    /// The runtime takes as many activations at a time.
    pub concurrent: Option<u32>,
    /// The runtime prints sentinels.
    pub sentinels: bool,
    /// Only cases whose name contains it.
    pub filter: Option<String>,
    /// Not the cases whose name contains it.
    pub skip: Option<String>,
}

impl Options {
    /// Everything at its default.
    #[must_use]
    pub fn new(target: Target, samples: Samples) -> Self {
        Self {
            target,
            samples,
            port: 8080,
            timeout: Duration::from_secs(10),
            time_limit: Duration::from_secs(3),
            concurrent: None,
            sentinels: true,
            filter: None,
            skip: None,
        }
    }
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The filters leave no case.
    #[error("no case is left to be tried by --filter and --skip; --list lists all of them")]
    NoCase,
    /// The command is empty or its program does not exist.
    #[error("the runtime's command cannot be started: there is no program '{0}'")]
    NoProgram(String),
    /// The command has no `{port}`, and its port is taken.
    #[error(
        "something listens on port {0} already: stop it, write {{port}} into the command, or name the runtime's own port with --port"
    )]
    PortTaken(u16),
    /// The samples.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// The launchpad of the shims.
    #[error("no shim can be started")]
    Launchpad(#[from] LaunchError),
    /// A temporary directory.
    #[error("there is no place for temporary files")]
    Temporary(#[source] std::io::Error),
}

/// Runs every case that the options select, one after the other, and tells `each` as soon as it is over.
///
/// # Errors
/// When nothing can be checked; what a runtime does wrong is in the summary.
pub async fn run(options: Options, mut each: impl FnMut(&Checked)) -> Result<Summary, CheckError> {
    let wanted = |case: &&Case| {
        let named = |part: &Option<String>| part.as_ref().map(|part| case.name.contains(part));
        named(&options.filter).unwrap_or(true) && !named(&options.skip).unwrap_or(false)
    };
    let selected: Vec<&Case> = cases().iter().filter(wanted).collect();
    if selected.is_empty() {
        return Err(CheckError::NoCase);
    }
    let mut bench = Bench::new(options).await?;
    let mut checked = Vec::with_capacity(selected.len());
    for case in selected {
        let began = Instant::now();
        let verdict = match (case.run)(&mut bench).await {
            Ok(()) => Verdict::Ok,
            Err(Stop::Fail(finding)) => Verdict::Fail(*finding),
            Err(Stop::Skip(reason)) => Verdict::Skip(reason),
        };
        bench.clear().await;
        let (name, level, rule) = (case.name, case.level, case.rule);
        let one = Checked { name, level, rule, verdict, took: began.elapsed() };
        each(&one);
        checked.push(one);
    }
    bench.close().await;
    Ok(Summary { cases: checked })
}

/// A line for each sample: the name of its file, and what it has to do.
#[must_use]
pub fn sample_table() -> String {
    SAMPLES.iter().map(|sample| format!("  {:<12}{}\n", sample.name(), sample.meaning())).collect()
}
