//! The golden files: compared, or accepted as they are made now.

use anyhow::Context as _;

use crate::test::{Snapshots, run_cargo_test};
use crate::workspace::{cargo, members};

/// Compare the golden files with what the code makes now.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write what the code makes now, and delete what no test refers to.
    #[arg(long)]
    accept: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let members = members()?;
    let snapshotted = members.iter().filter(|member| {
        member.dependency_tables().iter().any(|(_, dependencies)| dependencies.contains_key("insta"))
    });
    let packages = snapshotted.flat_map(|member| ["-p", member.name.as_str()]);
    let args_of_cargo: Vec<&str> = ["test", "--locked"].into_iter().chain(packages).collect();
    let snapshots = Snapshots::new()?;
    let mut command = cargo(&args_of_cargo);
    snapshots.record(&mut command, if args.accept { "always" } else { "no" });
    run_cargo_test(&mut command)?.check()?;
    if args.accept {
        for file in snapshots.unreferenced()? {
            println!("deleted: {}", file.display());
            std::fs::remove_file(&file).with_context(|| format!("cannot delete {}", file.display()))?;
        }
    }
    snapshots.check(true)
}
