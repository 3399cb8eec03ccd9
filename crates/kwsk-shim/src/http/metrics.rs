//! What `GET /kwsk/metrics` tells, in OpenMetrics text.

use kwsk_model::activation::Outcome;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::spec::Report;

/// The content type of [`Metrics::text`].
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds; time limits are at most 300.
const SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0];

const OUTCOMES: [&str; 5] = ["success", "application_error", "developer_error", "whisk_error", "not_run"];
const NOT_RUN: usize = 4;

/// The platform's remark at the end of logs that were cut, and how many bytes of time are before it.
const TRUNCATED: &str = "stderr: Logs were truncated because the total bytes size exceeds";
const TIME: usize = 31;
/// Remarks that a log may end with.
const REMARKS: usize = 3;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Kwsk,
    Event,
    Plain,
}

const CALLERS: [(Caller, &str); 3] =
    [(Caller::Kwsk, "kwsk"), (Caller::Event, "event"), (Caller::Plain, "plain")];

/// All series exist from the start, so that counting is one atomic addition.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    runs: [[Counter; OUTCOMES.len()]; CALLERS.len()],
    in_flight: Gauge,
    run_seconds: Histogram,
    init_seconds: Histogram,
    inits: [Counter; 2],
    truncated: Counter,
    repeated: Counter,
    refused: Counter,
}

/// A run that is going on.
pub(super) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("kwsk_shim");
        let runs = Family::<[(&str, &str); 2], Counter>::default();
        registry.register("runs", "Activations by outcome and caller, repetitions aside", runs.clone());
        let inits = Family::<[(&str, &str); 1], Counter>::default();
        registry.register("inits", "Initialisations by result", inits.clone());
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let histogram = |registry: &mut Registry, name: &str, help: &str| {
            let histogram = Histogram::new(SECONDS);
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
            histogram
        };
        let in_flight = Gauge::default();
        registry.register("runs_in_flight", "Activations that run or wait for their turn", in_flight.clone());
        Self {
            runs: CALLERS.map(|(_, caller)| {
                OUTCOMES
                    .map(|outcome| runs.get_or_create(&[("outcome", outcome), ("caller", caller)]).clone())
            }),
            in_flight,
            run_seconds: histogram(&mut registry, "run_duration", "How long runs took"),
            init_seconds: histogram(&mut registry, "init_duration", "How long initialisations took"),
            inits: ["success", "failure"].map(|result| inits.get_or_create(&[("result", result)]).clone()),
            truncated: counter(&mut registry, "logs_truncated", "Activations whose log lines were cut"),
            repeated: counter(&mut registry, "repetitions", "Activation ids that had been run before"),
            refused: counter(&mut registry, "events_refused", "Requests with events that were refused"),
            registry,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(4096);
        // Writing to a string does not fail.
        encode(&mut text, &self.registry).ok();
        text
    }

    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    pub(super) fn refuse_event(&self) {
        self.refused.inc();
    }

    pub(super) fn count(&self, caller: Caller, report: &Report) {
        if report.repeated {
            self.repeated.inc();
            return;
        }
        let outcome = if report.ran { usize::from(report.response.outcome.code()) } else { NOT_RUN };
        self.runs[caller as usize][outcome].inc();
        let failed = init_failed(report);
        if let Some(ms) = report.init_ms {
            self.init_seconds.observe(seconds(ms));
            self.inits[usize::from(failed)].inc();
        }
        if report.ran && !failed {
            self.run_seconds.observe(seconds(report.run_ms));
        }
        let is_cut = |line: &String| line.get(TIME..).is_some_and(|text| text.starts_with(TRUNCATED));
        if report.logs.iter().rev().take(REMARKS).any(is_cut) {
            self.truncated.inc();
        }
    }
}

/// After a good init even the run that fails at once takes a moment; a failed init has none.
fn init_failed(report: &Report) -> bool {
    let blamed = matches!(report.response.outcome, Outcome::DeveloperError | Outcome::WhiskError);
    report.init_ms.is_some() && report.run_ms == 0 && blamed
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
