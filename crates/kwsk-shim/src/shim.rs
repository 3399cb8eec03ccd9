//! The state of one instance: Cold → Initialising → Ready, and back to Cold whenever its runtime cannot be trusted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwsk_model::activation::{ActivationResponse, Outcome};
use kwsk_model::json::RawJson;
use kwsk_translate::outcome::{Stage, is_reusable};
use rustix::process::Signal;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::attached::Earlier;
use crate::clock::Clock;
use crate::instance::{Init, Instance};
use crate::launchpad::Launchpad;
use crate::logs::LogSink;
use crate::protocol::Answer;
use crate::recent::{Recent, Seen};
use crate::runtime::{Runtime, Style};
use crate::seat::Seat;
use crate::spec::{ActionSpec, Report, Run};
use crate::supply::Supply;

const ABANDONED: &str =
    "The action was already run with this activation id; how it ended is not known any more.";
const STOPPED: &str = "The instance was stopped before the run ended.";
const UNTRUSTED: &str = "The runtime failed an earlier run and cannot be restarted from here, so nothing was run; the \
    instance takes runs again when its runtime's container was restarted.";
const SHUT_DOWN_TWICE: &str = "The runtime answered that it is shutting down (503), and so did the one started in its \
    place; nothing was run.";
const UNREACHABLE: &str = "The runtime cannot be reached, although it could be initialised; nothing was run.";

/// One instance of one action. Cheap to clone. Dropping the last clone kills the runtime; [`Shim::stop`] also waits.
#[derive(Debug, Clone)]
pub struct Shim(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) spec: Arc<ActionSpec>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) pad: Launchpad,
    supply: Supply,
    concurrency: u32,
    places: Semaphore,
    recent: Recent,
    state: Mutex<State>,
    seat: Arc<Seat>,
    /// The runtime is there, or nobody has to wait for it.
    pub(crate) ready: AtomicBool,
    pub(crate) stopped: CancellationToken,
    earlier: Mutex<Earlier>,
}

#[derive(Debug)]
pub(crate) enum State {
    Cold,
    Initialising(watch::Receiver<Flight>),
    Ready {
        instance: Arc<Instance>,
        /// An init that nobody has reported yet.
        early: Option<Early>,
    },
    /// An init ahead of the first run failed; that run reports it.
    Failed(Arc<Failure>),
    /// Of a runtime that someone else has to replace first; with what the first run reports, if it came to that ahead
    /// of it.
    Untrusted(Option<Arc<Failure>>),
    Stopped,
}

/// An init that happened ahead of the first run, which reports it as its own.
#[derive(Debug)]
pub(crate) struct Early {
    took: Duration,
    sink: LogSink,
}

/// What everyone who waits for an init gets.
type Flight = Option<Result<Arc<Instance>, Arc<Failure>>>;

#[derive(Debug)]
pub(crate) struct Failure {
    response: ActivationResponse,
    logs: Vec<String>,
    timed_out: bool,
    took: Duration,
    shutting_down: bool,
    ran: bool,
    /// Nobody has said yet how long it took.
    untimed: AtomicBool,
}

/// Who an init is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The run that needs it.
    Run,
    /// The first run, whenever it comes.
    First,
    /// Nobody in particular.
    Nobodys,
}

/// An instance, and how long its init took if this run had to do it, or has to report it.
struct Acquired {
    instance: Arc<Instance>,
    init: Option<Duration>,
}

/// Why a run did not happen.
enum Unserved {
    /// For good, and this is what to say.
    Told(Box<Report>),
    /// The runtime took nothing: another one may.
    Untaken(&'static str),
}

enum Place {
    Ready(Arc<Instance>, Option<Early>),
    Wait(watch::Receiver<Flight>),
    Init(watch::Sender<Flight>),
    Failed(Arc<Failure>),
    Untrusted,
    Stopped,
}

impl Shim {
    /// A cold instance: nothing is started before the first run.
    #[must_use]
    pub fn new(spec: Arc<ActionSpec>, runtime: Arc<Runtime>, pad: Launchpad) -> Self {
        Self::supplied(spec, runtime, pad, Supply::Given)
    }

