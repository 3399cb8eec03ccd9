//! `check`.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kwsk_shim::check::{self, Options, Samples, Target};
use lexopt::{Arg, ValueExt as _};

const HELP: &str = "\
Tell whether a runtime keeps OpenWhisk's contract.

Usage: kwsk-shim check --image-cmd COMMAND (--language NAME | --samples DIR) [OPTIONS]
       kwsk-shim check --runtime ADDR (--language NAME | --samples DIR) [OPTIONS]

The runtime:
  --image-cmd COMMAND  Start it with this command, quoted as for a shell, anew for each case;
                       {port} in it becomes a free port
  --runtime ADDR       Take the one that listens there (HOST:PORT) and was not initialised yet;
                       cases that need a fresh process are skipped
  --port PORT          Where a command without {port} listens; default 8080
  --concurrent N       It takes N activations at a time
  --no-sentinels       It does not mark the end of each activation's logs

The actions it is given:
  --language NAME      Built-in ones: nodejs or python; none: the image brings its own and gets no code
  --samples DIR        Your own: files with these names and any extension; what is missing is skipped,
                       or taken from --language if that is there too
                       (text is sent as it is, anything else as base64)

What is checked and how:
  --filter TEXT        Only cases with TEXT in their names
  --skip TEXT          Not the cases with TEXT in their names
  --list               List the cases and what each expects
  --strict             Fail also on what OpenWhisk's own runtimes do but kwsk can do without (`should`)
  --timeout SECONDS    For each start and each call; default 10
  --time-limit MS      The action time limit that is exceeded on purpose; default 3000
  --json               One JSON document at the end instead of lines

Exit code: 0 the contract is kept, 1 it is broken, 2 nothing could be checked.

Samples:
";

#[derive(Default)]
struct Given {
    command: Option<String>,
    runtime: Option<String>,
    samples: Samples,
    port: Option<u16>,
    concurrent: Option<u32>,
    no_sentinels: bool,
    filter: Option<String>,
    skip: Option<String>,
    strict: bool,
    list: bool,
    json: bool,
    timeout: Option<f64>,
    time_limit: Option<u64>,
}

pub(crate) fn run(args: &mut lexopt::Parser) -> anyhow::Result<ExitCode> {
    let Some(given) = given(args)? else {
        write!(std::io::stdout(), "{HELP}{}", check::sample_table())?;
        return Ok(ExitCode::SUCCESS);
    };
    if given.list {
        return list(given.json);
    }
    let (strict, json) = (given.strict, given.json);
    let options = options(given)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let summary = runtime.block_on(check::run(options, |case| {
        if !json {
            // Nobody reads on when stdout is closed; the exit code still says it all.
            write!(std::io::stdout(), "{}", case.to_text()).ok();
        }
    }))?;
    if json {
        writeln!(std::io::stdout(), "{:#}", summary.to_json(strict))?;
    } else {
        writeln!(std::io::stdout(), "{}", summary.to_line(strict))?;
    }
    Ok(if summary.is_kept(strict) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `None` when help is asked for.
fn given(args: &mut lexopt::Parser) -> anyhow::Result<Option<Given>> {
    let mut given = Given::default();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Long("image-cmd") => given.command = Some(args.value()?.string()?),
            Arg::Long("runtime") => given.runtime = Some(args.value()?.string()?),
            Arg::Long("language") => given.samples.language = Some(args.value()?.string()?.parse()?),
            Arg::Long("samples") => given.samples.directory = Some(args.value()?.into()),
            Arg::Long("port") => given.port = Some(args.value()?.parse().context("--port")?),
            Arg::Long("concurrent") => {
                given.concurrent = Some(args.value()?.parse().context("--concurrent")?)
            }
            Arg::Long("no-sentinels") => given.no_sentinels = true,
            Arg::Long("filter") => given.filter = Some(args.value()?.string()?),
            Arg::Long("skip") => given.skip = Some(args.value()?.string()?),
            Arg::Long("strict") => given.strict = true,
            Arg::Long("list") => given.list = true,
            Arg::Long("json") => given.json = true,
            Arg::Long("timeout") => given.timeout = Some(args.value()?.parse().context("--timeout")?),
            Arg::Long("time-limit") => {
                given.time_limit = Some(args.value()?.parse().context("--time-limit")?)
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(given))
}

fn options(given: Given) -> anyhow::Result<Options> {
    let target = match (&given.command, &given.runtime) {
        (Some(command), None) => Target::Command(split(command)?),
        (None, Some(address)) => Target::Running(resolve(address)?),
        (None, None) => bail!("name the runtime: --image-cmd COMMAND or --runtime ADDR"),
        (Some(_), Some(_)) => bail!("--image-cmd and --runtime exclude each other"),
    };
    let mut options = Options::new(target, given.samples);
    options.port = given.port.unwrap_or(options.port);
    options.concurrent = given.concurrent;
    options.sentinels = !given.no_sentinels;
    options.filter = given.filter;
    options.skip = given.skip;
    if let Some(seconds) = given.timeout {
        let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
        options.timeout = timeout.with_context(|| format!("--timeout: {seconds} is no time to wait"))?;
    }
    options.time_limit = given.time_limit.map_or(options.time_limit, Duration::from_millis);
    Ok(options)
}

fn split(command: &str) -> anyhow::Result<Vec<String>> {
    let argv =
        shlex::split(command).with_context(|| format!("--image-cmd: a quote is not closed in {command}"))?;
    if argv.is_empty() {
        bail!("--image-cmd: the command is empty");
    }
    Ok(argv)
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let found = address.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.with_context(|| format!("--runtime: '{address}' is no address such as 127.0.0.1:8080"))
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if json {
        let entry = |case: &check::Case| serde_json::json!({"name": case.name, "level": case.level.name(), "contract": case.rule});
        let all: Vec<_> = check::cases().iter().map(entry).collect();
        writeln!(out, "{:#}", serde_json::json!({ "cases": all }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for case in check::cases() {
        writeln!(out, "{:<22}{:<8}{}", case.name, case.level.name(), case.rule)?;
    }
    Ok(ExitCode::SUCCESS)
}
