//! The state of one instance: Cold → Initialising → Ready, and back to Cold whenever its runtime cannot be trusted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwsk_model::activation::{ActivationResponse, Outcome};
use kwsk_model::json::RawJson;
use kwsk_translate::outcome::{Stage, is_reusable};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::instance::{Init, Instance};
use crate::launchpad::Launchpad;
use crate::logs::LogSink;
use crate::protocol::Answer;
use crate::recent::{Recent, Seen};
use crate::runtime::Runtime;
use crate::spec::{ActionSpec, Report, Run};

const ABANDONED: &str =
    "The action was already run with this activation id; how it ended is not known any more.";

/// One instance of one action. Cheap to clone. Dropping the last clone kills the runtime; [`Shim::stop`] also waits.
#[derive(Debug, Clone)]
pub struct Shim(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spec: Arc<ActionSpec>,
    runtime: Arc<Runtime>,
    pad: Launchpad,
    concurrency: u32,
    places: Semaphore,
    recent: Recent,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Cold,
    Initialising(watch::Receiver<Flight>),
    Ready(Arc<Instance>),
    Stopped,
}

/// What everyone who waits for an init gets.
type Flight = Option<Result<Arc<Instance>, Arc<Failure>>>;

#[derive(Debug)]
struct Failure {
    response: ActivationResponse,
    logs: Vec<String>,
    timed_out: bool,
}

/// An instance, and how long its init took if this run had to do it.
struct Acquired {
    instance: Arc<Instance>,
    init: Option<Duration>,
}

enum Place {
    Ready(Arc<Instance>),
    Wait(watch::Receiver<Flight>),
    Init(watch::Sender<Flight>),
    Stopped,
}

impl Shim {
    /// A cold instance: nothing is started before the first run.
    #[must_use]
    pub fn new(spec: Arc<ActionSpec>, runtime: Arc<Runtime>, pad: Launchpad) -> Self {
        let concurrency = runtime.concurrency(spec.concurrency);
        Self(Arc::new(Inner {
            spec,
            runtime,
            pad,
            concurrency,
            places: Semaphore::new(concurrency as usize),
            recent: Recent::default(),
            state: Mutex::new(State::Cold),
        }))
    }

    /// What it runs.
    #[must_use]
    pub fn spec(&self) -> &Arc<ActionSpec> {
        &self.0.spec
    }

    /// Runs one activation; everything that can happen becomes a report.
    ///
    /// Runs beyond the action's concurrency wait. An activation id that was run before, or is running, is not run
    /// again: its report is repeated while it is remembered, and afterwards a platform error says so. (An empty id is
    /// never remembered, and neither is one whose runtime could not be started.)
    ///
    /// Dropping the future of a run kills the runtime if it runs one activation at a time; with more, the run goes on
    /// without its caller.
    pub async fn run(&self, run: Run) -> Report {
        if self.0.concurrency == 1 {
            return self.0.run_once(&run).await;
        }
        let inner = Arc::clone(&self.0);
        let task = self.0.pad.tracker().spawn(async move { inner.run_once(&run).await });
        task.await.unwrap_or_else(|_| Clock::start().platform_error("The run was interrupted."))
    }

    /// Starts and initialises the runtime without running anything, with the specification's identity as its context.
    /// Runs that come meanwhile wait for the same init. When it fails the instance is cold again and the next run tries
    /// for itself; the failure is only logged, since it is no activation's.
    pub async fn warm_up(&self) {
        let flight = match self.0.place() {
            Place::Init(flight) => flight,
            Place::Wait(mut flight) => {
                // How it ended is the business of whoever began it.
                flight.wait_for(Option::is_some).await.ok();
                return;
            }
            Place::Ready(_) | Place::Stopped => return,
        };
        let mut clock = Clock::start();
        let mut context = self.0.spec.identity.clone();
        context.deadline = (clock.start_ms + self.0.spec.timeout_ms).to_string();
        let run = Run { context, arguments: RawJson::empty_object() };
        let mut sink = LogSink::new(self.0.spec.logs_bytes);
        if let Err(report) = self.0.initialise(&run, &mut sink, &mut clock, &flight).await {
            let (name, response) = (&self.0.spec.name, &report.response);
            tracing::debug!(action = %name, ?response, "an instance cannot be warmed up");
        }
    }

    /// Kills the runtime and waits until nothing is left of it. Runs that come later are refused.
    pub async fn stop(&self) {
        let state = std::mem::replace(&mut *self.0.state(), State::Stopped);
        let instance = match state {
            State::Ready(instance) => Some(instance),
            State::Initialising(mut flight) => {
                let landed = flight.wait_for(Option::is_some).await;
                landed.ok().and_then(|flight| flight.clone()?.ok())
            }
            State::Cold | State::Stopped => None,
        };
        if let Some(process) = instance.as_ref().and_then(|i| i.process()) {
            process.kill();
            process.gone().await;
        }
    }

    /// True when a run would not have to initialise anything.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        matches!(&*self.0.state(), State::Ready(instance) if instance.is_usable())
    }

    /// The runtime's process, when there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &*self.0.state() {
            State::Ready(instance) => instance.process().map(|process| process.pid()),
            State::Cold | State::Initialising(_) | State::Stopped => None,
        }
    }
}

/// Puts the instance aside when a run is abandoned: its answer must not be taken for another's.
struct Abandon<'a> {
    inner: &'a Inner,
    instance: Option<&'a Arc<Instance>>,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(instance) = self.instance {
            self.inner.retire(instance);
        }
    }
}

/// Makes the shim cold again when an init is abandoned; the waiting ones then start their own.
struct Grounded<'a>(Option<&'a Inner>);

