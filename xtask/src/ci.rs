//! What CI runs: every step, also after one that failed, and a summary.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::test::Counts;
use crate::{deny, doc, e2e, fuzz, lint, package, setup, test, tidy};

type Step = fn(&mut Counts) -> anyhow::Result<()>;

const STEPS: [(&str, Step); 9] = [
    ("setup", |_| setup::run()),
    ("lint", |_| lint::run()),
    ("tidy", |_| tidy::run()),
    ("deny", |_| deny::run(&deny::Args::default())),
    ("test", |counts| test::run(&test::Args::default(), counts)),
    ("e2e", |counts| e2e::run(&e2e::Args::default(), counts)),
    ("fuzz", |_| fuzz::run(&fuzz::Args::ci())),
    ("doc", |_| doc::run()),
    ("package", |_| package::run()),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        let began = Instant::now();
        println!("\n== {name} (after {})", clock(started.elapsed()));
        match step(&mut counts) {
            Ok(()) => println!("== {name}: ok in {}", clock(began.elapsed())),
            Err(error) => {
                println!("== {name}: FAILED in {}: {error:#}", clock(began.elapsed()));
                failed.push(name);
            }
        }
    }
    println!("\n{} in {}", counts.summary(), clock(started.elapsed()));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn clock(duration: Duration) -> String {
    format!("{}:{:02}", duration.as_secs() / 60, duration.as_secs() % 60)
}
