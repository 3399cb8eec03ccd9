//! Signals: some are the runtime's, the others end the shim without losing a run.

use std::future::poll_fn;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use kwsk_shim::Shim;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Between the runtime's SIGTERM and its SIGKILL.
const PATIENCE: Duration = Duration::from_secs(1);
/// For the last answers to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH.
const FORWARDED: [i32; 5] = [1, 3, 10, 12, 28];

/// Every signal the shim handles, with its number.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let numbers = FORWARDED.into_iter().chain([SIGINT, SIGTERM]);
        numbers
            .map(|number| Ok((number, signal(SignalKind::from_raw(number))?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if let Poll::Ready(Some(())) = signal.poll_recv(context) {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Passes on what is the runtime's, and returns the first that is ours.
    async fn own(&mut self, shim: &Shim) -> i32 {
        loop {
            match self.next().await {
                number if FORWARDED.contains(&number) => {
                    shim.signal(number);
                }
                number => return number,
            }
        }
    }
}

/// Serves until SIGTERM or SIGINT; then no connection is taken any more, and what runs has `grace` to end. The runtime
/// is asked to end after that, and killed when it does not. A second signal waits for nothing.
pub(crate) async fn serve(listener: TcpListener, shim: &Shim, grace: Duration) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let shutdown = CancellationToken::new();
    let server = kwsk_shim::serve(listener, Arc::new(shim.clone()), shutdown.clone());
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => {
            ended?;
            return Ok(ExitCode::SUCCESS);
        }
        _ = signals.own(shim) => shutdown.cancel(),
    }
    let drained = async {
        let out_of_time = tokio::select! {
            _ = &mut server => false,
            () = sleep_until(Instant::now() + grace) => true,
        };
        if !out_of_time {
            return shim.terminate(PATIENCE).await;
        }
        tracing::warn!("runs did not end within the grace and are given up");
        // Their callers hear of it.
        let last_words = timeout(PATIENCE + LAST_WORDS, &mut server);
        let ((), _) = tokio::join!(shim.terminate(PATIENCE), last_words);
    };
    tokio::pin!(drained);
    tokio::select! {
        () = &mut drained => Ok(ExitCode::SUCCESS),
        number = signals.own(shim) => {
            shim.signal(9);
            Ok(ExitCode::from(u8::try_from(128 + number).unwrap_or(1)))
        }
    }
}
