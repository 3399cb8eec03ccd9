//! P4: what an invocation costs the machine. Counted is the CPU time of the server's own process (its instances'
//! runtimes are processes of their own) against that of the proxy's process alone.

use crate::bench::compare::ratio;
use crate::bench::http::{Client, Request, storm};
use crate::bench::lab::{ARGUMENTS, Lab, Listening, create, invoke, probe};
use crate::bench::stats::Reading;

const ROUNDS: usize = 12;
/// Long enough for the clock of /proc, which ticks a hundred times a second.
const BLOCK: usize = 10_000;
const CONNECTIONS: usize = 8;

pub(super) fn per_core(lab: &Lab) -> anyhow::Result<Reading> {
    let echo = lab.helper("hyper-echo", &[])?;
    let proxy = lab.helper("reverse-proxy", &["--to", &echo.address.to_string()])?;
    let server = lab.server(0)?;
    lab.block_on(async {
        let mut client = Client::connect(server.address).await?;
        client.send(&create("echo", "echo:1", "any")).await?;
        probe(&mut client, &invoke("echo"), "stranger").await?;
        rate(&server, invoke("echo")).await?;
        rate(&proxy, Request::post("/", ARGUMENTS)).await?;
        let a = async || rate(&server, invoke("echo")).await;
        let b = async || rate(&proxy, Request::post("/", ARGUMENTS)).await;
        ratio(lab.rounds(ROUNDS), a, b).await
    })
}

/// Requests per second of CPU time. The records are written before the block is over.
async fn rate(listening: &Listening, request: Request) -> anyhow::Result<f64> {
    let before = listening.process.cpu()?;
    storm(listening.address, CONNECTIONS, BLOCK, move |_| request.clone()).await?;
    listening.process.settle().await?;
    Ok(BLOCK as f64 / (listening.process.cpu()? - before))
}
