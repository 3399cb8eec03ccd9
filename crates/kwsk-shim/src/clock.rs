//! The times of one activation, and the report that states them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kwsk_model::activation::ActivationResponse;
use tokio::time::Instant;

use crate::spec::Report;

/// When an activation began, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) start_ms: u64,
    began: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start_ms: millis(since), began: Instant::now() }
    }

    pub(crate) fn report(
        self,
        response: ActivationResponse,
        logs: Vec<String>,
        init: Option<Duration>,
        run: Duration,
        timed_out: bool,
    ) -> Report {
        Report {
            response,
            logs,
            init_ms: init.map(millis),
            run_ms: millis(run),
            start_ms: self.start_ms,
            end_ms: self.start_ms + millis(self.began.elapsed()),
            duration_ms: millis(init.unwrap_or_default() + run),
            timed_out,
            ran: true,
            repeated: false,
        }
    }

    /// A report that nothing was started, for this reason.
    pub(crate) fn not_run(self, text: &str) -> Report {
        Report { ran: false, ..self.platform_error(text) }
    }

    /// The report of an id that was run before, of which nothing else is known.
    pub(crate) fn forgotten(self, text: &str) -> Report {
        Report { repeated: true, ..self.platform_error(text) }
    }

    /// A report that blames the platform.
    pub(crate) fn platform_error(self, text: &str) -> Report {
        self.report(ActivationResponse::whisk_error(text), Vec::new(), None, Duration::ZERO, false)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
