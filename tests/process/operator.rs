//! What an operator may do wrong: each is one line that names the way out, and exits before anything is bound.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::server::{Server, command, free_port};

/// Runs a server that is expected to refuse; its one line of error.
fn refusal(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "it started: {text}");
    text.trim_end().to_owned()
}

fn one_line(command: Command, words: &[&str]) {
    let text = refusal(command);
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is missing in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    one_line(command(data.path(), port), &[&port.to_string(), "--listen"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_has_one_server_at_a_time() {
    let data = tempfile::tempdir().unwrap();
    let _first = Server::start(data.path()).await;
    one_line(command(data.path(), free_port()), &["--data"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_data_directory_is_refused() {
    let data = tempfile::tempdir().unwrap();
    assert!(Server::start(data.path()).await.terminate());
    let database = rusqlite::Connection::open(data.path().join("kwsk.db")).unwrap();
    database.pragma_update(None, "user_version", 9999).unwrap();
    drop(database);
    one_line(command(data.path(), free_port()), &["newer", "--data"]);
}

#[test]
fn bad_settings_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let with = |name: &str, value: &str| {
        let mut command = command(data.path(), free_port());
        command.env(name, value);
        refusal(command)
    };
    for (name, value) in [
        ("KWSK_LIMITS_INVOCATIONS_PER_MINUTE", "many"),
        ("KWSK_LIMITS_FIRES_PER_MINUTE", "-1"),
        ("KWSK_LIMITS_CONCURRENT_INVOCATIONS", "1.5"),
    ] {
        let text = with(name, value);
        assert!(text.contains(value), "{text}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    one_line(command(file.path(), free_port()), &["--data"]);
    let mut unknown = command(data.path(), free_port());
    unknown.arg("--no-such-flag");
    assert!(refusal(unknown).contains("--no-such-flag"));
}

/// A file system of a few megabytes, where the machine lets us have one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "kwsk-test"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|s| s.success()).then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_an_error_and_not_the_end() {
    // Without the right to mount, the store's own tests of a full database are what there is.
    let Some(disk) = SmallDisk::mount("12m") else { return };
    let server = Server::start_with(disk.path(), &["--stem-cells", "0"]).await;
    server.action("small", "function main() { return {}; }").await;
    let filler = disk.path().join("filler");
    fill(&filler);
    let code = format!("function main() {{}} // {}", "x".repeat(3_000_000));
    let body = json!({"exec": {"kind": "nodejs:default", "code": code}});
    let (status, answer) = server.put("actions/large", body.clone()).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["error"].is_string() && answer["code"].is_string(), "{answer}");
    assert_eq!(server.get("actions/large").await.0, 404, "half-written");
    assert_eq!(server.get("actions/small").await.0, 200, "the server is gone");

    std::fs::remove_file(&filler).unwrap();
    let (status, answer) = server.put("actions/large", body).await;
    assert_eq!(status, 200, "{}", answer["error"]);
    let (status, answer) = server.post("actions/small?blocking=true&result=true", json!({})).await;
    assert_eq!((status, answer), (200, json!({})));
    assert!(server.terminate());
}

/// Writes until nothing fits any more.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [65_536, 4096, 1] {
        let block = vec![0_u8; size];
        while file.write_all(&block).is_ok() {}
    }
}

/// A memory cgroup of the test's own, where the machine lets us have one.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn make() -> Option<Self> {
        let name = format!("kwsk-test-{}", std::process::id());
        ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].into_iter().find_map(|base| {
            let made = Self(Path::new(base).join(&name));
            std::fs::create_dir(&made.0).ok()?;
            drop(std::fs::write(made.0.join("cgroup.subtree_control"), "+memory"));
            let child = made.0.join("probe");
            std::fs::create_dir(&child).ok()?;
            let limited = ["memory.max", "memory.limit_in_bytes"]
                .iter()
                .any(|file| std::fs::write(child.join(file), "134217728").is_ok());
            drop(std::fs::remove_dir(child));
            limited.then_some(made)
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(&self.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delegated_cgroup_limits_memory() {
    let Some(cgroup) = Cgroup::make() else { return };
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--cgroup", cgroup.0.to_str().unwrap()]).await;
    let code = "function main(p) { const kept = []; for (let i = 0; i < p.mb; i += 8) kept.push(Buffer.alloc(8 << 20, 1)); return {mb: kept.length * 8}; }";
    let limits = json!({"memory": 128});
    let body = json!({"exec": {"kind": "nodejs:default", "code": code}, "limits": limits});
    assert_eq!(server.put("actions/fill", body).await.0, 200);
    let fill = "actions/fill?blocking=true&result=true";
    assert_eq!(server.post(fill, json!({"mb": 16})).await, (200, json!({"mb": 16})));
    let (status, result) = server.post(fill, json!({"mb": 400})).await;
    assert_eq!((status, result), (502, json!({"error": "The action exhausted its memory and was aborted."})));
    assert_eq!(server.post(fill, json!({"mb": 8})).await, (200, json!({"mb": 8})));
    assert!(server.terminate());
    let left: Vec<_> =
        std::fs::read_dir(&cgroup.0).unwrap().flatten().filter(|e| e.path().is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}