impl Drop for Grounded<'_> {
    fn drop(&mut self) {
        if let Some(inner) = self.0 {
            inner.settle(State::Cold);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_once(&self, run: &Run) -> Report {
        let id = &run.context.activation_id;
        if id.is_empty() {
            return self.run_claimed(run).await;
        }
        let claim = match self.recent.claim(id) {
            Seen::Never(claim) => claim,
            Seen::Done(report) => return report.as_ref().clone(),
            Seen::Lost => return Clock::start().platform_error(ABANDONED),
            Seen::Running(report) => {
                return match report.await {
                    Ok(report) => report.as_ref().clone(),
                    Err(_) => Clock::start().platform_error(ABANDONED),
                };
            }
        };
        let report = self.run_claimed(run).await;
        if report.response.outcome == Outcome::WhiskError {
            claim.release();
        } else {
            claim.settle(&report);
        }
        report
    }

    async fn run_claimed(&self, run: &Run) -> Report {
        let Ok(_place) = self.places.acquire().await else {
            return Clock::start().platform_error("The instance is closed.");
        };
        let mut sink = LogSink::new(self.spec.logs_bytes);
        let mut clock = Clock::start();
        match self.acquire(run, &mut sink, &mut clock).await {
            Ok(Acquired { instance, init }) => self.run_on(&instance, init, run, sink, clock).await,
            Err(report) => report,
        }
    }

    async fn run_on(
        &self,
        instance: &Arc<Instance>,
        init: Option<Duration>,
        run: &Run,
        mut sink: LogSink,
        clock: Clock,
    ) -> Report {
        let mut abandon = Abandon { inner: self, instance: Some(instance) };
        let began = Instant::now();
        let answer = instance.run(run, began + self.limit(), &mut sink).await;
        let took = began.elapsed();
        abandon.instance = None;
        let response = answer.response(Stage::Run, self.spec.timeout_ms);
        if !is_reusable(&response, sink.is_complete()) {
            self.retire(instance);
        }
        let logs = sink.finish(response.outcome == Outcome::DeveloperError);
        clock.report(response, logs, init, took, answer == Answer::TimedOut)
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.spec.timeout_ms)
    }

    /// The warm instance, the one someone is initialising, or a new one.
    async fn acquire(&self, run: &Run, sink: &mut LogSink, clock: &mut Clock) -> Result<Acquired, Report> {
        loop {
            match self.place() {
                Place::Ready(instance) => {
                    *clock = Clock::start();
                    return Ok(Acquired { instance, init: None });
                }
                Place::Wait(mut flight) => {
                    let landed = flight.wait_for(Option::is_some).await.map(|flight| flight.clone());
                    // Otherwise it is ready or was abandoned: look again.
                    if let Ok(Some(Err(failure))) = landed {
                        return Err(failure.report(*clock, None));
                    }
                }
                Place::Init(flight) => return self.initialise(run, sink, clock, &flight).await,
                Place::Stopped => return Err(Failure::not_started().report(*clock, None)),
            }
        }
    }

    fn place(&self) -> Place {
        let mut state = self.state();
        match &*state {
            State::Ready(instance) if instance.is_usable() => return Place::Ready(Arc::clone(instance)),
            State::Initialising(flight) => return Place::Wait(flight.clone()),
            State::Stopped => return Place::Stopped,
            State::Ready(_) | State::Cold => {}
        }
        let (sender, receiver) = watch::channel(None);
        *state = State::Initialising(receiver);
        Place::Init(sender)
    }

    async fn initialise(
        &self,
        run: &Run,
        sink: &mut LogSink,
        clock: &mut Clock,
        flight: &watch::Sender<Flight>,
    ) -> Result<Acquired, Report> {
        let mut grounded = Grounded(Some(self));
        *clock = Clock::start();
        let began = Instant::now();
        let deadline = began + self.limit();
        let init = Init { pad: &self.pad, spec: &self.spec, runtime: &self.runtime, run, deadline };
        let started = init.start(sink).await;
        let took = began.elapsed();
        grounded.0 = None;
        match started {
            Ok(instance) => {
                let instance = Arc::new(instance);
                self.settle(State::Ready(Arc::clone(&instance)));
                flight.send_replace(Some(Ok(Arc::clone(&instance))));
                Ok(Acquired { instance, init: Some(took) })
            }
            Err(answer) => {
                let response = answer.response(Stage::Init, self.spec.timeout_ms);
                let sink = std::mem::replace(sink, LogSink::new(0));
                let logs = sink.finish(response.outcome == Outcome::DeveloperError);
                let failure = Arc::new(Failure { response, logs, timed_out: answer == Answer::TimedOut });
                self.settle(State::Cold);
                flight.send_replace(Some(Err(Arc::clone(&failure))));
                Err(failure.report(*clock, Some(took)))
            }
        }
    }

    /// Ends an init, unless the shim was stopped meanwhile.
    fn settle(&self, to: State) {
        let mut state = self.state();
        if !matches!(*state, State::Stopped) {
            *state = to;
        }
    }

    /// No new run gets the instance; it is killed when the last one that has it is over.
    fn retire(&self, instance: &Arc<Instance>) {
        let mut state = self.state();
        if matches!(&*state, State::Ready(current) if Arc::ptr_eq(current, instance)) {
            *state = State::Cold;
        }
    }
}

impl Failure {
    fn not_started() -> Self {
        let response = Answer::NotStarted.response(Stage::Init, 0);
        Self { response, logs: Vec::new(), timed_out: false }
    }

    fn report(&self, clock: Clock, init: Option<Duration>) -> Report {
        let Self { response, logs, timed_out } = self;
        clock.report(response.clone(), logs.clone(), init, Duration::ZERO, *timed_out)
    }
}
