//! kwsk's container images: built without a daemon, the same from the same input.
//!
//! Layers and documents are `kwsk-shim build`'s business; here is what goes into each image.

pub(crate) mod debs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::setup;
use crate::workspace::{self, cargo, output, root, target_dir};

/// Build kwsk's container images, as OCI image layouts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Push them, as REGISTRY/PREFIX/NAME:VERSION
    #[arg(long, value_name = "REGISTRY/PREFIX")]
    push: Option<String>,
    /// Only these
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", default_values_t = NAMES.map(ToOwned::to_owned))]
    only: Vec<String>,
    /// Where the layouts go [default: images in cargo's target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// An image that the runtimes are put on instead of only their packages
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
}

const NAMES: [&str; 5] = ["shim", "server", "nodejs", "python", "native"];
/// Nobody: what runs in the images needs no rights.
const USER: &str = "65532:65532";

/// What a runtime's image is made of.
struct Runtime {
    name: &'static str,
    packages: &'static [&'static str],
    entrypoint: &'static str,
}

const RUNTIMES: [Runtime; 3] = [
    Runtime {
        name: "nodejs",
        packages: &["base-files", "dash", "nodejs"],
        entrypoint: r#"["/kwsk/bin/shim","exec","--protocol","actionloop","--concurrent","--","node","{launcher:node}"]"#,
    },
    Runtime {
        name: "python",
        packages: &["base-files", "dash", "python3"],
        entrypoint: r#"["/kwsk/bin/shim","exec","--protocol","actionloop","--concurrent","--","python3","{launcher:python}"]"#,
    },
    Runtime {
        name: "native",
        packages: &["base-files", "bash", "coreutils", "dash", "findutils", "grep", "sed"],
        entrypoint: r#"["/kwsk/bin/shim","exec","--protocol","actionloop","--","{native}"]"#,
    },
];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(unknown) = args.only.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!("there is no image '{unknown}'; there are {}", NAMES.join(", "));
    }
    let out = args.out.clone().unwrap_or_else(|| target_dir().join("images"));
    let images = Images::prepare(&out, args.base.as_deref())?;
    for name in NAMES.iter().filter(|name| args.only.iter().any(|only| only == *name)) {
        let digest = images.build(name)?;
        println!("{name}: {digest} in {}", out.join(name).display());
        if let Some(prefix) = &args.push {
            let to = format!("{}/{name}:{}", prefix.trim_end_matches('/'), env!("CARGO_PKG_VERSION"));
            println!("{name}: {}", images.push(name, &to)?);
        }
    }
    Ok(())
}

/// What images are built with.
pub(crate) struct Images<'a> {
    out: &'a Path,
    base: Option<&'a str>,
    /// `kwsk-shim` with the commands for images, for this machine.
    pub(crate) tool: PathBuf,
    /// What goes into the images.
    pub(crate) shim: PathBuf,
    /// Where the static programs are built.
    target: String,
    work: tempfile::TempDir,
}

impl<'a> Images<'a> {
    /// Builds the programs; images go to `out`, those of runtimes on top of `base` if there is one.
    pub(crate) fn prepare(out: &'a Path, base: Option<&'a str>) -> anyhow::Result<Self> {
        setup::package_lists()?;
        workspace::run(&mut cargo(&["build", "--locked", "-p", "kwsk-shim"]))?;
        let target = host()?;
        let shim = shim()?;
        let size = fs::metadata(&shim).with_context(|| format!("cannot read {}", shim.display()))?.len();
        println!("shim: {size} bytes");
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let work = tempfile::tempdir()?;
        Ok(Self { out, base, tool: target_dir().join("debug/kwsk-shim"), shim, target, work })
    }

