//! P3: what the server adds to the shim. Both sides run the same kind of instance, the server's inside it.

use crate::bench::compare::ratio;
use crate::bench::http::{Client, Request};
use crate::bench::lab::{ARGUMENTS, Lab, NODE_ACTION, create, invoke, node_launcher, probe};
use crate::bench::stats::{Reading, median};

const ROUNDS: usize = 40;
const BLOCK: usize = 250;
const WARM_UP: usize = 1000;

pub(super) fn node(lab: &Lab) -> anyhow::Result<Reading> {
    compare(lab, &node_launcher(), "nodejs:20", NODE_ACTION, "hello stranger")
}

pub(super) fn echo(lab: &Lab) -> anyhow::Result<Reading> {
    compare(lab, &lab.echo_loop(), "echo:1", "any", "stranger")
}

fn compare(
    lab: &Lab,
    runtime: &serde_json::Value,
    kind: &str,
    code: &str,
    answer: &str,
) -> anyhow::Result<Reading> {
    let shim = lab.shim(runtime, &lab.file("action", code)?)?;
    let server = lab.server(0)?;
    let (through, direct) = (invoke("warm"), Request::post("/", ARGUMENTS));
    lab.block_on(async {
        let (mut a, mut b) = (Client::connect(server.address).await?, Client::connect(shim.address).await?);
        a.send(&create("warm", kind, code)).await?;
        probe(&mut a, &through, answer).await?;
        probe(&mut b, &direct, answer).await?;
        a.block(&through, WARM_UP).await?;
        b.block(&direct, WARM_UP).await?;
        let a = async || Ok(median(&a.block(&through, BLOCK).await?));
        let b = async || Ok(median(&b.block(&direct, BLOCK).await?));
        ratio(lab.rounds(ROUNDS), a, b).await
    })
}
