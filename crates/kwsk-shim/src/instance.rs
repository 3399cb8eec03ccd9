//! One initialised runtime, whatever its protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kwsk_model::limits::MB;
use kwsk_model::proxy::{InitBody, InitValue};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use crate::code::{self, Delivered};
use crate::error::LaunchError;
use crate::launchpad::{Launched, Launchpad};
use crate::logs::LogSink;
use crate::process::{Process, WorkDir};
use crate::protocol::actionloop::Lines;
use crate::protocol::http::{Client, Output, attended};
use crate::protocol::multiplex::Multiplexer;
use crate::protocol::{Answer, init_env, native, process_env, request_line};
use crate::runtime::{Runtime, Style};
use crate::seat::Seat;
use crate::spec::{ActionSpec, Run};
use crate::supply::Supply;

/// Runs at least this long are checked once more at their end: their peak may lie between two samples. Shorter ones
/// have no time to fill memory worth a look.
const LAST_LOOK: Duration = Duration::from_millis(20);
/// A broken connection may be seen before the end of the process that explains it.
const EXPLANATION_WAIT: Duration = Duration::from_millis(200);
/// Set in a kind's environment: the loop's first line says that it is ready.
const WAIT_FOR_ACK: &str = "OW_WAIT_FOR_ACK";

/// A runtime that is ready for runs. Dropping it kills the process and all its children.
#[derive(Debug)]
pub(crate) struct Instance {
    pad: Launchpad,
    spec: Arc<ActionSpec>,
    runtime: Arc<Runtime>,
    seat: Arc<Seat>,
    process: Option<Arc<Process>>,
    link: Link,
}

#[derive(Debug)]
enum Link {
    /// `None` while a run has it.
    Lines(Mutex<Option<Box<Lines>>>),
    Multiplexed(Multiplexer),
    Http {
        client: Client,
        output: Mutex<Option<Box<Output>>>,
    },
    Native(Arc<WorkDir>),
}

/// Kills what was started unless the init got through.
struct Unfinished(Option<Arc<Process>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.kill();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.kill();
        }
    }
}

/// What an init works with.
pub(crate) struct Init<'a> {
    pub(crate) pad: &'a Launchpad,
    pub(crate) spec: &'a Arc<ActionSpec>,
    pub(crate) runtime: &'a Arc<Runtime>,
    pub(crate) supply: &'a Supply,
    pub(crate) run: &'a Run,
    pub(crate) deadline: Instant,
    /// Who its process is.
    pub(crate) seat: &'a Arc<Seat>,
    /// Set as soon as the runtime is there.
    pub(crate) ready: &'a AtomicBool,
    /// A runtime that was not started here and had its init already is as good as one that gets it now.
    pub(crate) trusts_earlier: bool,
}

