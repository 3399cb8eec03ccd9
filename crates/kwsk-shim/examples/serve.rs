//! One shim on a socket, for benchmarks and by hand:
//! `serve --kind-command '<RuntimeCommand as JSON>' --code FILE [--binary] [--main M] [--concurrency N]
//! [--listen 127.0.0.1:0]`. The bound address is the first line of stdout; SIGTERM ends it.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;

use kwsk_shim::{ActionSpec, CodeSource, Launchpad, Runtime, Sandbox, Shim, reap_leftovers, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Default)]
struct Options {
    command: String,
    code: Option<std::path::PathBuf>,
    binary: bool,
    main: Option<String>,
    concurrency: u32,
    listen: String,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options { concurrency: 1, listen: "127.0.0.1:0".into(), ..Options::default() };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        if flag == "--binary" {
            options.binary = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--kind-command" => options.command = value,
            "--code" => options.code = Some(value.into()),
            "--main" => options.main = Some(value),
            "--concurrency" => options.concurrency = value.parse()?,
            "--listen" => options.listen = value,
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    Ok(options)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let root = tempfile::tempdir()?;
    reap_leftovers(root.path());
    let mut sandbox = Sandbox::new(root.path());
    if let Some(path) = std::env::vars().find(|(key, _)| key == "PATH") {
        sandbox.path = path.1;
    }
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let pad = Launchpad::new(sandbox, tracker.clone(), stop.clone()).await?;
    let mut spec = ActionSpec::new("bench", "bench:1", options.code.map(CodeSource::File));
    spec.binary = options.binary;
    spec.main = options.main;
    spec.concurrency = options.concurrency;
    let runtime = Arc::new(Runtime::new("bench:1", serde_json::from_str(&options.command)?));
    let shim = Arc::new(Shim::new(Arc::new(spec), runtime, pad));
    let listener = TcpListener::bind(&options.listen).await?;
    writeln!(std::io::stdout().lock(), "{}", listener.local_addr()?)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = stop.clone();
    tracker.spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
            () = shutdown.cancelled() => {}
        }
        shutdown.cancel();
    });
    serve(listener, shim, stop.clone()).await?;
    stop.cancel();
    tracker.close();
    tracker.wait().await;
    Ok(())
}
