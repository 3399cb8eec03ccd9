//! The load client: keep-alive connections on bare hyper.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// A request that can be sent again and again.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Bytes,
    /// Any other status is an error.
    pub(crate) expect: StatusCode,
}

impl Request {
    /// A POST of JSON that is answered with 200.
    pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Self {
        let (method, expect) = (Method::POST, StatusCode::OK);
        Self { method, path: path.to_owned(), authorization: None, body: body.into(), expect }
    }
}

/// One connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    /// Ends with the client.
    _driver: JoinSet<()>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        // The sender learns of what goes wrong here.
        driver.spawn(async move { drop(connection.await) });
        Ok(Self { sender, host: address.to_string(), _driver: driver })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&mut self, request: &Request) -> anyhow::Result<Bytes> {
        let exchange = async {
            let mut builder = hyper::Request::builder().method(&request.method).uri(&request.path);
            builder = builder.header(HOST, &self.host).header(CONTENT_TYPE, "application/json");
            if let Some(authorization) = &request.authorization {
                builder = builder.header(AUTHORIZATION, authorization);
            }
            self.sender.ready().await?;
            let answer = self.sender.send_request(builder.body(Full::new(request.body.clone()))?).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            let told = || String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            ensure!(status == request.expect, "{} {}: {status}: {}", request.method, request.path, told());
            Ok(body)
        };
        let answer = timeout(PATIENCE, exchange).await;
        answer.with_context(|| format!("{} {} is not answered", request.method, request.path))?
    }

    /// Sends a request `count` times, one after the other; microseconds each.
    pub(crate) async fn block(&mut self, request: &Request, count: usize) -> anyhow::Result<Vec<f64>> {
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            self.send(request).await?;
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok(took)
    }
}

/// Sends `count` requests over connections that are busy all the time; returns how long all of it took.
pub(crate) async fn storm(
    address: SocketAddr,
    connections: usize,
    count: usize,
    request: impl Fn(usize) -> Request + Clone + Send + 'static,
) -> anyhow::Result<Duration> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Client::connect(address).await?);
    }
    let began = Instant::now();
    let mut workers: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for (first, mut client) in clients.into_iter().enumerate() {
        let request = request.clone();
        workers.spawn(async move {
            for number in (first..count).step_by(connections) {
                client.send(&request(number)).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}

/// Waits until something listens.
pub(crate) async fn wait_listening(address: SocketAddr, patience: Duration) -> anyhow::Result<()> {
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(patience, connected).await.with_context(|| format!("nothing listens on {address}"))
}

/// Waits until a GET is answered with 200, whatever it was answered with before.
pub(crate) async fn wait_ready(address: SocketAddr, path: &str, patience: Duration) -> anyhow::Result<()> {
    let answered = async {
        while first_answer(address, path).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(patience, answered).await.with_context(|| format!("{path} of {address} does not become ready"))
}

/// Waits until something listens, whose answer to a GET has to be 200.
pub(crate) async fn first_answer(address: SocketAddr, path: &str) -> anyhow::Result<()> {
    wait_listening(address, PATIENCE).await?;
    let mut client = Client::connect(address).await?;
    client.send(&Request { method: Method::GET, ..Request::post(path, "") }).await?;
    Ok(())
}
