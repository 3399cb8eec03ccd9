//! The programs that kwsk's tests use beside Rust.

use std::process::{Command, Stdio};

use anyhow::bail;

use crate::workspace;

/// A program that is used beside Rust.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// What prints a version and succeeds.
    pub(crate) probe: &'static str,
    /// The package of Debian and its children.
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
}

const TOOLS: [Tool; 10] = [
    Tool { program: "cc", probe: "--version", package: "gcc", why: "builds the bundled SQLite" },
    Tool { program: "c++", probe: "--version", package: "g++", why: "builds libFuzzer" },
    Tool { program: "git", probe: "--version", package: "git", why: "lists the files that tidy reads" },
    Tool { program: "curl", probe: "--version", package: "curl", why: "runs the examples" },
    Tool { program: "zip", probe: "-v", package: "zip", why: "packs the examples" },
    Tool { program: "node", probe: "--version", package: "nodejs", why: "runs JavaScript actions" },
    Tool {
        program: "npm",
        probe: "--version",
        package: "npm",
        why: "installs the client that the tests drive",
    },
    Tool { program: "python3", probe: "--version", package: "python3", why: "runs Python actions" },
    Tool { program: "go", probe: "version", package: "golang-go", why: "fetches Knative's CRD schemas" },
    Tool {
        program: "docker-registry",
        probe: "--version",
        package: "docker-registry",
        why: "holds the images that are pushed",
    },
];

pub(crate) fn run() -> anyhow::Result<()> {
    need(&TOOLS)
}

/// Checks that `tools` are there; as root, installs those that are not.
pub(crate) fn need(tools: &[Tool]) -> anyhow::Result<()> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        println!("{} programs found", tools.len());
        return Ok(());
    }
    for tool in &missing {
        println!("{} is missing: it {}", tool.program, tool.why);
    }
    if !rustix::process::geteuid().is_root() {
        let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
        bail!("install them first, on Debian: apt-get install {}", packages.join(" "));
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).env("DEBIAN_FRONTEND", "noninteractive");
    install.args(missing.iter().map(|tool| tool.package));
    workspace::run(Command::new("apt-get").arg("update"))?;
    workspace::run(&mut install)
}

impl Tool {
    fn is_there(&self) -> bool {
        let mut probe = Command::new(self.program);
        probe.arg(self.probe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }
}
