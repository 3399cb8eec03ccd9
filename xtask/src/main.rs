//! kwsk's own commands. `cargo xtask ci` is exactly what CI runs; every step of it is a command of its own.
//!
//! This crate depends on none of the others: it builds, runs and measures them from outside.
#![expect(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod bench;
mod ci;
mod deny;
mod doc;
mod e2e;
mod fuzz;
mod golden;
mod image;
mod lint;
mod package;
mod process;
mod setup;
mod test;
mod tidy;
mod workspace;

use clap::{Parser, Subcommand};

/// kwsk's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything CI runs: setup, lint, tidy, deny, test, e2e, fuzz, doc, package.
    Ci,
    /// Check that the programs the tests use are there; as root, install those that are not.
    Setup,
    /// rustfmt and clippy; warnings are errors.
    Lint,
    /// The workspace's tests; pending and unreferenced snapshots are errors.
    Test(test::Args),
    /// Compare the golden files with what the code makes now.
    Golden(golden::Args),
    /// Run the fuzz targets for a bounded time.
    Fuzz(fuzz::Args),
    /// Licences, duplicates and sources of the dependencies.
    Deny(deny::Args),
    /// Crate direction, inherited settings, links, leftovers.
    Tidy,
    /// The documentation; warnings are errors.
    Doc,
    /// Check that every crate can be packaged.
    Package,
    /// Run what only real containers can show.
    E2e(e2e::Args),
    /// Build kwsk's container images, reproducibly and without a daemon.
    Image(image::Args),
    /// Measure the ratios that kwsk is held to.
    Bench(bench::Args),
    /// The baselines the bench compares with.
    #[command(hide = true)]
    BenchHelper(bench::helper::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Ci => ci::run(),
        Command::Setup => setup::run(),
        Command::Lint => lint::run(),
        Command::Test(args) => test::run(&args, &mut test::Counts::default()),
        Command::Golden(args) => golden::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Deny(args) => deny::run(&args),
        Command::Tidy => tidy::run(),
        Command::Doc => doc::run(),
        Command::Package => package::run(),
        Command::E2e(args) => e2e::run(&args, &mut test::Counts::default()),
        Command::Image(args) => image::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchHelper(args) => bench::helper::run(&args),
    }
}
