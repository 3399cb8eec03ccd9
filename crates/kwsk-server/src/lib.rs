//! OpenWhisk's HTTP API over the operations of `kwsk-knative`.
//!
//! This crate owns the sockets and the flags, and refuses to decide anything about entities: from a URL it is two hops to the rule
//! ([`routes`] → `routes/<noun>.rs` → `kwsk_knative::ops`). The order in which errors win is that of OpenWhisk's own
//! pipeline and is spelt out in [`layers`] and [`extract`].

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

pub mod app;
pub mod append;
pub mod banner;
pub mod config;
pub mod error;
pub mod extract;
pub mod guard;
pub mod layers;
pub mod report;
pub mod respond;
pub mod routes;
pub mod serve;
pub mod signals;

pub use app::{App, Standalone};
pub use config::Config;
pub use serve::serve;

use report::Fatal;

/// Runs the whole platform until a signal ends it.
///
/// # Errors
/// A [`Fatal`] when it could not start.
pub fn run(config: Config) -> Result<(), Fatal> {
    report::log_to_stderr(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Fatal::Runtime)?;
    runtime.block_on(platform(config))
}

async fn platform(config: Config) -> Result<(), Fatal> {
    let listener = serve::bind(config.listen).await?;
    let listen: SocketAddr = listener.local_addr().map_err(Fatal::Runtime)?;
    let signals = signals::listen().map_err(Fatal::Runtime)?;
    let standalone = Standalone::start(&config, listen).await?;
    banner::print(&banner::text(&config, listen, &standalone));
    let stop = CancellationToken::new();
    let served = serve(standalone.app(), listener, stop.clone());
    signals::drive(signals, stop, served, standalone).await;
    Ok(())
}
