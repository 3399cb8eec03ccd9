//! Untouched clients, installed from their registries.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::server::{KEY, Server, UUID};

/// `node_modules` with what `package.json` in `folder` names, installed once per build directory.
pub(crate) fn npm(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("npm-{name}"));
    std::fs::create_dir_all(&target).unwrap();
    std::fs::copy(folder.join("package.json"), target.join("package.json")).unwrap();
    let output = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"])
        .current_dir(&target)
        .output()
        .expect("npm is needed: install Node.js");
    assert!(output.status.success(), "npm install: {}", String::from_utf8_lossy(&output.stderr));
    target.join("node_modules")
}

/// The output of a client, as the reason when it failed.
pub(crate) fn succeeded(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_openwhisk() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("process/npm");
    let modules = npm(&folder);
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let (url, drive) = (server.url.clone(), folder.join("drive.js"));
    let run = move || {
        Command::new("node")
            .arg(drive)
            .args([&url, &format!("{UUID}:{KEY}")])
            .env("NODE_PATH", modules)
            .output()
            .unwrap()
    };
    succeeded(&tokio::task::spawn_blocking(run).await.unwrap());
    assert!(server.terminate());
}
