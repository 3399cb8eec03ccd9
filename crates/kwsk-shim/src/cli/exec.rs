//! `exec` and `attach`.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use kwsk_model::runtimes::{Protocol, RuntimeCommand};
use kwsk_shim::{ContainerAction, Home, Launchpad, Runtime, Sandbox};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::flags::{Environment, Flags, Mode};
use super::work::Work;
use super::{drain, log};

const EXEC_HELP: &str = "\
Start a runtime in this container and answer Knative for it.

Usage: kwsk-shim exec [OPTIONS] -- COMMAND [ARGUMENTS]

The command is the image's own: it is started where the shim was, with the container's environment, and has to listen on
port 8080. With --protocol actionloop it may also be {native}, or contain {launcher:node}, {launcher:python} or {code}.

  kwsk-shim exec -- node --expose-gc app.js
  kwsk-shim exec --protocol actionloop --concurrent -- node '{launcher:node}'
  kwsk-shim exec --protocol actionloop -- '{native}'

Runtime:
  --protocol http|actionloop  How it is spoken to [http]
  --port N                    Where an HTTP runtime listens [8080]
  --concurrent                It can run several activations at a time
  --no-sentinels              It does not say when its logs are complete
  --work DIR                  For code and launchers [the first of $TMPDIR, /tmp, /dev/shm, /var/tmp to be writable]
";

const ATTACH_HELP: &str = "\
Answer Knative for a runtime that someone else starts, such as the neighbour container of a sidecar.

Usage: kwsk-shim attach [OPTIONS]

The shim cannot end such a runtime: after a failed run it takes no other before the runtime was restarted. It does not see
its logs either.

  kwsk-shim attach
  kwsk-shim attach --runtime 127.0.0.1:8080 --timeout 30000

Runtime:
  --runtime ADDRESS           Where it listens [127.0.0.1:8080]
  --concurrent                It can run several activations at a time
";

const COMMON_HELP: &str = "
Action, each instead of what is mounted:
  --action DIR                Where it is mounted: the files runtime, code, parameters, api-key [/kwsk/action]
  --name NAME                 Its name, as name or /namespace/[package/]name
  --kind KIND                 Its runtime kind
  --code FILE                 Its code
  --main NAME                 Its entry point
  --binary                    The code is base64
  --timeout MS                For an init and for a run [60000]
  --memory MB                 For the runtime's processes [256]
  --logs BYTES                Of an activation; 0 collects none [10485760]
  --concurrency N             Activations at a time, if the runtime can [1]

Server:
  --listen ADDRESS            [$PORT or 8090; on 127.0.0.1 under Knative, else on 0.0.0.0]
  --grace SECONDS             For runs under way after SIGTERM; a second signal does not wait [30]

Environment:
  KWSK_CODE_URL               Where code that is not mounted is fetched: <url>/<sha256>
  KWSK_TOKEN                  The file with the bearer token for that [/kwsk/token/token]
  KWSK_LOG                    off, error, warn, info, debug or trace [info]
";

pub(crate) fn exec(args: &mut lexopt::Parser) -> anyhow::Result<ExitCode> {
    let environment = Environment::read();
    let Some(flags) = Flags::parse(args, Mode::Exec, &environment)? else { return help(EXEC_HELP) };
    if flags.argv.is_empty() {
        bail!("exec: no command for the runtime is given, as in `kwsk-shim exec -- node app.js`");
    }
    let address = flags.address(&environment)?;
    if flags.protocol == Protocol::Http && address.port() == flags.port {
        bail!(
            "the shim and the runtime cannot both have port {}; give the container another PORT, or the runtime's as \
             --port",
            flags.port
        );
    }
    let command = RuntimeCommand {
        protocol: flags.protocol,
        argv: flags.argv.clone(),
        env: std::collections::BTreeMap::new(),
        prewarm: false,
        concurrent: flags.concurrent,
    };
    let cwd = std::env::current_dir().context("the working directory cannot be found")?;
    let home = Home { env: environment.of_runtime(), cwd, port: flags.port };
    let runtime = Runtime::new(flags.given.kind.as_deref().unwrap_or("container"), command).at_home(home);
    let runtime = if flags.sentinels { runtime } else { runtime.without_sentinels() };
    run(&flags, &environment, runtime, address)
}

pub(crate) fn attach(args: &mut lexopt::Parser) -> anyhow::Result<ExitCode> {
    let environment = Environment::read();
    let Some(flags) = Flags::parse(args, Mode::Attach, &environment)? else { return help(ATTACH_HELP) };
    let address = flags.address(&environment)?;
    if address.port() == flags.runtime.port() && flags.runtime.ip().is_loopback() {
        bail!("the shim would ask itself: the runtime is said to listen on {}, too", flags.runtime);
    }
    let runtime = Runtime::attached("container", flags.runtime, flags.concurrent);
    run(&flags, &environment, runtime, address)
}

fn help(of_command: &str) -> anyhow::Result<ExitCode> {
    write!(std::io::stdout(), "{of_command}{COMMON_HELP}")?;
    Ok(ExitCode::SUCCESS)
}

fn run(
    flags: &Flags,
    environment: &Environment,
    runtime: Runtime,
    address: SocketAddr,
) -> anyhow::Result<ExitCode> {
    log::start(environment.log_level()?);
    let listener = TcpListener::bind(address).with_context(|| format!("{address} cannot be listened on"))?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    // A second thread would only add wake-ups; the few blocking ones are for files.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let mut action = ContainerAction::load(&flags.given);
    let work = match runtime.needs_no_files() {
        true => None,
        false => match Work::within(&parents(flags, environment)) {
            Ok(work) => Some(work),
            Err(why) if flags.work.is_some() => bail!("--work: {why}"),
            Err(why) => {
                action.refuse(why);
                None
            }
        },
    };
    writeln!(std::io::stdout(), "listening on {bound}")?;
    let ended = tokio.block_on(serve(flags, environment, runtime, action, work.as_ref(), listener));
    tokio.shutdown_background();
    ended
}

fn parents(flags: &Flags, environment: &Environment) -> Vec<PathBuf> {
    match &flags.work {
        Some(work) => vec![work.clone()],
        None => {
            let usual = ["/tmp", "/dev/shm", "/var/tmp"].map(PathBuf::from);
            environment.path("TMPDIR").into_iter().chain(usual).collect()
        }
    }
}

async fn serve(
    flags: &Flags,
    environment: &Environment,
    runtime: Runtime,
    action: ContainerAction,
    work: Option<&Work>,
    listener: TcpListener,
) -> anyhow::Result<ExitCode> {
    let mut sandbox = Sandbox::new(work.map_or_else(PathBuf::new, |work| work.path().to_owned()));
    if let Some(path) = environment.text("PATH")? {
        sandbox.path = path;
    }
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let pad = Launchpad::of_container(sandbox, tracker.clone(), stop.clone(), work.is_some()).await?;
    let shim = action.shim(runtime, pad);
    tracker.spawn(stop.clone().run_until_cancelled_owned(shim.init_eagerly()));
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let ended = drain::serve(listener, &shim, flags.grace).await;
    stop.cancel();
    tracker.close();
    if ended.as_ref().is_ok_and(|code| *code == ExitCode::SUCCESS) {
        tracker.wait().await;
    }
    ended
}
