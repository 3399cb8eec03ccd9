//! How a container begins, is interrupted, and ends.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_init_ahead_of_the_first_run() {
    let mark = tempfile::NamedTempFile::new().unwrap();
    let count = || std::fs::read_to_string(&mark).unwrap().len();
    let append = format!("require('fs').appendFileSync({:?}, 'x'); console.log('init');", path(mark.path()));
    let fails_once = format!(
        "{append} if (require('fs').readFileSync({:?}).length < 3) throw new Error('no');",
        path(mark.path())
    );
    let good = mounted(&format!("{append} function main() {{ console.log('run'); return {{}} }}"));
    let bad = mounted(&format!("{fails_once} exports.main = () => {{ console.log('run'); return {{}} }}"));
    let how =
        |mount| ["exec", "--action", mount, "--protocol", "actionloop", "--", "node", "{launcher:node}"];

    let container = Container::start(&how(path(good.path())), &[]).await;
    until("the init", || count() == 1).await;
    let report = container.run(json!({})).await;
    ok(&report);
    assert_eq!((logs(&report), count()), (vec!["stdout: init", "stdout: run"], 1));
    assert!(report.init_ms.is_some_and(|ms| report.duration_ms >= ms));
    assert_eq!(container.run(json!({})).await.init_ms, None);
    container.stop().await;

    let container = Container::start(&how(path(bad.path())), &[]).await;
    until("the init", || count() == 2).await;
    let report = container.run(json!({})).await;
    assert!(developer_error(&report).contains("Error: no"));
    assert!(logs(&report).contains(&"stdout: init") && report.init_ms.is_some());
    assert_eq!(count(), 2, "it is the failure of the init ahead");
    assert!(container.is_ready().await);
    let report = container.run(json!({})).await;
    ok(&report);
    assert_eq!((report.init_ms.is_some(), count()), (true, 3));
    container.stop().await;
}