    pub(crate) fn supplied(
        spec: Arc<ActionSpec>,
        runtime: Arc<Runtime>,
        pad: Launchpad,
        supply: Supply,
    ) -> Self {
        let concurrency = runtime.concurrency(spec.concurrency);
        Self(Arc::new(Inner {
            spec,
            runtime,
            pad,
            supply,
            concurrency,
            places: Semaphore::new(concurrency as usize),
            recent: Recent::default(),
            state: Mutex::new(State::Cold),
            seat: Arc::default(),
            ready: AtomicBool::new(true),
            stopped: CancellationToken::new(),
            earlier: Mutex::default(),
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
    /// Dropping the future of a run kills the runtime if it runs one activation at a time; with more, or when it cannot be
    /// killed, the run goes on without its caller.
    pub async fn run(&self, run: Run) -> Report {
        if self.0.concurrency == 1 && !self.0.runtime.is_attached() {
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
        self.0.prepare(Whose::Nobodys).await;
    }

    /// The same, but how it ends is for the first run to report as its own: its time and its logs, or its failure,
    /// after which the instance is cold. [`Shim::is_ready`] is false from now on until the runtime is there.
    pub fn init_eagerly(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.ready.store(false, Ordering::Release);
        let inner = Arc::clone(&self.0);
        async move {
            inner.prepare(Whose::First).await;
            inner.ready.store(true, Ordering::Release);
        }
    }

    /// Kills the runtime and waits until nothing is left of it. Runs that are under way end with an error of the
    /// platform, and those that come later are refused.
    pub async fn stop(&self) {
        self.terminate(Duration::ZERO).await;
    }

    /// The same, but the runtime is asked to end and has `patience` to do so.
    pub async fn terminate(&self, patience: Duration) {
        // Dropping a ready instance kills it at once.
        let before = std::mem::replace(&mut *self.0.state(), State::Stopped);
        if let (Some(process), false) = (self.0.seat.holder(), patience.is_zero()) {
            process.signal(Signal::TERM);
            // Whatever it does, it is killed next.
            timeout(patience, process.exited()).await.ok();
        }
        self.0.stopped.cancel();
        if let State::Initialising(mut flight) = before {
            flight.wait_for(Option::is_some).await.ok();
        }
        if let Some(process) = self.0.seat.holder() {
            process.kill();
        }
        self.0.seat.vacated().await;
    }

    /// Sends the runtime and its children a signal, by its number; false when there is none, or no such signal.
    pub fn signal(&self, number: i32) -> bool {
        let (holder, signal) = (self.0.seat.holder(), Signal::from_named_raw(number));
        let (Some(process), Some(signal)) = (holder, signal) else { return false };
        process.signal(signal);
        true
    }

    /// True when a run would not have to initialise anything.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        matches!(&*self.0.state(), State::Ready { instance, .. } if instance.is_usable())
    }

    /// True when requests may come: the runtime accepts connections or its process is started, however its `/init`
    /// will end; and while nothing was to be started ahead of the first run. False while it cannot be trusted.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire) && !matches!(&*self.0.state(), State::Untrusted(_))
    }

    /// The runtime's process, when there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &*self.0.state() {
            State::Ready { instance, .. } => instance.process().map(|process| process.pid()),
            State::Cold
            | State::Initialising(_)
            | State::Failed(_)
            | State::Untrusted(_)
            | State::Stopped => None,
        }
    }
}

/// Puts the instance aside when a run is abandoned: its answer must not be taken for another's.
struct Abandon<'a> {
    inner: &'a Arc<Inner>,
    instance: Option<&'a Arc<Instance>>,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(instance) = self.instance {
            self.inner.distrust(instance);
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

    fn earlier(&self) -> MutexGuard<'_, Earlier> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_once(self: &Arc<Self>, run: &Run) -> Report {
        let id = &run.context.activation_id;
        if id.is_empty() {
            return self.run_claimed(run).await;
        }
        let claim = match self.recent.claim(id) {
            Seen::Never(claim) => claim,
            Seen::Done(report) => return report.as_ref().clone(),
            Seen::Lost => return Clock::start().forgotten(ABANDONED),
            Seen::Running(report) => {
                return match report.await {
                    Ok(report) => report.as_ref().clone(),
                    Err(_) => Clock::start().forgotten(ABANDONED),
                };
            }
        };
        let report = self.run_claimed(run).await;
        if report.ran {
            claim.settle(&report);
        } else {
            claim.release(&report);
        }
        report
    }

