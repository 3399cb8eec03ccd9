//! [`TestApp`].

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use kwsk_server::config::Asked;
use kwsk_server::{Config, Standalone, serve};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Credentials};
use crate::coverage::Coverage;

/// A key nobody has.
const UNKNOWN_KEY: &str =
    "00000000-0000-0000-0000-000000000000:0000000000000000000000000000000000000000000000000000000000000000";

/// What differs from one test's platform to another's.
#[derive(Debug, Default, Clone)]
pub struct TestConfig {
    flags: Vec<String>,
    coverage: Coverage,
}

impl TestConfig {
    /// Adds a flag of the real server.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push(format!("--{name}={value}"));
        self
    }

    /// Records what its clients see together with what another platform's have seen.
    #[must_use]
    pub fn recording(mut self, coverage: &Coverage) -> Self {
        self.coverage = coverage.clone();
        self
    }

    /// Starts the platform.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(self) -> TestApp {
        TestApp::with(&self)
    }

    fn config(&self, data: &Path) -> Config {
        let fixed = ["kwsk-server", "--listen=127.0.0.1:0"].map(str::to_owned);
        let mut flags = Vec::from(fixed);
        flags.push(format!("--data={}", data.display()));
        // The real defaults are low enough for a test to reach them by accident.
        let defaults = [
            ("stem-cells", "0"),
            ("limits-invocations-per-minute", "100000"),
            ("limits-fires-per-minute", "100000"),
            ("limits-concurrent-invocations", "100"),
        ];
        for (name, value) in defaults {
            if !self.flags.iter().any(|flag| flag.starts_with(&format!("--{name}="))) {
                flags.push(format!("--{name}={value}"));
            }
        }
        flags.extend(self.flags.iter().cloned());
        match Config::from_arguments(flags.into_iter().map(Into::into)) {
            Ok(Asked::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }
}

/// A running platform of its own.
pub struct TestApp {
    /// Without credentials.
    pub anon: Client,
    /// The namespace `guest`.
    pub guest: Client,
    /// The namespace `whisk.system`.
    pub system: Client,
    /// With a key nobody has.
    pub wrong: Client,
    /// Where it listens.
    pub address: SocketAddr,
    /// What its clients have seen.
    pub coverage: Coverage,
    stop: CancellationToken,
    server: Option<JoinHandle<()>>,
    data: TempDir,
}

impl TestApp {
    /// A platform with defaults.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        TestConfig::default().start()
    }

    /// Flags to be set before the start.
    #[must_use]
    pub fn configure() -> TestConfig {
        TestConfig::default()
    }

    fn with(config: &TestConfig) -> Self {
        let coverage = config.coverage.clone();
        let data = tempfile::Builder::new().prefix("kwsk-test-").tempdir().unwrap_or_else(|e| panic!("{e}"));
        let config = config.config(data.path());
        let stop = CancellationToken::new();
        let (ready, address) = mpsc::channel();
        let stopped = stop.clone();
        // A runtime of its own, so that dropping can wait for the end whatever the test's runtime does.
        let server = std::thread::spawn(move || run(&config, &ready, stopped));
        let Ok(address) = address.recv() else {
            panic!("the platform did not start: {:?}", server.join());
        };
        let client = |credentials| Client::new(address, credentials, coverage.clone());
        Self {
            anon: client(Credentials::None),
            guest: client(Credentials::key(kwsk_server::app::GUEST_KEY)),
            system: client(Credentials::key(kwsk_server::app::SYSTEM_KEY)),
            wrong: client(Credentials::key(UNKNOWN_KEY)),
            address,
            coverage: coverage.clone(),
            stop,
            server: Some(server),
            data,
        }
    }

    /// The processes whose working directory or command line lies in this platform's data directory.
    #[must_use]
    pub fn processes(&self) -> Vec<String> {
        processes_of(self.data.path())
    }
}

fn run(config: &Config, ready: &mpsc::Sender<SocketAddr>, stop: CancellationToken) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let platform = async {
        let listener = kwsk_server::serve::bind(config.listen).await.unwrap_or_else(|e| panic!("{e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("{e}"));
        let standalone = Standalone::start(config, address).await.unwrap_or_else(|e| panic!("{e}"));
        if ready.send(address).is_ok() {
            serve(standalone.app(), listener, stop).await;
        }
        standalone.drain().await;
        standalone.stop().await;
    };
    match runtime {
        Ok(runtime) => runtime.block_on(platform),
        Err(error) => panic!("{error}"),
    }
}

fn processes_of(data: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if cwd.starts_with(data) || command.contains(&*data.to_string_lossy()) {
            found.push(format!("{} {command}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.server.take().map(JoinHandle::join);
        if std::thread::panicking() {
            return;
        }
        if let Some(Err(panic)) = ended {
            std::panic::resume_unwind(panic);
        }
        let left = self.processes();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}
