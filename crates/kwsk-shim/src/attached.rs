//! Runtimes that someone else started: what is known of their inits, and how it shows that one was replaced.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Clock;
use crate::instance::Instance;
use crate::logs::LogSink;
use crate::protocol::Answer;
use crate::shim::{Failure, Inner, State};

const LOOK: Duration = Duration::from_millis(100);
const CONNECT_WAIT: Duration = Duration::from_secs(1);
const INIT_WAIT: Duration = Duration::from_secs(5);
const INIT_EVERY_FIRST: Duration = Duration::from_secs(1);
const INIT_EVERY_MOST: Duration = Duration::from_secs(30);

/// What earlier `/init`s came to. A runtime takes only one: a refusal of the second says nothing about the first.
#[derive(Debug, Default)]
pub(crate) enum Earlier {
    /// There was none, as far as this shim knows; an earlier shim may have sent one.
    #[default]
    None,
    Succeeded,
    /// The last one that failed with an answer.
    Failed(Arc<Failure>),
}

impl Earlier {
    /// True when a runtime that had its init already can only have had a good one.
    pub(crate) fn is_trusted(&self) -> bool {
        matches!(self, Self::None | Self::Succeeded)
    }

    /// The failure that counts: a runtime that failed its init and then refuses a second has not changed its mind.
    pub(crate) fn explain(&mut self, answer: &Answer, failure: Arc<Failure>) -> Arc<Failure> {
        match self {
            Self::Failed(first) if answer.is_initialised_already() => return Arc::clone(first),
            Self::None | Self::Succeeded | Self::Failed(_) => {}
        }
        if matches!(answer, Answer::Body { .. }) && !answer.is_shutting_down() {
            *self = Self::Failed(Arc::clone(&failure));
        }
        failure
    }
}

/// Waits until the runtime at `address` is another one than now: nobody listened for a moment, or it takes an `/init`.
pub(crate) async fn replaced(shim: Weak<Inner>, address: SocketAddr) {
    let (mut was_gone, mut every) = (false, INIT_EVERY_FIRST);
    let mut next_init = Instant::now() + every;
    loop {
        sleep(LOOK).await;
        let Some(shim) = shim.upgrade().filter(|shim| shim.is_untrusted()) else { return };
        match timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(_)) if was_gone => {
                tracing::info!(%address, "the runtime was restarted");
                return shim.trust(State::Cold);
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => was_gone = true,
            // It does not even accept.
            Err(_) => continue,
        }
        if Instant::now() < next_init {
            continue;
        }
        if let Some(instance) = takes_init(&shim).await {
            tracing::info!(%address, "the runtime was restarted");
            return shim.trust(State::Ready { instance: Arc::new(instance), early: None });
        }
        every = (every * 2).min(INIT_EVERY_MOST);
        next_init = Instant::now() + every;
    }
}

async fn takes_init(shim: &Inner) -> Option<Instance> {
    let run = shim.own_run(&Clock::start());
    let deadline = Instant::now() + INIT_WAIT.min(shim.limit());
    // A refusal says that it is the same one still.
    shim.start(&run, deadline, &mut LogSink::new(0), false).await.ok()
}