    async fn run_claimed(self: &Arc<Self>, run: &Run) -> Report {
        let Ok(_place) = self.places.acquire().await else {
            return Clock::start().not_run("The instance is closed.");
        };
        let mut clock = Clock::start();
        let mut untaken = UNREACHABLE;
        for _ in 0..2 {
            let mut sink = LogSink::new(self.spec.logs_bytes);
            let served = match self.acquire(run, &mut sink, &mut clock).await {
                Ok(Acquired { instance, init }) => self.run_on(&instance, init, run, sink, clock).await,
                Err(unserved) => Err(unserved),
            };
            match served {
                Ok(report) => return report,
                Err(Unserved::Told(report)) => return *report,
                Err(Unserved::Untaken(why)) => untaken = why,
            }
        }
        clock.not_run(untaken)
    }

    async fn run_on(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        init: Option<Duration>,
        run: &Run,
        mut sink: LogSink,
        clock: Clock,
    ) -> Result<Report, Unserved> {
        let mut abandon = Abandon { inner: self, instance: Some(instance) };
        let began = Instant::now();
        let running = instance.run(run, began + self.limit(), &mut sink);
        let answer = tokio::select! {
            biased;
            answer = running => answer,
            () = self.stopped.cancelled() => Answer::Died,
        };
        let took = began.elapsed();
        abandon.instance = None;
        if !answer.is_ok() && matches!(&*self.state(), State::Stopped) {
            return Ok(clock.report(
                ActivationResponse::whisk_error(STOPPED),
                sink.finish(false),
                init,
                took,
                false,
            ));
        }
        if let Some(why) = self.untaken(&answer) {
            self.retire(instance);
            return Err(Unserved::Untaken(why));
        }
        let response = answer.response(Stage::Run, self.spec.timeout_ms);
        if !is_reusable(&response, sink.is_complete()) {
            self.distrust(instance);
        }
        let logs = sink.finish(response.outcome == Outcome::DeveloperError);
        let ran = answer != Answer::NotStarted;
        Ok(Report { ran, ..clock.report(response, logs, init, took, answer == Answer::TimedOut) })
    }

