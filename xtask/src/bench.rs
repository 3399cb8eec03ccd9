//! The ratios kwsk is held to, measured in one run on this machine.
//!
//! A ratio compares kwsk (A) with a baseline (B) that does the same without it. A and B run in short alternating
//! blocks, so that whatever else the machine does hits both; the value is the median of the blocks' ratios, the
//! interval a bootstrap of it. Traffic stays on the loopback interface.

mod compare;
pub(crate) mod helper;
mod http;
mod lab;
pub(crate) use lab::HTTP_JS;
mod rows;
mod stats;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::image;
use crate::workspace::{self, cargo, target_dir};
use lab::Lab;
use stats::Reading;

/// Measure the ratios that kwsk is held to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also write the table as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A quarter of the rounds: rougher numbers, sooner.
    #[arg(long)]
    quick: bool,
    /// Only rows whose id or description contains this.
    filter: Option<String>,
    /// The release binaries are there, this is one of them, and here is the shim.
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
}

/// One line of the table.
pub(crate) struct Row {
    /// The design's number for it; several rows may share one.
    pub(crate) id: &'static str,
    /// What is divided by what, or what is measured.
    pub(crate) what: &'static str,
    /// Of the value; empty for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) aim: f64,
    pub(crate) stretch: f64,
    pub(crate) measure: fn(&Lab) -> anyhow::Result<Reading>,
}

/// Which side of the aim is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Better {
    fn is_met(self, value: f64, aim: f64) -> bool {
        match self {
            Self::Lower => value <= aim,
            Self::Higher => value >= aim,
        }
    }
}

/// One line of the JSON.
#[derive(Debug, Serialize)]
struct Line {
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    value: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    aim: f64,
    stretch: f64,
    holds: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.built {
        Some(shim) => measure(args, shim),
        None => build_and_measure(args),
    }
}

/// An unoptimised load client would measure itself, so the bench starts its own release build.
fn build_and_measure(args: &Args) -> anyhow::Result<()> {
    workspace::run(&mut cargo(&["build", "--release", "--locked", "-p", "kwsk-server"]))?;
    let shim = image::shim()?;
    workspace::run(&mut cargo(&["build", "--release", "--locked", "-p", "xtask"]))?;
    let mut again = Command::new(target_dir().join("release/xtask"));
    again.args(["bench", "--built"]).arg(shim);
    if args.quick {
        again.arg("--quick");
    }
    if let Some(file) = &args.json {
        again.arg("--json").arg(file);
    }
    again.args(args.filter.as_deref());
    workspace::run(&mut again)
}

fn measure(args: &Args, shim: &Path) -> anyhow::Result<()> {
    let filter = args.filter.as_deref().unwrap_or_default();
    let rows = rows::ALL.iter().filter(|row| row.id.contains(filter) || row.what.contains(filter));
    let lab = Lab::new(&target_dir(), shim, args.quick)?;
    println!(
        "{:<4} {:<66} {:>9}  {:<19} {:>8} {:>8}  holds",
        "id", "what", "value", "95 %", "aim", "stretch"
    );
    let mut lines = Vec::new();
    for row in rows {
        let reading = (row.measure)(&lab);
        lines.push(report(row, &reading));
    }
    if let Some(file) = &args.json {
        fs::write(file, serde_json::to_vec_pretty(&lines)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let failed = lines.iter().filter(|line| line.value.is_none()).count();
    ensure!(failed == 0, "{failed} of {} rows could not be measured", lines.len());
    Ok(())
}

fn report(row: &Row, reading: &anyhow::Result<Reading>) -> Line {
    let Row { id, what, unit, better, aim, stretch, .. } = *row;
    let sign = if better == Better::Lower { '≤' } else { '≥' };
    let limit = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{sign} {value}") };
    let limits = format!("{:>8} {:>8}", limit(aim), limit(stretch));
    let named = if unit.is_empty() { what.to_owned() } else { format!("{what} [{unit}]") };
    let measured = reading.as_ref().ok();
    let holds = measured.is_some_and(|reading| better.is_met(reading.value, aim));
    match reading {
        Ok(Reading { value, low, high }) => {
            let interval = format!("{low:.3} … {high:.3}");
            println!(
                "{id:<4} {named:<66} {value:>9.3}  {interval:<19} {limits}  {}",
                match (aim.is_nan(), holds) {
                    (true, _) => "",
                    (false, true) => "yes",
                    (false, false) => "no",
                }
            );
        }
        Err(error) => println!("{id:<4} {named:<66} {:>9}  {:<19} {limits}  no: {error:#}", "-", "-"),
    }
    let (value, low, high) = (measured.map(|r| r.value), measured.map(|r| r.low), measured.map(|r| r.high));
    Line { id, what, unit, value, low, high, aim, stretch, holds }
}
