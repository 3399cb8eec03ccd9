//! The real `kwsk-server` as a child process.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

pub(crate) const UUID: &str = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502";
pub(crate) const KEY: &str = "123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP";

/// The binary, built once by the cargo that runs these tests.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "kwsk-server"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()
            .unwrap();
        assert!(built.success(), "kwsk-server does not build");
        let mut path = std::env::current_exe().unwrap();
        path.pop();
        path.pop();
        path.join("kwsk-server")
    })
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running server. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) http: Client,
}

impl Server {
    /// Starts the server on `data` and waits until it answers.
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    pub(crate) async fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let port = free_port();
        let mut child = command(data, port).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        // The banner is printed when the socket is bound.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = format!("http://127.0.0.1:{port}");
        let first = lines.next().expect("the server ended before it was ready").unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        assert!(!first.is_empty());
        let http = Client::builder().timeout(Duration::from_secs(100)).build().unwrap();
        let server = Self { child, url, http };
        server.eventually("ping", async |s| s.http.get(format!("{}/ping", s.url)).send().await.is_ok()).await;
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits until it is gone.
    pub(crate) fn terminate(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1/namespaces/_/{path}", self.url);
        self.http.request(method, url).basic_auth(UUID, Some(KEY))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        parts(self.call(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        parts(self.call(Method::PUT, path).json(&body).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        parts(self.call(Method::POST, path).json(&body).send().await.unwrap()).await
    }

    /// Creates or overwrites a JavaScript action.
    pub(crate) async fn action(&self, name: &str, code: &str) {
        let body = json!({"exec": {"kind": "nodejs:default", "code": code}});
        let (status, answer) = self.put(&format!("actions/{name}?overwrite=true"), body).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Waits until `condition` holds; panics after a minute.
    pub(crate) async fn eventually(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if condition(self).await {
                return;
            }
            assert!(Instant::now() < deadline, "{what} did not happen within a minute");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The command line of a server with throttles out of the way.
pub(crate) fn command(data: &Path, port: u16) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(data)
        .env("KWSK_LIMITS_INVOCATIONS_PER_MINUTE", "1000000")
        .env("KWSK_LIMITS_FIRES_PER_MINUTE", "1000000")
        .env("KWSK_LIMITS_CONCURRENT_INVOCATIONS", "2000")
        .env("KWSK_LOG", "error");
    command
}

pub(crate) async fn parts(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