impl Init<'_> {
    /// Starts and initialises a runtime, or says how `/init` ended.
    pub(crate) async fn start(&self, sink: &mut LogSink) -> Result<Instance, Answer> {
        if let Some(refusal) = self.supply.refusal() {
            return Err(refusal);
        }
        let mut unfinished = Unfinished(None);
        let started = match self.runtime.style {
            Style::Launcher => Box::pin(self.launcher(&mut unfinished, sink)).await,
            Style::Loop => Box::pin(self.foreign_loop(&mut unfinished, sink)).await,
            Style::Native => self.native().await,
            Style::Http => Box::pin(self.http(&mut unfinished, None, sink)).await,
            Style::Attached(address) => Box::pin(self.http(&mut unfinished, Some(address), sink)).await,
        };
        match started {
            Ok(link) => {
                let (pad, spec, runtime) =
                    (self.pad.clone(), Arc::clone(self.spec), Arc::clone(self.runtime));
                let (seat, process) = (Arc::clone(self.seat), unfinished.0.take());
                Ok(Instance { pad, spec, runtime, seat, process, link })
            }
            Err(answer) => match &unfinished.0 {
                Some(process) if answer == Answer::Died => Err(explained(process).await),
                _ => Err(answer),
            },
        }
    }

    fn concurrency(&self) -> u32 {
        self.runtime.concurrency(self.spec.concurrency)
    }

    fn own(&self, unfinished: &mut Unfinished, launched: &Launched) -> Arc<Process> {
        launched.process.gauge.set_limit(self.spec.memory_mb * MB);
        self.seat.take(&launched.process);
        unfinished.0 = Some(Arc::clone(&launched.process));
        Arc::clone(&launched.process)
    }

    fn is_there(&self) {
        self.ready.store(true, Ordering::Release);
    }

    async fn deliver(&self, directory: std::path::PathBuf) -> Result<Delivered, Answer> {
        let spec = self.supply.stock(self.spec, self.deadline).await?;
        timeout_at(self.deadline, code::deliver(&spec, self.runtime, directory))
            .await
            .unwrap_or(Err(Answer::TimedOut))
    }

    async fn launcher(&self, unfinished: &mut Unfinished, sink: &mut LogSink) -> Result<Link, Answer> {
        let concurrent = self.concurrency() > 1;
        let launched = self.pad.blank(self.runtime, concurrent).await.map_err(refused)?;
        let process = self.own(unfinished, &launched);
        self.is_there();
        let _active = self.pad.watch(&process);
        let delivered = self.deliver(process.code().to_owned()).await?;
        let init = json!({"init": {
            "name": self.spec.name, "main": self.spec.main(), "path": process.code(),
            "archive": delivered == Delivered::Archive, "env": init_env(self.spec, self.run), "concurrent": concurrent,
        }});
        let mut lines = Box::new(Lines::new(launched.pipes, self.spec.max_result_bytes));
        let answer = lines.ask_launcher(&process, format!("{init}\n").as_bytes(), self.deadline, sink).await;
        if !answer.is_ok() {
            return Err(answer);
        }
        if !concurrent {
            return Ok(Link::Lines(Mutex::new(Some(lines))));
        }
        let (link, task) = Multiplexer::new(*lines, Arc::clone(&process), self.spec.max_result_bytes);
        self.pad.tracker().spawn(task);
        Ok(Link::Multiplexed(link))
    }

    async fn foreign_loop(&self, unfinished: &mut Unfinished, sink: &mut LogSink) -> Result<Link, Answer> {
        let dir = self.pad.work_dir().map_err(refused)?;
        self.deliver(dir.code()).await?;
        let argv = self.runtime.argv(&self.pad.launchers(), &dir.code(), 0);
        let mut env = process_env(self.spec, self.run);
        env.retain(|(key, _)| key != WAIT_FOR_ACK);
        let launched = self.pad.loaded(self.runtime, dir, argv, env).map_err(cannot_start)?;
        let process = self.own(unfinished, &launched);
        self.is_there();
        let _active = self.pad.watch(&process);
        let mut lines = Box::new(Lines::new(launched.pipes, self.spec.max_result_bytes));
        if self.runtime.command.env.get(WAIT_FOR_ACK).is_some_and(|v| !v.is_empty()) {
            let answer = lines.acknowledged(&process, self.deadline, sink).await;
            if !answer.is_ok() {
                return Err(answer);
            }
        }
        Ok(Link::Lines(Mutex::new(Some(lines))))
    }

    async fn native(&self) -> Result<Link, Answer> {
        let dir = self.pad.work_dir().map_err(refused)?;
        self.deliver(dir.code()).await?;
        Ok(Link::Native(dir))
    }

    async fn http(
        &self,
        unfinished: &mut Unfinished,
        attached: Option<SocketAddr>,
        sink: &mut LogSink,
    ) -> Result<Link, Answer> {
        let (address, process, mut output) = match attached {
            Some(address) => (address, None, None),
            None => {
                let launched = self.pad.blank(self.runtime, self.concurrency() > 1).await.map_err(refused)?;
                let process = self.own(unfinished, &launched);
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, launched.port));
                (address, Some(process), Some(Box::new(Output::new(launched.pipes))))
            }
        };
        let _active = process.as_ref().map(|process| self.pad.watch(process));
        let body = self.init_body().await?;
        let client = Client::new(address, self.spec.max_result_bytes);
        let init = client.init(body, || self.is_there());
        let answer = attended(init, process.as_deref(), output.as_deref_mut(), self.deadline, sink).await;
        let had_it = process.is_none() && self.trusts_earlier && answer.is_initialised_already();
        if !answer.is_ok() && !had_it {
            return Err(answer);
        }
        Ok(Link::Http { client, output: Mutex::new(output) })
    }

    async fn init_body(&self) -> Result<Bytes, Answer> {
        let spec = self.supply.stock(self.spec, self.deadline).await?;
        let code = match &spec.code {
            Some(source) => Some(code::text(source).await.map_err(|error| {
                tracing::error!(%error, "an action's code cannot be read");
                Answer::Unusable(format!("The action's code cannot be read ({error})."))
            })?),
            None => None,
        };
        let value = InitValue {
            name: self.spec.name.clone(),
            main: self.spec.main().to_owned(),
            code,
            binary: self.spec.binary,
            env: init_env(self.spec, self.run),
        };
        serde_json::to_vec(&InitBody { value }).map(Bytes::from).map_err(|_| Answer::NotStarted)
    }
}

/// The platform's fault.
fn refused(error: LaunchError) -> Answer {
    tracing::error!(error = &error as &dyn std::error::Error, "a runtime cannot be started");
    match error {
        LaunchError::NoProgram { program } => Answer::NoExecutable(program),
        LaunchError::PortTaken { port } => Answer::Unusable(format!(
            "Something else listens on port {port}, where the runtime is to; give the shim another with --port, or end \
             what listens."
        )),
        LaunchError::WorkDir { .. }
        | LaunchError::Spawn { .. }
        | LaunchError::Pipe(_)
        | LaunchError::Stopping => Answer::NotStarted,
    }
}

