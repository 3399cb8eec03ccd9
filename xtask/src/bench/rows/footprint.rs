//! P9 and P11: memory, start and size.

use std::fs;
use std::time::Instant;

use crate::bench::http::{Client, Request, storm};
use crate::bench::lab::{ARGUMENTS, Lab, NODE_ACTION, create, free_address, probe};
use crate::bench::process::Process;
use crate::bench::stats::Reading;

const STARTS: usize = 20;
const ACTIONS: usize = 10_000;
const CONNECTIONS: usize = 64;
const RUNS: usize = 1000;
const MB: f64 = 1024.0 * 1024.0;

pub(super) fn idle(lab: &Lab) -> anyhow::Result<Reading> {
    let sizes: anyhow::Result<Vec<f64>> = (0..lab.rounds(STARTS / 2))
        .map(|_| {
            let server = lab.server(0)?;
            lab.block_on(server.process.settle())?;
            server.process.rss()
        })
        .collect();
    Ok(Reading::median_of(&sizes?))
}

/// One server that gets them all; a quick run extrapolates.
pub(super) fn actions(lab: &Lab) -> anyhow::Result<Reading> {
    let server = lab.server(0)?;
    let count = lab.rounds(ACTIONS);
    lab.block_on(async {
        // What the first request of each connection allocates is not an action's.
        let request = |number| create(&format!("first{number}"), "nodejs:20", NODE_ACTION);
        storm(server.address, CONNECTIONS, CONNECTIONS * 4, request).await?;
        server.process.settle().await?;
        let before = server.process.rss()?;
        let request = |number| create(&format!("action{number}"), "nodejs:20", NODE_ACTION);
        storm(server.address, CONNECTIONS, count, request).await?;
        server.process.settle().await?;
        let grown = server.process.rss()? - before;
        Ok(Reading::exact(grown * ACTIONS as f64 / count as f64))
    })
}

pub(super) fn shim(lab: &Lab) -> anyhow::Result<Reading> {
    let sizes: anyhow::Result<Vec<f64>> = (0..lab.rounds(STARTS / 2))
        .map(|_| {
            let shim = lab.shim(&lab.echo_loop(), &lab.file("action", "any")?)?;
            lab.block_on(async {
                let mut client = Client::connect(shim.address).await?;
                let request = Request::post("/", ARGUMENTS);
                probe(&mut client, &request, "stranger").await?;
                client.block(&request, RUNS).await?;
                shim.process.settle().await
            })?;
            shim.process.rss()
        })
        .collect();
    Ok(Reading::median_of(&sizes?))
}

/// Milliseconds from the start, on a new data directory, to the answer to /ping.
pub(super) fn start(lab: &Lab) -> anyhow::Result<Reading> {
    let times: anyhow::Result<Vec<f64>> = (0..lab.rounds(STARTS))
        .map(|_| {
            let address = free_address()?;
            let mut command = lab.server_command(0, address)?;
            let log = lab.directory()?.join("log");
            let began = Instant::now();
            let server = Process::start(&mut command, &log)?;
            let ping = lab.block_on(crate::bench::http::first_answer(address, "/ping"));
            let took = began.elapsed().as_secs_f64() * 1e3;
            ping?;
            drop(server);
            Ok(took)
        })
        .collect();
    Ok(Reading::median_of(&times?))
}

pub(super) fn server_binary(lab: &Lab) -> anyhow::Result<Reading> {
    Ok(Reading::exact(fs::metadata(lab.binary("kwsk-server"))?.len() as f64 / MB))
}

pub(super) fn shim_binary(lab: &Lab) -> anyhow::Result<Reading> {
    Ok(Reading::exact(fs::metadata(lab.binary("examples/serve"))?.len() as f64 / MB))
}
