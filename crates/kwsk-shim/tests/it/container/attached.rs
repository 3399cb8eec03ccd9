//! Runtimes that someone else started.

use super::*;

/// A runtime that is not the shim's own.
struct Neighbour {
    child: Child,
    port: u16,
    file: tempfile::NamedTempFile,
    moods: String,
}

impl Neighbour {
    async fn start(moods: &str) -> Self {
        let (port, file) = (free_port(), tempfile::NamedTempFile::new().unwrap());
        let child = Self::spawn(moods, &file, port).await;
        Self { child, port, file, moods: moods.to_owned() }
    }

    async fn spawn(moods: &str, file: &tempfile::NamedTempFile, port: u16) -> Child {
        let argv = moody(moods, file.path(), &port.to_string());
        let child =
            Command::new(&argv[0]).args(&argv[1..]).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "the runtime does not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child
    }

    async fn stop(&mut self) {
        self.child.kill().await.unwrap();
    }

    async fn restart(&mut self) {
        self.stop().await;
        self.child = Self::spawn(&self.moods, &self.file, self.port).await;
    }

    async fn attach(&self, options: &[&str]) -> Container {
        let runtime = format!("127.0.0.1:{}", self.port);
        Container::start(&[&["attach", "--runtime", &runtime], options].concat(), &[]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_runtime_that_failed_has_to_be_restarted() {
    let timed_out = "The action exceeded its time limits of 700 milliseconds.";
    for (arguments, text) in [(json!({"fail":true}), "failed"), (json!({"hang":true}), timed_out)] {
        let mut neighbour = Neighbour::start("ok").await;
        let container = neighbour.attach(&["--timeout", "700"]).await;
        let report = container.run(json!({})).await;
        assert_eq!((ok(&report)["process"].clone(), report.init_ms.is_some()), (json!(1), true));
        assert_eq!(developer_error(&container.run(arguments).await), text);
        for _ in 0..2 {
            let error = container.refused(json!({})).await;
            assert!(error.contains("nothing was run") && error.contains("was restarted"), "{error}");
        }
        neighbour.restart().await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !container.is_ready().await {
            assert!(tokio::time::Instant::now() < deadline, "it does not become ready");
        }
        let got = ok(&container.run(json!({})).await);
        assert_eq!(got["process"], json!(2));
        container.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_runtime_that_was_restarted_is_initialised_again() {
    let mut neighbour = Neighbour::start("ok").await;
    let container = neighbour.attach(&[]).await;
    assert_eq!(ok(&container.run(json!({})).await)["process"], json!(1));
    neighbour.stop().await;
    // Nobody listens; the run waits for the next one in its init.
    let (report, ()) = tokio::join!(container.run(json!({})), neighbour.restart());
    assert_eq!((ok(&report)["process"].clone(), report.init_ms.is_some()), (json!(2), true));
    container.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_was_restarted_trusts_the_runtime() {
    let neighbour = Neighbour::start("ok").await;
    for _ in 0..2 {
        let container = neighbour.attach(&[]).await;
        assert_eq!(ok(&container.run(json!({})).await)["process"], json!(1));
        container.stop().await;
    }
    // One whose init failed says the same, and is not trusted.
    let neighbour = Neighbour::start("init-fails-once").await;
    let container = neighbour.attach(&[]).await;
    for _ in 0..2 {
        let report = container.run(json!({})).await;
        assert_eq!(developer_error(&report), "bad init 1");
        assert!(container.is_ready().await);
    }
    container.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_runtime_that_shuts_down() {
    let mut neighbour = Neighbour::start("run-503,ok").await;
    let container = neighbour.attach(&[]).await;
    let error = container.refused(json!({})).await;
    assert!(error.contains("shutting down (503)"), "{error}");
    neighbour.restart().await;
    assert_eq!(ok(&container.run(json!({})).await)["process"], json!(2));
    container.stop().await;
}
