//! What a case works with: the runtime, fresh where there can be a fresh one, and shims on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kwsk_model::json::RawJson;
use kwsk_model::proxy::{InitBody, InitValue, RunBody, RunContext};
use kwsk_model::runtimes::{Protocol, RuntimeCommand};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::Exchange;
use super::finding::Stop;
use super::samples::{Code, Sample, Shelf};
use super::subject::Subject;
use super::{CheckError, Options, Target};
use crate::launchpad::Launchpad;
use crate::ports::free_port;
use crate::process::find;
use crate::runtime::{Home, Runtime, Sandbox};
use crate::shim::Shim;
use crate::spec::{ActionSpec, CodeSource};

const PORT: &str = "{port}";
const FRESH: &str = "it needs a fresh process, and the runtime was started by someone else";
/// Enough for any runtime: how much an image needs is not what is checked.
const MEMORY_MB: u64 = 4096;
const OWN_ACTION: &str = "the image brings its own action";

/// The table that cases are put on.
pub(super) struct Bench {
    pub(super) options: Options,
    shelf: Shelf,
    subject: Option<Subject>,
    shims: Vec<Shim>,
    pads: Pads,
    /// Why nothing more can be tried.
    lost: Option<&'static str>,
}

/// Where the shims' processes live.
struct Pads {
    pad: Launchpad,
    tracker: TaskTracker,
    stop: CancellationToken,
    _root: tempfile::TempDir,
}

/// How a shim comes to its runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It starts it.
    Exec,
    /// It finds it running.
    Attach,
}

impl Bench {
    pub(super) async fn new(options: Options) -> Result<Self, CheckError> {
        let shelf = Shelf::load(&options.samples)?;
        let pads = Pads::new().await?;
        if let Target::Command(argv) = &options.target {
            let program = argv.first().cloned().unwrap_or_default();
            if program.is_empty() || !find(&program, &pads.pad.sandbox().path).is_file() {
                return Err(CheckError::NoProgram(program));
            }
            if !has_port(argv) && !is_free(options.port) {
                return Err(CheckError::PortTaken(options.port));
            }
        }
        Ok(Self { options, shelf, subject: None, shims: Vec::new(), pads, lost: None })
    }

    /// Ends what the case used, except a runtime that someone else started.
    pub(super) async fn clear(&mut self) {
        for shim in self.shims.drain(..) {
            shim.stop().await;
        }
        if let Target::Command(_) = self.options.target
            && let Some(subject) = self.subject.take()
        {
            subject.stop().await;
        }
    }

    pub(super) async fn close(self) {
        self.pads.stop.cancel();
        self.pads.tracker.close();
        self.pads.tracker.wait().await;
    }

    /// The runtime, started if need be.
    pub(super) async fn subject(&mut self) -> Result<&mut Subject, Stop> {
        if let Some(reason) = self.lost {
            return Err(Stop::skip(reason));
        }
        if self.subject.is_none() {
            match self.start().await {
                Ok(subject) => self.subject = Some(subject),
                Err(got) => {
                    self.lost = Some("the runtime does not accept connections");
                    let expected = format!(
                        "it accepts connections on its port within {} ms",
                        self.options.timeout.as_millis()
                    );
                    return Err(Stop::fail("nothing", expected, got));
                }
            }
        }
        self.subject.as_mut().ok_or_else(|| Stop::skip("there is no runtime"))
    }

    async fn start(&self) -> Result<Subject, String> {
        let patience = self.options.timeout;
        match &self.options.target {
            Target::Running(address) => {
                let mut subject = Subject::running(*address);
                subject.accepts(patience).await.map(|()| subject)
            }
            Target::Command(argv) => {
                let free = || free_port().map_err(|error| format!("there is no free port: {error}"));
                let port = if has_port(argv) { free()? } else { self.options.port };
                Subject::start(argv, port, self.is_concurrent(), patience).await
            }
        }
    }

    /// Skips the case unless the runtime can be a process of its own.
    pub(super) fn fresh(&self) -> Result<(), Stop> {
        match self.options.target {
            Target::Command(_) => Ok(()),
            Target::Running(_) => Err(Stop::skip(FRESH)),
        }
    }

    /// Skips the case if the runtime has code already.
    pub(super) fn untouched(&self) -> Result<(), Stop> {
        let touched = self.subject.as_ref().is_some_and(|subject| subject.initialised.is_some());
        if touched { self.fresh() } else { Ok(()) }
    }

    /// Skips the case for images that bring their own action.
    pub(super) fn given(&self) -> Result<(), Stop> {
        if self.brings_own() { Err(Stop::skip(OWN_ACTION)) } else { Ok(()) }
    }

    pub(super) fn brings_own(&self) -> bool {
        self.shelf.own
    }

    pub(super) fn is_concurrent(&self) -> bool {
        self.options.concurrent.is_some_and(|n| n > 1)
    }

    fn code(&self, sample: Sample) -> Result<&Code, Stop> {
        self.given()?;
        self.shelf.get(sample).ok_or_else(|| Stop::skip(format!("there is no sample '{}'", sample.name())))
    }

    /// `POST /init`.
    pub(super) async fn init(&mut self, sample: Option<Sample>, env: Value) -> Result<Exchange, Stop> {
        let code = sample.map(|sample| self.code(sample).cloned()).transpose()?;
        let env = match env {
            Value::Object(env) => env,
            _ => Map::new(),
        };
        let value = InitValue {
            name: "sample".into(),
            main: sample.map_or("main", Sample::main).into(),
            binary: code.as_ref().is_some_and(|code| code.binary),
            code: code.map(|code| code.text),
            env,
        };
        self.post("/init", serde_json::to_vec(&InitBody { value }).unwrap_or_default()).await
    }

