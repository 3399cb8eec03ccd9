//! From a signal to the end: stop accepting, drain, shut down; a second signal cuts the drain short.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::Standalone;
use crate::serve::GRACE;

/// What the drain gets when requests took the whole grace period.
const MOMENT: Duration = Duration::from_secs(1);
/// How long runtimes get to end when somebody insists.
const INSISTED: Duration = Duration::from_secs(2);

/// SIGINT and SIGTERM.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Listens from now on, so that a signal during the start is not lost.
///
/// # Errors
/// When the system refuses.
pub fn listen() -> io::Result<Signals> {
    Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
}

/// Runs `served` until a signal, then brings everything to its end.
pub async fn drive(
    mut signals: Signals,
    stop: CancellationToken,
    served: impl Future<Output = ()>,
    standalone: Standalone,
) {
    let mut served = std::pin::pin!(served);
    let name = tokio::select! {
        () = &mut served => "the end of the listener",
        name = signals.next() => name,
    };
    tracing::info!("{name}: no new connections, waiting for what runs; a second signal does not wait");
    stop.cancel();
    let grace_ends = Instant::now() + GRACE;
    let drained = async {
        served.await;
        // The requests that ended late leave the drain a moment at least.
        let until = grace_ends.max(Instant::now() + MOMENT);
        if tokio::time::timeout_at(until, standalone.drain()).await.is_err() {
            tracing::warn!(
                "invocations were still running; their records will say that they were interrupted"
            );
        }
    };
    let insisted = tokio::select! {
        () = drained => false,
        _ = signals.next() => true,
    };
    let longest = if insisted { INSISTED } else { GRACE };
    if tokio::time::timeout(longest, standalone.stop()).await.is_err() {
        tracing::warn!("runtimes did not end in time");
    }
    tracing::info!("stopped");
}
