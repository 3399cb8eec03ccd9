//! The programs that kwsk's tests use beside Rust.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

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
    let _policy = Policy::start_nothing()?;
    workspace::run(&mut install)
}

/// Makes sure that apt knows what there is to install.
pub(crate) fn package_lists() -> anyhow::Result<()> {
    let lists = fs::read_dir("/var/lib/apt/lists").into_iter().flatten().flatten();
    let mut names = lists.map(|entry| entry.file_name().to_string_lossy().into_owned());
    if names.any(|name| name.contains("_Packages")) {
        return Ok(());
    }
    workspace::run(Command::new("apt-get").arg("update"))
}

/// Debian starts the daemons it installs. Ours are started by those who need them.
struct Policy(Option<&'static str>);

impl Policy {
    fn start_nothing() -> anyhow::Result<Self> {
        const FILE: &str = "/usr/sbin/policy-rc.d";
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(FILE) {
            // 101 is "forbidden by policy".
            Ok(mut file) => file.write_all(b"#!/bin/sh\nexit 101\n")?,
            // The machine has a policy of its own.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Self(None)),
            Err(error) => return Err(error).with_context(|| format!("cannot write {FILE}")),
        }
        Ok(Self(Some(FILE)))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Some(file) = self.0 {
            // What is left of it is seen by the next installation.
            fs::remove_file(file).ok();
        }
    }
}

impl Tool {
    fn is_there(&self) -> bool {
        let mut probe = Command::new(self.program);
        probe.arg(self.probe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    }
}