    /// Makes the runtime ready for runs of `sample`.
    pub(super) async fn ready(&mut self, sample: Sample) -> Result<(), Stop> {
        self.ready_with(sample, json!({})).await
    }

    /// The same with an environment.
    pub(super) async fn ready_with(&mut self, sample: Sample, env: Value) -> Result<(), Stop> {
        self.code(sample)?;
        self.prepare(Some(sample), env).await
    }

    /// Makes the runtime ready for runs of some action.
    pub(super) async fn ready_somehow(&mut self) -> Result<(), Stop> {
        let sample = (!self.brings_own()).then_some(Sample::Echo);
        self.prepare(sample, json!({})).await
    }

    async fn prepare(&mut self, sample: Option<Sample>, env: Value) -> Result<(), Stop> {
        if let Target::Running(_) = self.options.target
            && sample.is_some_and(|sample| sample != Sample::Echo)
        {
            return self.fresh();
        }
        if self.subject().await?.initialised == Some(sample) {
            return Ok(());
        }
        let init = self.init(sample, env).await?;
        if let Err(stop) = init.answered_if("status 200", |reply| reply.status == 200) {
            if sample.is_none_or(|sample| sample == Sample::Echo) {
                self.lost = Some("the runtime cannot be initialised");
            }
            return Err(stop);
        }
        self.subject().await?.initialised = Some(sample);
        Ok(())
    }

    /// `POST /run`.
    pub(super) async fn run(&mut self, arguments: Value) -> Result<Exchange, Stop> {
        self.run_as(arguments, context()).await
    }

    /// The same with a context.
    pub(super) async fn run_as(&mut self, arguments: Value, context: RunContext) -> Result<Exchange, Stop> {
        self.post("/run", run_body(arguments, context)).await
    }

    /// Anything anywhere.
    pub(super) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<Exchange, Stop> {
        let patience = self.options.timeout;
        let address = self.subject().await?.address;
        Ok(Exchange::post(address, path, body.into(), patience).await)
    }

    /// A shim for `sample` with a runtime of its own.
    pub(super) async fn shim(
        &mut self,
        mode: Mode,
        sample: Sample,
        change: impl FnOnce(&mut ActionSpec),
    ) -> Result<Shim, Stop> {
        self.fresh()?;
        let code =
            if self.brings_own() && sample == Sample::Echo { None } else { Some(self.code(sample)?.clone()) };
        let mut spec = ActionSpec::new("sample", "check", None);
        spec.binary = code.as_ref().is_some_and(|code| code.binary);
        spec.code = code.map(|code| CodeSource::Inline(code.text.into()));
        spec.main = Some(sample.main().into());
        spec.timeout_ms = u64::try_from(self.options.timeout.as_millis()).unwrap_or(u64::MAX);
        spec.memory_mb = MEMORY_MB;
        change(&mut spec);
        let runtime = match mode {
            Mode::Exec => self.started_by_shim()?,
            Mode::Attach => Runtime::attached("check", self.subject().await?.address, self.is_concurrent()),
        };
        let shim = Shim::new(Arc::new(spec), Arc::new(runtime), self.pads.pad.clone());
        self.shims.push(shim.clone());
        Ok(shim)
    }

    fn started_by_shim(&self) -> Result<Runtime, Stop> {
        if let Some(reason) = self.lost {
            return Err(Stop::skip(reason));
        }
        let Target::Command(argv) = &self.options.target else { return Err(Stop::skip(FRESH)) };
        let port = if has_port(argv) {
            free_port().map_err(|error| Stop::skip(format!("there is no free port: {error}")))?
        } else {
            self.options.port
        };
        let command = RuntimeCommand {
            protocol: Protocol::Http,
            argv: argv.iter().map(|arg| arg.replace(PORT, &port.to_string())).collect(),
            env: BTreeMap::new(),
            prewarm: false,
            concurrent: self.is_concurrent(),
        };
        let runtime = Runtime { sentinelled: self.options.sentinels, ..Runtime::new("check", command) };
        // The command may name files as one does here.
        let cwd = std::env::current_dir().unwrap_or_else(|_| "/".into());
        Ok(runtime.at_home(Home { env: inherited(), cwd, port }))
    }
}

impl Pads {
    async fn new() -> Result<Self, CheckError> {
        let root = tempfile::tempdir().map_err(CheckError::Temporary)?;
        let mut sandbox = Sandbox::new(root.path().join("work"));
        let path = inherited().into_iter().find(|(name, _)| name == "PATH");
        if let Some(path) = path.and_then(|(_, path)| path.into_string().ok()) {
            sandbox.path = path;
        }
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let pad = Launchpad::new(sandbox, tracker.clone(), stop.clone()).await?;
        Ok(Self { pad, tracker, stop, _root: root })
    }
}

/// Our environment, as an image's own would be; without the port, which is the shim's.
fn inherited() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name != "PORT").collect()
}

/// A context with an activation id of its own.
pub(super) fn context() -> RunContext {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RunContext {
        namespace: "guest".into(),
        action_name: "/guest/check/sample".into(),
        action_version: "0.0.1".into(),
        activation_id: format!("{:032x}", NEXT.fetch_add(1, Ordering::Relaxed)),
        transaction_id: "check".into(),
        deadline: (now + Duration::from_secs(60)).as_millis().to_string(),
        api_key: Some("23bc46b1-71f6-4ed5-8c54-816aa4f8c502:key".into()),
    }
}

pub(super) fn run_body(arguments: Value, context: RunContext) -> Vec<u8> {
    serde_json::to_vec(&RunBody { value: RawJson::from(arguments), context }).unwrap_or_default()
}

fn has_port(argv: &[String]) -> bool {
    argv.iter().any(|arg| arg.contains(PORT))
}

fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err()
}
