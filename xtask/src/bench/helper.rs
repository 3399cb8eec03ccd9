//! The baselines: the least that does the same work without kwsk. Each runs in a process of its own.

use std::convert::Infallible;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Subcommand;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What OpenWhisk's runtimes print after every run.
const SENTINEL: &[u8] = b"XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n";

/// The baselines the bench compares with.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    helper: Helper,
}

#[derive(Debug, Subcommand)]
enum Helper {
    /// An HTTP server that answers what it is sent.
    HyperEcho(Listen),
    /// An HTTP server that hands everything on.
    ReverseProxy {
        #[command(flatten)]
        listen: Listen,
        #[arg(long)]
        to: SocketAddr,
    },
    /// A runtime of OpenWhisk's HTTP contract that answers its arguments.
    HttpRuntime(Listen),
    /// A runtime of the ActionLoop contract that answers its arguments.
    ActionloopEcho,
}

#[derive(Debug, clap::Args)]
struct Listen {
    #[arg(long)]
    listen: SocketAddr,
}

/// What is needed of a `/run` body or an ActionLoop line.
#[derive(Deserialize)]
struct Run<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.helper {
        Helper::HyperEcho(Listen { listen }) => threaded()?.block_on(serve(*listen, echo)),
        Helper::ReverseProxy { listen: Listen { listen }, to } => threaded()?.block_on(proxy(*listen, *to)),
        Helper::HttpRuntime(Listen { listen }) => single()?.block_on(serve(*listen, runtime)),
        Helper::ActionloopEcho => actionloop_echo(),
    }
}

fn threaded() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn single() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Answers every request on every connection; ends only with the process.
async fn serve<A, F>(listen: SocketAddr, answer: A) -> anyhow::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send,
{
    let listener = TcpListener::bind(listen).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        while connections.try_join_next().is_some() {}
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            // A client that goes away is no error.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match request.into_body().collect().await {
        Ok(body) => Response::new(Full::new(body.to_bytes())),
        Err(_) => status(StatusCode::BAD_REQUEST),
    }
}

async fn proxy(listen: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<HttpConnector, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    serve(listen, move |request| forward(client.clone(), request, to)).await
}

async fn forward(
    client: Client<HttpConnector, Incoming>,
    mut request: Request<Incoming>,
    to: SocketAddr,
) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = Uri::builder().scheme("http").authority(to.to_string()).path_and_query(path).build() else {
        return status(StatusCode::BAD_REQUEST);
    };
    *request.uri_mut() = uri;
    let Ok(answer) = client.request(request).await else { return status(StatusCode::BAD_GATEWAY) };
    let (head, body) = answer.into_parts();
    match body.collect().await {
        Ok(body) => Response::from_parts(head, Full::new(body.to_bytes())),
        Err(_) => status(StatusCode::BAD_GATEWAY),
    }
}

async fn runtime(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let is_run = request.uri().path() == "/run";
    let Ok(body) = request.into_body().collect().await else { return status(StatusCode::BAD_REQUEST) };
    if !is_run {
        return Response::new(Full::from(r#"{"ok":true}"#));
    }
    let body = body.to_bytes();
    let Ok(run) = serde_json::from_slice::<Run<'_>>(&body) else { return status(StatusCode::BAD_REQUEST) };
    let answer = Bytes::copy_from_slice(run.value.get().as_bytes());
    if std::io::stdout().write_all(SENTINEL).and_then(|()| std::io::stderr().write_all(SENTINEL)).is_err() {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    }
    Response::new(Full::new(answer))
}

fn actionloop_echo() -> anyhow::Result<()> {
    let opened = std::fs::File::options().write(true).open("/proc/self/fd/3");
    let mut answers = opened.context("file descriptor 3 cannot be opened")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let run: Run<'_> = serde_json::from_str(&line)?;
        answers.write_all(format!("{}\n", run.value.get()).as_bytes())?;
    }
    Ok(())
}
