//! P9 and P11: memory, start and size.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::http::{Client, Request, first_answer, storm, wait_listening, wait_ready};
use crate::bench::lab::{ARGUMENTS, HTTP_JS, Lab, NODE_ACTION, bare_command, create, free_address, probe};
use crate::bench::stats::Reading;
use crate::process::Process;

const STARTS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(20);
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
    starts(
        lab,
        |address| lab.server_command(0, address),
        async |address| first_answer(address, "/ping").await,
    )
}

/// Milliseconds from the start of a command until it is `there`.
fn starts(
    lab: &Lab,
    command: impl Fn(SocketAddr) -> anyhow::Result<Command>,
    there: impl AsyncFn(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<Reading> {
    let times: anyhow::Result<Vec<f64>> = (0..lab.rounds(STARTS))
        .map(|_| {
            let address = free_address()?;
            let mut command = command(address)?;
            let log = lab.directory()?.join("log");
            let began = Instant::now();
            let process = Process::start(&mut command, &log)?;
            let is_there = lab.block_on(there(address));
            let took = began.elapsed().as_secs_f64() * 1e3;
            is_there?;
            drop(process);
            Ok(took)
        })
        .collect();
    Ok(Reading::median_of(&times?))
}

pub(super) fn server_binary(lab: &Lab) -> anyhow::Result<Reading> {
    Ok(Reading::exact(fs::metadata(lab.binary("kwsk-server"))?.len() as f64 / MB))
}

pub(super) fn shim_binary(lab: &Lab) -> anyhow::Result<Reading> {
    Ok(Reading::exact(fs::metadata(lab.shim_binary())?.len() as f64 / MB))
}

/// Milliseconds from the start of a shim to its first readiness, with a runtime that needs no time of its own.
pub(super) fn shim_start(lab: &Lab) -> anyhow::Result<Reading> {
    let action = lab.file("action", "any")?;
    let command = |address| lab.shim_command(&lab.echo_loop(), &action, address);
    starts(lab, command, async |address| wait_ready(address, "/kwsk/ready", PATIENCE).await)
}

/// The same of what it runs: Node.js with the HTTP contract, until it listens.
pub(super) fn runtime_start(lab: &Lab) -> anyhow::Result<Reading> {
    starts(lab, |address| bare_runtime(lab, address), async |address| wait_listening(address, PATIENCE).await)
}

/// Of Node.js with the HTTP contract, after as many runs as the shim's.
pub(super) fn runtime(lab: &Lab) -> anyhow::Result<Reading> {
    let sizes: anyhow::Result<Vec<f64>> = (0..lab.rounds(STARTS / 2))
        .map(|_| {
            let address = free_address()?;
            let runtime = lab.listen(&mut bare_runtime(lab, address)?, address)?;
            lab.block_on(async {
                let mut client = Client::connect(address).await?;
                let init = json!({ "value": { "name": "a", "main": "main", "code": NODE_ACTION } });
                client.send(&Request::post("/init", init.to_string())).await?;
                let request = Request::post("/run", format!("{{\"value\":{ARGUMENTS}}}"));
                probe(&mut client, &request, "stranger").await?;
                client.block(&request, RUNS).await?;
                runtime.process.settle().await
            })?;
            runtime.process.rss()
        })
        .collect();
    Ok(Reading::median_of(&sizes?))
}

fn bare_runtime(lab: &Lab, address: SocketAddr) -> anyhow::Result<Command> {
    let mut command = bare_command("node");
    command.arg(lab.file("runtime.js", HTTP_JS)?).arg(address.port().to_string());
    Ok(command)
}
