//! What only real containers can show: containerd and a registry of our own, kwsk's images, and the tests that drive
//! them (`tests/e2e`).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::bench::HTTP_JS;
use crate::image::Images;
use crate::process::Process;
use crate::setup::{self, Tool};
use crate::test::{Counts, run_and_count};
use crate::workspace::{cargo, target_dir};

const TOOLS: [Tool; 2] = [
    Tool { program: "containerd", probe: "--version", package: "containerd", why: "runs the containers" },
    Tool { program: "runc", probe: "--version", package: "runc", why: "starts the containers" },
];
const PATIENCE: Duration = Duration::from_secs(30);

/// Run what only real containers can show.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this; `shim` is everything about the shim.
    filter: Option<String>,
}

/// `counts` grows whether or not the tests pass.
pub(crate) fn run(args: &Args, counts: &mut Counts) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "containers are started by root; run this as root");
    setup::run()?;
    setup::need(&TOOLS)?;
    let out = target_dir().join("images");
    let images = Images::prepare(&out, None)?;
    for name in ["shim", "nodejs", "python", "native"] {
        println!("{name}: {}", images.build(name)?);
    }
    println!("stock: {}", images.stock(HTTP_JS)?);
    let lab = Lab::start()?;
    for name in ["shim", "nodejs", "python", "native", "stock"] {
        images.push(name, &format!("{}/kwsk/{name}:e2e", lab.registry_address))?;
    }
    let mut command = cargo(&["test", "--locked", "-p", "kwsk-tests", "--test", "e2e"]);
    command.args(args.filter.as_deref());
    command
        .env("KWSK_E2E_CONTAINERD", &lab.socket)
        .env("KWSK_E2E_REGISTRY", lab.registry_address.to_string());
    command.env("KWSK_E2E_SHIM", &images.shim).env("KWSK_E2E_APPEND", &images.tool);
    run_and_count(&mut command, counts)
}

/// containerd and a registry; both end with this value.
struct Lab {
    socket: PathBuf,
    registry_address: SocketAddr,
    _containerd: Process,
    _registry: Process,
    _scratch: TempDir,
    _root: TempDir,
}

impl Lab {
    fn start() -> anyhow::Result<Self> {
        // Sockets have short names; images have to be on a filesystem that overlays can be laid over.
        let scratch = tempfile::tempdir()?;
        let root = tempfile::Builder::new().prefix("e2e-").tempdir_in(target_dir())?;
        let socket = scratch.path().join("containerd.sock");
        let containerd = Process::start(
            Command::new("containerd").arg("--config").arg(containerd_config(scratch.path(), root.path())?),
            &scratch.path().join("containerd.log"),
        )?;
        wait("containerd", scratch.path(), || UnixStream::connect(&socket).is_ok())?;
        let registry_address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let registry = Process::start(
            Command::new("docker-registry").arg("serve").arg(registry_config(
                scratch.path(),
                root.path(),
                registry_address,
            )?),
            &scratch.path().join("registry.log"),
        )?;
        wait("registry", scratch.path(), || TcpStream::connect(registry_address).is_ok())?;
        Ok(Self {
            socket,
            registry_address,
            _containerd: containerd,
            _registry: registry,
            _scratch: scratch,
            _root: root,
        })
    }
}

fn containerd_config(scratch: &Path, root: &Path) -> anyhow::Result<PathBuf> {
    let (scratch_dir, root) = (scratch.display(), root.canonicalize()?);
    let config = format!(
        "version = 2\n\
         root = \"{root}/containerd\"\n\
         state = \"{scratch_dir}/state\"\n\
         # Nobody asks for what Kubernetes needs.\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\n\
         address = \"{scratch_dir}/containerd.sock\"\n\
         [ttrpc]\n\
         address = \"{scratch_dir}/containerd.sock.ttrpc\"\n",
        root = root.display()
    );
    write(scratch, "containerd.toml", &config)
}

fn registry_config(scratch: &Path, root: &Path, address: SocketAddr) -> anyhow::Result<PathBuf> {
    let root = root.canonicalize()?;
    let config = format!(
        "version: 0.1\n\
         log: {{level: warn}}\n\
         storage: {{filesystem: {{rootdirectory: \"{}/registry\"}}}}\n\
         http: {{addr: \"{address}\"}}\n",
        root.display()
    );
    write(scratch, "registry.yml", &config)
}

fn write(dir: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let file = dir.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn wait(what: &str, scratch: &Path, is_there: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > deadline {
            let log = fs::read_to_string(scratch.join(format!("{what}.log"))).unwrap_or_default();
            bail!("{what} does not start: {log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
