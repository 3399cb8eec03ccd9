//! The machine the containers run on: containerd, a registry, and the commands that speak to them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What `cargo xtask e2e` started and built.
pub(crate) struct Node {
    socket: String,
    registry: String,
    shim: PathBuf,
    append: PathBuf,
    pulled: Mutex<HashSet<String>>,
}

impl Node {
    pub(crate) fn get() -> &'static Self {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(|| Self {
            socket: given("KWSK_E2E_CONTAINERD"),
            registry: given("KWSK_E2E_REGISTRY"),
            shim: given("KWSK_E2E_SHIM").into(),
            append: given("KWSK_E2E_APPEND").into(),
            pulled: Mutex::default(),
        })
    }

    /// One of the images that were built and pushed for these tests.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/kwsk/{name}:e2e", self.registry)
    }

    /// `ctr`, in a namespace of its own.
    pub(crate) fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.args(["--address", &self.socket, "--namespace", "kwsk-e2e"]);
        command
    }

    /// Makes an image available to containers.
    pub(crate) fn pull(&self, image: &str) {
        let mut pulled = self.pulled.lock().unwrap_or_else(PoisonError::into_inner);
        if pulled.insert(image.to_owned()) {
            done(self.ctr().args(["images", "pull", "--plain-http", image]));
        }
    }

    /// Appends the shim to an image and returns the reference of the result.
    pub(crate) fn append(&self, image: &str) -> String {
        let target = format!("{}/appended/{}", self.registry, image.rsplit('/').next().unwrap());
        let target = target.split_once(":e2e").unwrap().0.to_owned();
        let mut command = Command::new(&self.append);
        command.args(["append", image, "--to", &target, "--shim"]).arg(&self.shim);
        let output = done(&mut command);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn given(name: &str) -> String {
    let value = std::env::vars().find(|(key, _)| key == name).map(|(_, value)| value);
    value.unwrap_or_else(|| panic!("{name} is not set: `cargo xtask e2e shim` runs these tests"))
}

/// Runs a command that must succeed.
pub(crate) fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    output
}