    /// Builds one of our images and says its digest.
    pub(crate) fn build(&self, name: &str) -> anyhow::Result<String> {
        match RUNTIMES.iter().find(|runtime| runtime.name == name) {
            Some(runtime) => self.runtime(runtime),
            None if name == "server" => self.server(),
            None => self.run(self.shimmed(name).args(["--entrypoint", r#"["/kwsk/bin/shim"]"#])),
        }
    }

    /// Pushes what was built and says where it is.
    pub(crate) fn push(&self, name: &str, to: &str) -> anyhow::Result<String> {
        let mut push = Command::new(&self.tool);
        Ok(output(push.arg("push").arg(self.out.join(name)).arg(to))?.trim().to_owned())
    }

    /// Builds a runtime as its author ships it, which knows nothing of the shim: Node.js, and a program in a working
    /// directory of its own.
    pub(crate) fn stock(&self, program: &str) -> anyhow::Result<String> {
        let file = self.work.path().join("server.js");
        fs::write(&file, program)?;
        let mut build = self.command("stock");
        self.debian(&mut build, "nodejs", &["base-files", "dash", "nodejs"])?;
        build.arg("--add").arg(added(&file, "/srv/server.js", Some("0644")));
        build.args(["--workdir", "/srv", "--env", "FROM_IMAGE=kept"]);
        build.args(["--entrypoint", r#"["node","/srv/server.js"]"#, "--cmd", r#"["8080"]"#]);
        self.run(&mut build)
    }

    fn command(&self, name: &str) -> Command {
        let mut build = Command::new(&self.tool);
        build.arg("build").arg("--out").arg(self.out.join(name)).arg("--name").arg(format!("kwsk/{name}"));
        build.args(["--label", concat!("org.opencontainers.image.version=", env!("CARGO_PKG_VERSION"))]);
        build.args(["--user", USER]);
        build
    }

    fn shimmed(&self, name: &str) -> Command {
        let mut build = self.command(name);
        build.arg("--shim").arg(&self.shim);
        build
    }

    /// The digest that `kwsk-shim build` prints.
    fn run(&self, command: &mut Command) -> anyhow::Result<String> {
        Ok(output(command)?.trim().to_owned())
    }

    fn server(&self) -> anyhow::Result<String> {
        workspace::run(&mut static_build(&self.target, &["-p", "kwsk-server", "--release"]))?;
        let server = target_dir().join(&self.target).join("release/kwsk-server");
        let mut build = self.shimmed("server");
        build.arg("--add").arg(added(&server, "/kwsk/bin/server", Some("0755")));
        build.args(["--mkdir", "/tmp:1777", "--entrypoint", r#"["/kwsk/bin/server"]"#, "--workdir", "/tmp"]);
        build.args(["--env", "HOME=/tmp", "--env", "KWSK_LISTEN=0.0.0.0:3233"]);
        self.people(&mut build)?;
        self.authorities(&mut build)?;
        self.run(&mut build)
    }

    fn runtime(&self, runtime: &Runtime) -> anyhow::Result<String> {
        let mut build = self.shimmed(runtime.name);
        if let Some(base) = self.base {
            build.arg("--from").arg(base);
        }
        self.debian(&mut build, runtime.name, runtime.packages)?;
        build.args(["--entrypoint", runtime.entrypoint, "--workdir", "/tmp"]);
        build.args(["--env", "HOME=/tmp", "--env", "LANG=C.UTF-8"]);
        self.people(&mut build)?;
        self.authorities(&mut build)?;
        self.run(&mut build)
    }

    /// Debian packages with all they need.
    fn debian(&self, build: &mut Command, name: &str, packages: &[&str]) -> anyhow::Result<()> {
        // As installations of Debian have it; the packages still name the old places.
        for directory in ["bin", "lib", "lib64", "sbin"] {
            build.arg("--mkdir").arg(format!("/usr/{directory}:0755"));
            build.arg("--symlink").arg(format!("/{directory}:usr/{directory}"));
        }
        let directory = self.work.path().join(name);
        debs::closure(packages, &directory)?;
        build.arg("--slim").arg("--debs").arg(directory);
        // Otherwise made by a maintainer script.
        build.args(["--symlink", "/usr/bin/awk:mawk", "--mkdir", "/tmp:1777"]);
        build.args(["--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        Ok(())
    }

    fn people(&self, build: &mut Command) -> anyhow::Result<()> {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
                      action:x:65532:65532:action:/tmp:/usr/sbin/nologin\n";
        let group = "root:x:0:\nnogroup:x:65534:\naction:x:65532:\n";
        for (name, content) in [("passwd", passwd), ("group", group)] {
            let file = self.work.path().join(name);
            fs::write(&file, content)?;
            build.arg("--add").arg(added(&file, &format!("/etc/{name}"), Some("0644")));
        }
        Ok(())
    }

    /// The authorities that HTTPS trusts, put together as the package's maintainer script would.
    fn authorities(&self, build: &mut Command) -> anyhow::Result<()> {
        let file = self.work.path().join("ca-certificates.crt");
        if !file.is_file() {
            fs::write(&file, debs::authorities(self.work.path())?)?;
        }
        build.arg("--add").arg(added(&file, "/etc/ssl/certs/ca-certificates.crt", Some("0644")));
        Ok(())
    }
}

fn added(from: &Path, to: &str, mode: Option<&str>) -> String {
    let mode = mode.map(|mode| format!(":{mode}")).unwrap_or_default();
    format!("{}:{to}{mode}", from.display())
}

/// The shim as it is in the images, built.
pub(crate) fn shim() -> anyhow::Result<PathBuf> {
    let target = host()?;
    let shim = ["-p", "kwsk-shim", "--no-default-features", "--profile", "shim"];
    workspace::run(&mut static_build(&target, &shim))?;
    Ok(target_dir().join(&target).join("shim/kwsk-shim"))
}

/// A build that needs nothing of the image it is put into.
fn static_build(target: &str, args: &[&str]) -> Command {
    let mut build = cargo(&["build", "--locked", "--target", target]);
    // The paths of this machine are nobody's business, and would make the same source another program elsewhere.
    let home = workspace::variable("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| workspace::variable("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/kwsk", root().display()),
    ];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    build.args(args).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    build
}

/// The triple of this machine.
fn host() -> anyhow::Result<String> {
    let text = output(Command::new(workspace::variable("RUSTC").as_deref().unwrap_or("rustc")).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    ensure!(host.contains("-linux-"), "images are for Linux, and this is {host}");
    Ok(host.to_owned())
}
