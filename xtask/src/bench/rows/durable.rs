//! P5: what it costs to have an invocation on disk before it is accepted. The next block starts when the accepted
//! invocations have run.

use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use rusqlite::Connection;

use crate::bench::compare::ratio;
use crate::bench::http::{Client, storm};
use crate::bench::lab::{Lab, Listening, create, enqueue, invoke, probe};
use crate::bench::stats::{Reading, percentile};

const ROUNDS: usize = 16;
const BLOCK: usize = 500;
const IN_FLIGHT: usize = 64;
const STORM: usize = 64 * 40;
/// About what an accepted invocation takes on disk.
const ROW_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;

pub(super) fn latency(lab: &Lab) -> anyhow::Result<Reading> {
    let mut file = File::create(lab.directory()?.join("appended"))?;
    let server = lab.server(0)?;
    lab.block_on(async {
        let mut client = prepared(&server).await?;
        client.block(&enqueue("later"), BLOCK).await?;
        server.process.settle().await?;
        let a = async || {
            let took = client.block(&enqueue("later"), BLOCK).await?;
            server.process.settle().await?;
            Ok(percentile(&took, 0.99))
        };
        let b = async || Ok(percentile(&appended(&mut file)?, 0.99));
        ratio(lab.rounds(ROUNDS), a, b).await
    })
}

pub(super) fn rate(lab: &Lab) -> anyhow::Result<Reading> {
    let mut database = Connection::open(lab.directory()?.join("inserted.db"))?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute("CREATE TABLE accepted (id INTEGER PRIMARY KEY, body BLOB NOT NULL)", [])?;
    let server = lab.server(0)?;
    lab.block_on(async {
        prepared(&server).await?;
        let a = async || {
            let took = storm(server.address, IN_FLIGHT, STORM, |_| enqueue("later")).await?;
            server.process.settle().await?;
            Ok(STORM as f64 / took.as_secs_f64())
        };
        let b = async || inserted(&mut database);
        ratio(lab.rounds(ROUNDS), a, b).await
    })
}

/// A server with a warm action.
async fn prepared(server: &Listening) -> anyhow::Result<Client> {
    let mut client = Client::connect(server.address).await?;
    client.send(&create("later", "echo:1", "any")).await?;
    probe(&mut client, &invoke("later"), "stranger").await?;
    Ok(client)
}

/// Microseconds of each append of a page that is on disk afterwards.
fn appended(file: &mut File) -> anyhow::Result<Vec<f64>> {
    let page = [0x5a; PAGE_BYTES];
    let mut took = Vec::with_capacity(BLOCK);
    for _ in 0..BLOCK {
        let began = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

/// Rows per second, in transactions of as many as the server has in flight.
fn inserted(database: &mut Connection) -> anyhow::Result<f64> {
    let row = vec![0x5a_u8; ROW_BYTES];
    let began = Instant::now();
    for _ in 0..STORM / IN_FLIGHT {
        let transaction = database.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO accepted (body) VALUES (?1)")?;
            for _ in 0..IN_FLIGHT {
                insert.execute([&row])?;
            }
        }
        transaction.commit()?;
    }
    Ok(STORM as f64 / began.elapsed().as_secs_f64())
}