    /// Why another runtime may still take what this one did not.
    fn untaken(&self, answer: &Answer) -> Option<&'static str> {
        if *answer == Answer::Unsent {
            return Some(UNREACHABLE);
        }
        let speaks_http = matches!(self.runtime.style, Style::Http | Style::Attached(_));
        (speaks_http && answer.is_shutting_down()).then_some(SHUT_DOWN_TWICE)
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_millis(self.spec.timeout_ms)
    }

    /// The warm instance, the one someone is initialising, or a new one.
    async fn acquire(
        self: &Arc<Self>,
        run: &Run,
        sink: &mut LogSink,
        clock: &mut Clock,
    ) -> Result<Acquired, Unserved> {
        loop {
            match self.place(true) {
                Place::Ready(instance, early) => {
                    *clock = Clock::start();
                    let init = early.map(|early| {
                        *sink = early.sink;
                        early.took
                    });
                    return Ok(Acquired { instance, init });
                }
                Place::Wait(mut flight) => {
                    let landed = flight.wait_for(Option::is_some).await.map(|flight| flight.clone());
                    // Otherwise it is ready or was abandoned: look again.
                    if let Ok(Some(Err(failure))) = landed {
                        return Err(failure.unserved(*clock));
                    }
                }
                Place::Init(flight) => {
                    let initialised = self.initialise(run, sink, clock, &flight, Whose::Run).await;
                    return initialised.map_err(|failure| failure.unserved(*clock));
                }
                Place::Failed(failure) => return Err(failure.unserved(*clock)),
                Place::Untrusted => return Err(Unserved::told(clock.not_run(UNTRUSTED))),
                Place::Stopped => return Err(Failure::not_started().unserved(*clock)),
            }
        }
    }

    /// A run also takes what there is to report; `first` is true for one.
    fn place(&self, first: bool) -> Place {
        let mut state = self.state();
        match &mut *state {
            State::Ready { instance, early } if instance.is_usable() => {
                let early = if first { early.take() } else { None };
                return Place::Ready(Arc::clone(instance), early);
            }
            State::Initialising(flight) => return Place::Wait(flight.clone()),
            State::Failed(failure) => {
                let failure = Arc::clone(failure);
                if first {
                    *state = State::Cold;
                }
                return Place::Failed(failure);
            }
            State::Untrusted(failure) => {
                let failure = if first { failure.take() } else { None };
                return failure.map_or(Place::Untrusted, Place::Failed);
            }
            State::Stopped => return Place::Stopped,
            State::Ready { .. } | State::Cold => {}
        }
        let (sender, receiver) = watch::channel(None);
        *state = State::Initialising(receiver);
        Place::Init(sender)
    }

    /// An init ahead of a run.
    async fn prepare(self: &Arc<Self>, whose: Whose) {
        let flight = match self.place(false) {
            Place::Init(flight) => flight,
            Place::Wait(mut flight) => {
                // How it ended is the business of whoever began it.
                flight.wait_for(Option::is_some).await.ok();
                return;
            }
            Place::Ready(..) | Place::Failed(_) | Place::Untrusted | Place::Stopped => return,
        };
        let mut clock = Clock::start();
        let run = self.own_run(&clock);
        let mut sink = LogSink::new(self.spec.logs_bytes);
        if let Err(failure) = self.initialise(&run, &mut sink, &mut clock, &flight, whose).await {
            let (name, response) = (&self.spec.name, &failure.response);
            tracing::debug!(action = %name, ?response, "an instance cannot be initialised ahead of a run");
        }
    }

    /// What an init that is no run's gets for its context.
    pub(crate) fn own_run(&self, clock: &Clock) -> Run {
        let mut context = self.spec.identity.clone();
        context.deadline = (clock.start_ms + self.spec.timeout_ms).to_string();
        Run { context, arguments: RawJson::empty_object() }
    }

    async fn initialise(
        self: &Arc<Self>,
        run: &Run,
        sink: &mut LogSink,
        clock: &mut Clock,
        flight: &watch::Sender<Flight>,
        whose: Whose,
    ) -> Result<Acquired, Arc<Failure>> {
        let mut grounded = Grounded(Some(self));
        if self.runtime.home.is_some() {
            // A container is meant for one runtime, and so are its port and its memory.
            self.seat.vacated().await;
        }
        *clock = Clock::start();
        let began = Instant::now();
        let trusts_earlier = self.earlier().is_trusted();
        let started = self.start(run, began + self.limit(), sink, trusts_earlier).await;
        let took = began.elapsed();
        grounded.0 = None;
        match started {
            Ok(instance) => {
                let instance = Arc::new(instance);
                let early = (whose == Whose::First)
                    .then(|| Early { took, sink: std::mem::replace(sink, LogSink::new(0)) });
                self.settle(State::Ready { instance: Arc::clone(&instance), early });
                flight.send_replace(Some(Ok(Arc::clone(&instance))));
                Ok(Acquired { instance, init: Some(took) })
            }
            Err(answer) => {
                let sink = std::mem::replace(sink, LogSink::new(0));
                let failure = Arc::new(self.failure(&answer, sink, took));
                let failure = self.earlier().explain(&answer, failure);
                self.settle_failed(&answer, &failure, flight, whose);
                flight.send_replace(Some(Err(Arc::clone(&failure))));
                Err(failure)
            }
        }
    }

    /// One attempt to start and initialise a runtime.
    pub(crate) async fn start(
        &self,
        run: &Run,
        deadline: Instant,
        sink: &mut LogSink,
        trusts_earlier: bool,
    ) -> Result<Instance, Answer> {
        let init = Init {
            pad: &self.pad,
            spec: &self.spec,
            runtime: &self.runtime,
            supply: &self.supply,
            run,
            deadline,
            seat: &self.seat,
            ready: &self.ready,
            trusts_earlier,
        };
        let started = tokio::select! {
            biased;
            () = self.stopped.cancelled() => Err(Answer::NotStarted),
            started = init.start(sink) => started,
        };
        if started.is_ok() {
            *self.earlier() = Earlier::Succeeded;
        }
        started
    }

    fn failure(&self, answer: &Answer, sink: LogSink, took: Duration) -> Failure {
        let response = answer.response(Stage::Init, self.spec.timeout_ms);
        let logs = sink.finish(response.outcome == Outcome::DeveloperError);
        let shutting_down = self.untaken(answer).is_some();
        let (timed_out, untimed) = (*answer == Answer::TimedOut, AtomicBool::new(true));
        let ran = !matches!(answer, Answer::NotStarted | Answer::Unsent);
        Failure { response, logs, timed_out, took, shutting_down, ran, untimed }
    }

    fn settle_failed(
        self: &Arc<Self>,
        answer: &Answer,
        failure: &Arc<Failure>,
        flight: &watch::Sender<Flight>,
        whose: Whose,
    ) {
        let mut state = self.state();
        if matches!(*state, State::Stopped) {
            return;
        }
        // Its own receiver is one; runs that wait are told now.
        let awaited = flight.receiver_count() > 1;
        let kept = (whose == Whose::First && !awaited && !failure.shutting_down).then(|| Arc::clone(failure));
        match (self.runtime.style, answer) {
            // One that answers may do better the next time; one that hangs will not.
            (Style::Attached(address), Answer::TimedOut) => {
                *state = State::Untrusted(kept);
                drop(state);
                self.await_replacement(address);
            }
            _ => *state = kept.map_or(State::Cold, State::Failed),
        }
    }

    /// Ends an init, unless the shim was stopped meanwhile.
    pub(crate) fn settle(&self, to: State) {
        let mut state = self.state();
        if !matches!(*state, State::Stopped) {
            *state = to;
        }
    }

    /// The same, if it is still untrusted.
    pub(crate) fn trust(&self, to: State) {
        let mut state = self.state();
        if matches!(*state, State::Untrusted(_)) {
            *state = to;
        }
    }

    pub(crate) fn is_untrusted(&self) -> bool {
        matches!(*self.state(), State::Untrusted(_))
    }

    /// No new run gets the instance; it is killed when the last one that has it is over.
    fn retire(&self, instance: &Arc<Instance>) {
        let mut state = self.state();
        if is_current(&state, instance) {
            *state = State::Cold;
        }
    }

    /// The same for an instance that misbehaved: one that cannot be killed takes no run before someone replaced it.
    fn distrust(self: &Arc<Self>, instance: &Arc<Instance>) {
        let Style::Attached(address) = self.runtime.style else { return self.retire(instance) };
        let mut state = self.state();
        if is_current(&state, instance) {
            *state = State::Untrusted(None);
            drop(state);
            self.await_replacement(address);
        }
    }

    fn await_replacement(self: &Arc<Self>, address: SocketAddr) {
        let stopping = self.pad.stopping();
        if !stopping.is_cancelled() {
            tracing::warn!(%address, "the runtime cannot be trusted any more and has to be restarted");
            let replaced = crate::attached::replaced(Arc::downgrade(self), address);
            self.pad.tracker().spawn(stopping.clone().run_until_cancelled_owned(replaced));
        }
    }
}

fn is_current(state: &State, instance: &Arc<Instance>) -> bool {
    matches!(state, State::Ready { instance: current, .. } if Arc::ptr_eq(current, instance))
}

impl Unserved {
    fn told(report: Report) -> Self {
        Self::Told(Box::new(report))
    }
}

impl Failure {
    fn not_started() -> Self {
        let response = Answer::NotStarted.response(Stage::Init, 0);
        let (logs, took, untimed) = (Vec::new(), Duration::ZERO, AtomicBool::new(false));
        Self { response, logs, timed_out: false, took, shutting_down: false, ran: false, untimed }
    }

    /// Of the runs that share a failure the first one states its time.
    fn unserved(&self, clock: Clock) -> Unserved {
        if self.shutting_down {
            return Unserved::Untaken(SHUT_DOWN_TWICE);
        }
        let (response, logs) = (self.response.clone(), self.logs.clone());
        let init = self.untimed.swap(false, Ordering::AcqRel).then_some(self.took);
        let report = clock.report(response, logs, init, Duration::ZERO, self.timed_out);
        Unserved::told(Report { ran: self.ran, ..report })
    }
}
