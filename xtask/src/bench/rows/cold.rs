//! P8: the first invocation of a new action. The baseline starts a Node.js process, hands it the same code and
//! arguments as lines on a pipe, and reads the answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::bench::compare::ratio;
use crate::bench::http::Client;
use crate::bench::lab::{ARGUMENTS, Lab, NODE_ACTION, bare_command, create, delete, invoke, probe};
use crate::bench::stats::Reading;

const BARE_JS: &str = include_str!("../runtimes/bare.js");
const ROUNDS: usize = 40;

pub(super) fn bare(lab: &Lab) -> anyhow::Result<Reading> {
    compare(lab, 0)
}

pub(super) fn prewarmed(lab: &Lab) -> anyhow::Result<Reading> {
    compare(lab, 1)
}

fn compare(lab: &Lab, stem_cells: usize) -> anyhow::Result<Reading> {
    let script = lab.file("bare.js", BARE_JS)?;
    let server = lab.server(stem_cells)?;
    lab.block_on(async {
        let mut client = Client::connect(server.address).await?;
        let mut number = 0;
        let a = async || {
            number += 1;
            let name = format!("cold{number}");
            client.send(&create(&name, "nodejs:20", NODE_ACTION)).await?;
            server.process.settle().await?;
            let began = Instant::now();
            probe(&mut client, &invoke(&name), "hello stranger").await?;
            let took = began.elapsed().as_secs_f64();
            client.send(&delete(&name)).await?;
            server.process.settle().await?;
            Ok(took)
        };
        ratio(lab.rounds(ROUNDS), a, async || bare_run(&script)).await
    })
}

/// Seconds until a new process has answered.
fn bare_run(script: &Path) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut command = bare_command("node");
    let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    writeln!(stdin, "{}", json!({ "value": { "main": "main", "code": NODE_ACTION } }))?;
    lines.next().context("no answer to init")??;
    writeln!(stdin, r#"{{"value":{ARGUMENTS}}}"#)?;
    let answer = lines.next().context("no answer to run")??;
    let took = began.elapsed().as_secs_f64();
    drop(stdin);
    child.wait()?;
    ensure!(answer.contains("hello stranger"), "the baseline answers {answer}");
    Ok(took)
}