/// An image that is a [`moody`] one.
async fn moody_image(options: &[&str], moods: &str, file: &Path) -> Container {
    let port = free_port().to_string();
    let argv = moody(moods, file, &port);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    Container::start(&[&["exec", "--port", &port], options, &["--"], &argv].concat(), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_the_same_port() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let container = moody_image(&["--timeout", "1000"], "ok", file.path()).await;
    let first = ok(&container.run(json!({})).await);
    for (arguments, text) in [
        (json!({"hang":true}), "The action exceeded its time limits of 1000 milliseconds."),
        (json!({"fail":true}), "failed"),
    ] {
        assert_eq!(developer_error(&container.run(arguments).await), text);
        assert!(ok(&container.run(json!({})).await)["pid"] != first["pid"]);
    }
    assert_eq!(ok(&container.run(json!({})).await)["process"], json!(3));
    container.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let how = ["exec", "--port", &port, "--", "node", "x.js"];
    let container = Container::start(&how, &[]).await;
    let error = whisk_error(&container.run(json!({})).await);
    assert!(error.contains(&format!("Something else listens on port {port}")), "{error}");
    container.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runtimes_that_shut_down() {
    for (moods, process) in [("run-503,ok", 2), ("init-503,ok", 2)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let container = moody_image(&[], moods, file.path()).await;
        until("the first process", || std::fs::metadata(file.path()).unwrap().len() > 0).await;
        assert_eq!(ok(&container.run(json!({})).await)["process"], json!(process), "{moods}");
        container.stop().await;
    }
    for moods in ["run-503", "init-503"] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let container = moody_image(&[], moods, file.path()).await;
        let error = container.refused(json!({})).await;
        assert!(error.contains("shutting down (503)") && error.contains("nothing was run"), "{error}");
        container.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_passed_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let container = moody_image(&[], "ok", file.path()).await;
    assert_eq!(ok(&container.run(json!({})).await)["signal"], Value::Null);
    for signal in [Signal::USR2, Signal::WINCH] {
        container.signal(signal);
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ok(&container.run(json!({})).await)["signal"] != json!("SIGUSR2") {
        assert!(tokio::time::Instant::now() < deadline, "the signal does not arrive");
    }
    container.stop().await;
}

/// Holds a run until a file is there.
const HELD: &str = "async function main(a) { const fs = require('fs'); fs.writeFileSync(a.began, ''); while (!fs.existsSync(a.file)) await new Promise(r => setTimeout(r, 5)); return {done: true} }";

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_loses_no_run() {
    let (mount, dir) = (mounted(HELD), tempfile::tempdir().unwrap());
    let how =
        ["exec", "--action", path(mount.path()), "--protocol", "actionloop", "--", "node", "{launcher:node}"];
    let mut container = Container::start(&how, &[]).await;
    let (began, file) = (dir.path().join("began"), dir.path().join("go"));
    let held = json!({"began": began, "file": file});
    let (report, ()) = tokio::join!(container.run(held), async {
        until("the run", || began.exists()).await;
        container.signal(Signal::TERM);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while TcpStream::connect(container.address).await.is_ok() {
            assert!(tokio::time::Instant::now() < deadline, "it still accepts connections");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::write(&file, "").unwrap();
    });
    assert_eq!(ok(&report), json!({"done":true}));
    assert_eq!(container.ended().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let mount = mounted(HELD);
    let how = |grace| {
        [
            "exec",
            "--action",
            path(mount.path()),
            "--grace",
            grace,
            "--protocol",
            "actionloop",
            "--",
            "node",
            "{launcher:node}",
        ]
    };
    for (grace, signals, code) in [
        ("0", &[Signal::TERM][..], 0),
        ("0", &[Signal::INT], 0),
        ("60", &[Signal::TERM, Signal::TERM], 143),
        ("60", &[Signal::TERM, Signal::INT], 130),
    ] {
        let mut container = Container::start(&how(grace), &[]).await;
        let began = dir.path().join(format!("began-{grace}-{code}-{}", signals.len()));
        let held = json!({"began": began, "file": "/nonexistent"});
        let (report, ()) = tokio::join!(container.try_run(&held), async {
            until("the run", || began.exists()).await;
            for signal in signals {
                container.signal(*signal);
                let deadline = tokio::time::Instant::now() + PATIENCE;
                while TcpStream::connect(container.address).await.is_ok() {
                    assert!(tokio::time::Instant::now() < deadline, "it still accepts connections");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        match code {
            0 => assert!(whisk_error(&report.unwrap()).contains("was stopped before the run ended")),
            _ => assert!(report.is_err()),
        }
        assert_eq!(container.ended().await, code);
        std::fs::remove_file(&began).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_ignores_sigterm() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let container = moody_image(&[], "stubborn", file.path()).await;
    let pid = ok(&container.run(json!({})).await)["pid"].as_u64().unwrap();
    container.stop().await;
    assert!(!is_alive(pid));
}

/// Starts a process that leaves its group, and one that ends as an orphan.
const DAEMONS: &str = "import os, subprocess, time
def main(a):
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            time.sleep(300)
        os._exit(0)
    os.wait()
    daemon = int(os.read(read, 20))
    if os.fork() == 0:
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            time.sleep(0.05)
        os._exit(0)
    os.wait()
    orphan = int(os.read(read, 20))
    if a.get('hang'):
        open(a['hang'], 'w').write(str(daemon))
        time.sleep(300)
    return {'daemon': daemon, 'orphan': orphan}";

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_buried_and_daemons_end_with_their_runtime() {
    let (mount, dir) = (mounted(DAEMONS), tempfile::tempdir().unwrap());
    let how = [
        "exec",
        "--action",
        path(mount.path()),
        "--timeout",
        "3000",
        "--protocol",
        "actionloop",
        "--",
        "python3",
        "{launcher:python}",
    ];
    let container = Container::start(&how, &[]).await;
    let got = ok(&container.run(json!({})).await);
    let pid = |key: &str| got[key].as_u64().unwrap();
    assert!(is_alive(pid("daemon")), "it belongs to a good runtime");
    let orphan = format!("/proc/{}", pid("orphan"));
    until("the burial of the orphan", || !Path::new(&orphan).exists()).await;

    let hang = dir.path().join("daemon");
    let report = container.run(json!({"hang": hang})).await;
    assert_eq!(developer_error(&report), "The action exceeded its time limits of 3000 milliseconds.");
    let second: u64 = std::fs::read_to_string(hang).unwrap().parse().unwrap();
    for daemon in [pid("daemon"), second] {
        until("the end of the daemon", || !is_alive(daemon)).await;
        until("its burial", || !Path::new(&format!("/proc/{daemon}")).exists()).await;
    }
    let third = ok(&container.run(json!({})).await)["daemon"].as_u64().unwrap();
    container.stop().await;
    assert!(!is_alive(third), "a daemon outlives its container");
}