/// The action's fault: the program is its own.
fn cannot_start(error: LaunchError) -> Answer {
    match error {
        LaunchError::Spawn { source, .. } => Answer::error(502, &format!("cannot start action: {source}")),
        LaunchError::NoProgram { program } => Answer::NoExecutable(program),
        error @ (LaunchError::WorkDir { .. }
        | LaunchError::Pipe(_)
        | LaunchError::PortTaken { .. }
        | LaunchError::Stopping) => refused(error),
    }
}

impl Instance {
    /// False once a run can only fail: the process ended, or a run was abandoned half-way.
    pub(crate) fn is_usable(&self) -> bool {
        let process = self.process.as_ref().is_none_or(|p| !p.has_exited());
        process && !self.pad.stopping().is_cancelled()
    }

    pub(crate) fn process(&self) -> Option<&Arc<Process>> {
        self.process.as_ref()
    }

    /// One run.
    pub(crate) async fn run(&self, run: &Run, deadline: Instant, sink: &mut LogSink) -> Answer {
        let began = Instant::now();
        if let Link::Native(dir) = &self.link {
            return self.native(dir, run, deadline, sink).await;
        }
        let _active = self.process.as_ref().map(|process| self.pad.watch(process));
        let answer = match &self.link {
            Link::Lines(slot) => self.lines(slot, run, deadline, sink).await,
            Link::Multiplexed(link) => link.run(run, deadline, sink).await,
            Link::Http { client, output } => self.http(client, output, run, deadline, sink).await,
            Link::Native(_) => Answer::NotStarted,
        };
        match &self.process {
            Some(process) => judged(process, began, answer).await,
            None => answer,
        }
    }

    async fn lines(
        &self,
        slot: &Mutex<Option<Box<Lines>>>,
        run: &Run,
        deadline: Instant,
        sink: &mut LogSink,
    ) -> Answer {
        let taken = take(slot);
        let (Some(mut lines), Some(process)) = (taken, &self.process) else { return Answer::Died };
        let line = request_line(run, None);
        let answer = match self.runtime.style {
            Style::Launcher => lines.ask_launcher(process, &line, deadline, sink).await,
            Style::Loop | Style::Native | Style::Http | Style::Attached(_) => {
                lines.ask_loop(process, &line, deadline, sink).await
            }
        };
        put(slot, lines);
        answer
    }

    async fn http(
        &self,
        client: &Client,
        slot: &Mutex<Option<Box<Output>>>,
        run: &Run,
        deadline: Instant,
        sink: &mut LogSink,
    ) -> Answer {
        // With several runs at a time the first one to find the streams gets what is in them: sentinels cannot say whose
        // a line is.
        let mut output = take(slot);
        let call = client.run(Bytes::from(request_line(run, None)));
        let answer = attended(call, self.process.as_deref(), output.as_deref_mut(), deadline, sink).await;
        if let Some(mut streams) = output {
            let alone = self.runtime.concurrency(self.spec.concurrency) == 1;
            let good = matches!(&answer, Answer::TooLarge { .. })
                || matches!(&answer, Answer::Body { status: 200, body } if body.trim_start().starts_with(['{', '[']));
            if self.runtime.sentinelled && sink.is_collecting() && alone && good {
                streams.settle(sink).await;
            }
            put(slot, streams);
        }
        answer
    }

    async fn native(&self, dir: &Arc<WorkDir>, run: &Run, deadline: Instant, sink: &mut LogSink) -> Answer {
        let began = Instant::now();
        let arguments = run.arguments.get();
        let mut argv = vec![dir.code().join("exec").to_string_lossy().into_owned()];
        argv.extend(native::argument(arguments));
        if self.runtime.home.is_some() {
            self.seat.vacated().await;
        }
        let launched = self.pad.loaded(&self.runtime, Arc::clone(dir), argv, process_env(&self.spec, run));
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => return cannot_start(error),
        };
        let process = Arc::clone(&launched.process);
        self.seat.take(&process);
        // Also when the caller goes away in the middle.
        let _unfinished = Unfinished(Some(Arc::clone(&process)));
        process.gauge.set_limit(self.spec.memory_mb * MB);
        let _active = self.pad.watch(&process);
        let limit = self.spec.max_result_bytes;
        let answer = native::finish(launched, arguments, limit, deadline, sink).await;
        judged(&process, began, answer).await
    }
}

/// Blames memory where it is to blame.
async fn judged(process: &Process, began: Instant, answer: Answer) -> Answer {
    match answer {
        Answer::Died => explained(process).await,
        Answer::TimedOut => answer,
        _ if process.has_exited() && process.was_killed_for_memory() => Answer::OutOfMemory,
        _ => {
            let long = began.elapsed() >= LAST_LOOK;
            let exceeded = long && (process.gauge.is_exceeded() || process.gauge.check(&[process.pid()]));
            if exceeded { Answer::OutOfMemory } else { answer }
        }
    }
}

/// Why a runtime died.
async fn explained(process: &Process) -> Answer {
    timeout(EXPLANATION_WAIT, process.exited()).await.ok();
    let exceeded = process.gauge.is_exceeded() || process.was_killed_for_memory();
    if exceeded { Answer::OutOfMemory } else { Answer::Died }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn put<T>(slot: &Mutex<Option<T>>, value: T) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
}
