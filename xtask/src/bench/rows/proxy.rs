//! P4: what an invocation costs the machine. Counted is the CPU time of the server's own process (its instances'
//! runtimes are processes of their own) against that of the proxy's process alone.

use crate::bench::compare::ratio;
use crate::bench::http::{Client, Request};
use crate::bench::lab::{ARGUMENTS, Lab, create, invoke, probe, rate};
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
        rate(&server, CONNECTIONS, BLOCK, invoke("echo")).await?;
        rate(&proxy, CONNECTIONS, BLOCK, Request::post("/", ARGUMENTS)).await?;
        let a = async || rate(&server, CONNECTIONS, BLOCK, invoke("echo")).await;
        let b = async || rate(&proxy, CONNECTIONS, BLOCK, Request::post("/", ARGUMENTS)).await;
        ratio(lab.rounds(ROUNDS), a, b).await
    })
}
