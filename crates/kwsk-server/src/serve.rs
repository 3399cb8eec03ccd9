//! Binding, accepting, draining.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::report::Fatal;
use crate::routes;

/// How long the head of a request may take, and how long a connection may be idle: as upstream's edge.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// Most connections at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long requests may go on after the shutdown began.
pub const GRACE: Duration = Duration::from_secs(10);
/// The pause after an accept failed, which mostly means there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the address.
///
/// # Errors
/// [`Fatal::Bind`], which names the address and the flag.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, Fatal> {
    TcpListener::bind(listen).await.map_err(|source| Fatal::Bind { listen, source })
}

/// Serves until `stop`, then lets the requests in flight end, at most [`GRACE`] long.
pub async fn serve(app: Arc<App>, listener: TcpListener, stop: CancellationToken) {
    let service = TowerToHyperService::new(routes::router(app));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    while let Some((stream, permit)) = next(&listener, &room, &stop).await {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
        let connection = builder.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight when the grace period ended");
    }
    connections.shutdown().await;
}

/// The next connection with its place; nothing once the server is to stop.
async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let accepting = async {
        let permit = Arc::clone(room).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, permit)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let (stream, permit) = stop.run_until_cancelled(accepting).await??;
    // Answers are written in one piece; waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    Some((stream, permit))
}
