//! P1: what the shim adds to a runtime. Both sides run a process of the same runtime; the baseline's output goes
//! nowhere, the shim's is collected.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::compare::ratio;
use crate::bench::http::{Client, Request, wait_listening};
use crate::bench::lab::{
    ARGUMENTS, HTTP_JS, Lab, NODE_ACTION, PYTHON_ACTION, bare_command, free_address, node_launcher, probe,
    rate,
};
use crate::bench::stats::{Reading, median};

const HTTP_PY: &str = include_str!("../runtimes/python.py");
const ROUNDS: usize = 40;
const BLOCK: usize = 250;
const WARM_UP: usize = 1000;
const CPU_ROUNDS: usize = 12;
/// Long enough for the clock of /proc, which ticks a hundred times a second.
const CPU_BLOCK: usize = 20_000;
const CONNECTIONS: usize = 8;

pub(super) fn node(lab: &Lab) -> anyhow::Result<Reading> {
    let argv = script(lab, "node", "runtime.js", HTTP_JS)?;
    compare(lab, &argv, &http_command(&argv), NODE_ACTION, "hello stranger")
}

pub(super) fn python(lab: &Lab) -> anyhow::Result<Reading> {
    let argv = script(lab, "python3", "runtime.py", HTTP_PY)?;
    compare(lab, &argv, &http_command(&argv), PYTHON_ACTION, "hello stranger")
}

pub(super) fn tiny(lab: &Lab) -> anyhow::Result<Reading> {
    let program = lab.binary("xtask").to_string_lossy().into_owned();
    let argv =
        [program.as_str(), "bench-helper", "http-runtime", "--listen", "127.0.0.1:{port}"].map(str::to_owned);
    compare(lab, &argv, &http_command(&argv), "", "stranger")
}

/// kwsk's own launcher against the HTTP runtime without a shim.
pub(super) fn node_loop(lab: &Lab) -> anyhow::Result<Reading> {
    let argv = script(lab, "node", "runtime.js", HTTP_JS)?;
    compare(lab, &argv, &node_launcher(), NODE_ACTION, "hello stranger")
}

/// P2: what a request costs the shim, against a server that answers by itself.
pub(super) fn per_core(lab: &Lab) -> anyhow::Result<Reading> {
    let echo = lab.helper("hyper-echo", &[])?;
    let shim = lab.shim(&lab.echo_loop(), &lab.file("action", "any")?)?;
    let request = || Request::post("/", ARGUMENTS);
    lab.block_on(async {
        probe(&mut Client::connect(shim.address).await?, &request(), "stranger").await?;
        rate(&shim, CONNECTIONS, CPU_BLOCK, request()).await?;
        rate(&echo, CONNECTIONS, CPU_BLOCK, request()).await?;
        let a = async || rate(&shim, CONNECTIONS, CPU_BLOCK, request()).await;
        let b = async || rate(&echo, CONNECTIONS, CPU_BLOCK, request()).await;
        ratio(lab.rounds(CPU_ROUNDS), a, b).await
    })
}

fn script(lab: &Lab, program: &str, name: &str, source: &str) -> anyhow::Result<Vec<String>> {
    let file = lab.file(name, source)?;
    Ok(vec![program.to_owned(), file.to_string_lossy().into_owned(), "{port}".to_owned()])
}

fn http_command(argv: &[String]) -> Value {
    json!({ "protocol": "http", "argv": argv, "prewarm": true })
}

/// `runtime`, the command the shim starts, against the HTTP runtime `argv` spoken to directly.
fn compare(lab: &Lab, argv: &[String], runtime: &Value, code: &str, answer: &str) -> anyhow::Result<Reading> {
    let address = free_address()?;
    let port = address.port().to_string();
    let argv: Vec<String> = argv.iter().map(|arg| arg.replace("{port}", &port)).collect();
    let bare = lab.listen(bare_command(&argv[0]).args(&argv[1..]), address)?;
    let shim = lab.shim(runtime, &lab.file("action", code)?)?;
    let init =
        json!({ "value": { "name": "action", "main": "main", "code": code, "binary": false, "env": {} } });
    let through = Request::post("/", ARGUMENTS);
    let direct = Request::post("/run", run_body());
    lab.block_on(async {
        wait_listening(bare.address, Duration::from_secs(10)).await?;
        let (mut a, mut b) = (Client::connect(shim.address).await?, Client::connect(bare.address).await?);
        b.send(&Request::post("/init", init.to_string())).await?;
        probe(&mut a, &through, answer).await?;
        probe(&mut b, &direct, answer).await?;
        a.block(&through, WARM_UP).await?;
        b.block(&direct, WARM_UP).await?;
        let a = async || Ok(median(&a.block(&through, BLOCK).await?));
        let b = async || Ok(median(&b.block(&direct, BLOCK).await?));
        ratio(lab.rounds(ROUNDS), a, b).await
    })
}

/// What the platform sends to a runtime.
fn run_body() -> String {
    let mut body: Value = json!({
        "namespace": "_",
        "action_name": "/_/bench",
        "action_version": "0.0.1",
        "activation_id": "0123456789abcdef0123456789abcdef",
        "transaction_id": "0123456789abcdefABCDEF0123456789",
        "deadline": "1900000000000",
    });
    body["value"] = serde_json::from_str(ARGUMENTS).unwrap_or_default();
    body.to_string()
}
