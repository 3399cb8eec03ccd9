//! Flags and environment become a [`Config`], checked before a socket is bound.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};
use http::Uri;
use kwsk_model::identity::SystemLimits;
use kwsk_model::runtimes::RuntimesManifest;
use kwsk_translate::platform::DEFAULT_RUNTIMES;
use tracing_subscriber::EnvFilter;

/// Smallest budget for instances, in MB: one action with the default memory limit.
const MIN_MEMORY_MB: u64 = 256;
/// Most prewarmed processes per kind.
const MAX_STEM_CELLS: usize = 64;

const EXAMPLES: &str = "\
Examples:
  kwsk-server
      A whole platform on http://127.0.0.1:3233 with state in the user's data directory.
  kwsk-server --listen 127.0.0.1:0 --data /tmp/try
      A free port, and state that may be thrown away.
  kwsk-server --allow-origin http://localhost:8080
      Lets pages of a web server of yours use the API.
  KWSK_LIMITS_INVOCATIONS_PER_MINUTE=100000 kwsk-server
      For a load test.
  kwsk-server append IMAGE --to REPOSITORY --shim FILE
      Adds the shim to an image, over the registry API; `kwsk-server append --help` says more.

Use it with any OpenWhisk client:
  wsk property set --apihost http://127.0.0.1:3233 --auth 23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP
  wsk list";

/// OpenWhisk's API on Knative, in one process.
#[derive(Debug, Parser)]
#[command(name = "kwsk-server", version, after_help = EXAMPLES)]
struct Flags {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "KWSK_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:3233", value_parser = listen)]
    listen: SocketAddr,
    /// Directory of all state [default: kwsk in the user's data directory]
    #[arg(long, env = "KWSK_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// URL at which clients and actions reach this server [default: http://<listen>]
    #[arg(long, env = "KWSK_API_HOST", value_name = "URL", value_parser = api_host)]
    api_host: Option<String>,
    /// Origin whose web pages may use the API; may be given several times
    #[arg(long, env = "KWSK_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    allow_origin: Vec<String>,
    /// Runtimes manifest in OpenWhisk's format [default: built in]
    #[arg(long, env = "KWSK_RUNTIMES", value_name = "FILE", value_parser = manifest)]
    runtimes: Option<RuntimesManifest>,
    /// MB that the memory limits of all instances may add up to [default: half of this machine's]
    #[arg(long, env = "KWSK_MEMORY", value_name = "MB", value_parser = memory)]
    memory: Option<u64>,
    /// Seconds after which an idle instance is ended
    #[arg(long, env = "KWSK_IDLE", value_name = "SECONDS", default_value = "600", value_parser = idle)]
    idle: Duration,
    /// Prewarmed processes of each runtime family's default kind
    #[arg(long, env = "KWSK_STEM_CELLS", value_name = "N", default_value = "1", value_parser = stem_cells)]
    stem_cells: usize,
    /// Memory cgroup that is delegated to kwsk, for a child per runtime; without one, memory is only watched
    #[arg(long, env = "KWSK_CGROUP", value_name = "DIR", value_parser = cgroup)]
    cgroup: Option<PathBuf>,
    /// Days for which activations are kept; 0 keeps them for ever
    #[arg(long, env = "KWSK_KEEP_ACTIVATIONS", value_name = "DAYS", default_value = "30", value_parser = days)]
    keep_activations: u64,
    /// What is logged to stderr, as in `info` or `warn,kwsk_knative=debug`
    #[arg(long, env = "KWSK_LOG", value_name = "FILTER", default_value = "warn,kwsk=info", value_parser = log)]
    log: String,
    /// Invocations per namespace and minute
    #[arg(long, env = "KWSK_LIMITS_INVOCATIONS_PER_MINUTE", value_name = "N", default_value = "60", value_parser = count)]
    limits_invocations_per_minute: u64,
    /// Trigger fires per namespace and minute
    #[arg(long, env = "KWSK_LIMITS_FIRES_PER_MINUTE", value_name = "N", default_value = "60", value_parser = count)]
    limits_fires_per_minute: u64,
    /// Invocations in flight per namespace
    #[arg(long, env = "KWSK_LIMITS_CONCURRENT_INVOCATIONS", value_name = "N", default_value = "30", value_parser = count)]
    limits_concurrent_invocations: u64,
    /// Most activations at a time in one instance that an action may ask for
    #[arg(long, env = "KWSK_LIMITS_MAX_ACTION_CONCURRENCY", value_name = "N", default_value = "1", value_parser = concurrency)]
    limits_max_action_concurrency: u64,
}

/// What the server is to do, every value checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where all state is.
    pub data: PathBuf,
    /// The URL clients know, when it differs from where the server listens.
    pub api_host: Option<String>,
    /// Origins whose pages may use the API.
    pub allow_origin: Vec<String>,
    /// Kinds and how to start them.
    pub manifest: RuntimesManifest,
    /// MB for all instances together.
    pub memory_mb: u64,
    /// How long an instance may be idle.
    pub idle: Duration,
    /// Prewarmed processes of each default kind.
    pub stem_cells: usize,
    /// A memory cgroup that is kwsk's own.
    pub cgroup: Option<PathBuf>,
    /// How long activations are kept; for ever when absent.
    pub keep_activations: Option<Duration>,
    /// Bytes the store may grow to; nothing but the disk bounds it by default.
    pub max_store_bytes: Option<u64>,
    /// A filter that `EnvFilter` reads.
    pub log: String,
    /// What namespaces may do unless their own limits say otherwise.
    pub limits: SystemLimits,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Serve.
    Serve(Box<Config>),
    /// Print this: `--help`, `--version`.
    Text(String),
}

/// A command line or environment that cannot be used. `Display` is one line with flag, value and way out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(String);

impl Config {
    /// Reads the command line and the environment of this process.
    ///
    /// # Errors
    /// [`BadConfig`].
    pub fn from_command_line() -> Result<Asked, BadConfig> {
        Self::from_arguments(std::env::args_os())
    }

    /// Reads `arguments` (the first is the program) and the environment of this process.
    ///
    /// # Errors
    /// [`BadConfig`].
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, BadConfig> {
        let matches = match Flags::command().try_get_matches_from(arguments) {
            Ok(matches) => matches,
            Err(error) => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    return Ok(Asked::Text(error.to_string()));
                }
                _ => return Err(BadConfig(one_line(&error))),
            },
        };
        let flags = Flags::from_arg_matches(&matches).map_err(|error| BadConfig(one_line(&error)))?;
        flags.try_into().map(|config| Asked::Serve(Box::new(config)))
    }

    /// The URL clients and actions use, for a server that listens on `listen`.
    #[must_use]
    pub fn api_host(&self, listen: SocketAddr) -> String {
        self.api_host.clone().unwrap_or_else(|| {
            let reachable = match listen {
                SocketAddr::V4(a) if a.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], a.port())),
                SocketAddr::V6(a) if a.ip().is_unspecified() => {
                    SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], a.port()))
                }
                other => other,
            };
            format!("http://{reachable}")
        })
    }
}

impl TryFrom<Flags> for Config {
    type Error = BadConfig;

    fn try_from(flags: Flags) -> Result<Self, BadConfig> {
        let mut limits = SystemLimits {
            invocations_per_minute: flags.limits_invocations_per_minute,
            fires_per_minute: flags.limits_fires_per_minute,
            concurrent_invocations: flags.limits_concurrent_invocations,
            ..SystemLimits::default()
        };
        limits.action.concurrency.max = flags.limits_max_action_concurrency;
        limits.action.instances = flags.limits_concurrent_invocations;
        Ok(Self {
            listen: flags.listen,
            data: flags.data.map_or_else(default_data, Ok)?,
            api_host: flags.api_host,
            allow_origin: flags.allow_origin,
            manifest: flags.runtimes.unwrap_or_else(built_in),
            memory_mb: flags.memory.unwrap_or_else(half_of_memory),
            idle: flags.idle,
            stem_cells: flags.stem_cells,
            cgroup: flags.cgroup,
            keep_activations: match flags.keep_activations {
                0 => None,
                days => Some(Duration::from_secs(days * 24 * 3600)),
            },
            max_store_bytes: None,
            log: flags.log,
            limits,
        })
    }
}

/// One line: which flag, which value, why, and what to do.
fn one_line(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (flag, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let flag = flag.split(' ').next().unwrap_or_default();
    match (error.kind(), std::error::Error::source(error)) {
        (ErrorKind::ValueValidation, Some(why)) => {
            let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
            format!("{flag} (or KWSK_{variable}) is '{value}': {why}")
        }
        _ => {
            let rendered = error.to_string();
            let first = rendered.lines().next().unwrap_or_default();
            format!("{}; see --help", first.trim_start_matches("error: "))
        }
    }
}

// === values ===

fn listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.replace("localhost:", "127.0.0.1:");
    text.parse().map_err(|_| "not an address and port; give one like 127.0.0.1:3233".to_owned())
}

fn api_host(text: &str) -> Result<String, String> {
    let refused = || "not a URL of scheme, host and port; give one like http://127.0.0.1:3233".to_owned();
    let uri: Uri = text.parse().map_err(|_| refused())?;
    let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https")).ok_or_else(refused)?;
    let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(refused)?;
    if uri.path_and_query().is_some_and(|p| p != "/") {
        return Err(refused());
    }
    // Clients compare the text, and expect default ports to be left out.
    let default = if scheme == "http" { ":80" } else { ":443" };
    let authority = authority.as_str();
    Ok(format!("{scheme}://{}", authority.strip_suffix(default).unwrap_or(authority)))
}

fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err("any page could run code here; name the origins one by one".to_owned());
    }
    api_host(text).map_err(|_| "not an origin; give one like http://localhost:8080".to_owned())
}

fn memory(text: &str) -> Result<u64, String> {
    at_least(text, MIN_MEMORY_MB, "MB")
}

fn idle(text: &str) -> Result<Duration, String> {
    at_least(text, 1, "seconds").map(Duration::from_secs)
}

fn cgroup(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.join("cgroup.procs").is_file() {
        Ok(path)
    } else {
        Err("not a cgroup directory; make one under /sys/fs/cgroup and give its path".to_owned())
    }
}

fn days(text: &str) -> Result<u64, String> {
    at_least(text, 0, "days")
}

fn count(text: &str) -> Result<u64, String> {
    at_least(text, 0, "requests")
}

fn concurrency(text: &str) -> Result<u64, String> {
    match at_least(text, 1, "activations")? {
        n if n <= 500 => Ok(n),
        _ => Err("give a whole number of at most 500".to_owned()),
    }
}

fn stem_cells(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= MAX_STEM_CELLS => Ok(n),
        _ => Err(format!("give a whole number from 0 to {MAX_STEM_CELLS}")),
    }
}

fn at_least(text: &str, min: u64, unit: &str) -> Result<u64, String> {
    match text.parse() {
        // More than this overflows clocks and budgets further in.
        Ok(n) if n >= min && n <= u64::from(u32::MAX) => Ok(n),
        _ => Err(format!("give a whole number of {unit}, at least {min}")),
    }
}

fn log(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; give a filter like info or warn,kwsk_knative=debug")),
    }
}

// === the machine ===

fn manifest(path: &str) -> Result<RuntimesManifest, String> {
    let path = Path::new(path);
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read ({error})"))?;
    let mut manifest = RuntimesManifest::parse(&text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
        format!("{error}{}; correct the file", cause.unwrap_or_default())
    })?;
    // Upstream's files do not say how a kind is started without a container; for the kinds kwsk knows, kwsk does.
    let known = built_in();
    for kind in manifest.families.values_mut().flatten() {
        if kind.command.is_none() {
            kind.command = known.get(&kind.kind).and_then(|k| k.command.clone());
        }
    }
    Ok(manifest)
}

fn built_in() -> RuntimesManifest {
    match RuntimesManifest::parse(DEFAULT_RUNTIMES) {
        Ok(manifest) => manifest,
        Err(_) => unreachable!("the embedded manifest is checked by a test"),
    }
}

/// `kwsk` in the user's data directory, as the XDG specification has it.
fn default_data() -> Result<PathBuf, BadConfig> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").filter(|path| path.is_absolute());
    base.or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("kwsk"))
        .ok_or_else(|| {
            BadConfig(
                "there is no home directory to keep state in; give one with --data or KWSK_DATA".to_owned(),
            )
        })
}

/// Half of the machine's memory, in MB.
fn half_of_memory() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    total.map_or(2048, |kb| kb / 1024 / 2).max(MIN_MEMORY_MB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let all = ["kwsk-server"].into_iter().chain(arguments.iter().copied()).map(OsString::from);
        match Config::from_arguments(all) {
            Ok(Asked::Serve(config)) => Ok(*config),
            Ok(Asked::Text(text)) => Err(text),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn defaults() {
        let config = parse(&["--data", "/d"]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:3233");
        assert_eq!(config.api_host(config.listen), "http://127.0.0.1:3233");
        assert_eq!(config.api_host("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(config.limits, SystemLimits::default());
        assert_eq!((config.stem_cells, config.idle), (1, Duration::from_secs(600)));
        assert!(config.memory_mb >= MIN_MEMORY_MB);
    }

    #[test]
    fn good_values() {
        let flags = [
            "--listen=localhost:0",
            "--api-host=HTTPS://Kwsk.test:443/",
            "--allow-origin=http://a:1",
            "--allow-origin=https://b",
            "--limits-max-action-concurrency=200",
            "--limits-concurrent-invocations=7",
        ];
        let config = parse(&flags).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.api_host.as_deref(), Some("https://Kwsk.test"));
        assert_eq!(config.allow_origin, ["http://a:1", "https://b"]);
        assert_eq!(config.limits.action.concurrency.max, 200);
        assert_eq!(config.limits.action.instances, 7);
    }

    #[test]
    fn bad_values_get_one_line_with_flag_value_and_way_out() {
        for (flags, parts) in [
            (
                &["--listen", "nowhere"] as &[&str],
                &["--listen", "'nowhere'", "127.0.0.1:3233", "KWSK_LISTEN"] as &[&str],
            ),
            (&["--listen", "127.0.0.1"], &["--listen", "127.0.0.1:3233"]),
            (&["--api-host", "kwsk.test"], &["--api-host", "KWSK_API_HOST", "http://127.0.0.1:3233"]),
            (&["--api-host", "http://a/b"], &["--api-host"]),
            (&["--api-host", "http://me@a"], &["--api-host"]),
            (&["--allow-origin", "*"], &["--allow-origin", "one by one"]),
            (&["--allow-origin", "here"], &["--allow-origin", "http://localhost:8080"]),
            (&["--runtimes", "/no/such"], &["--runtimes", "'/no/such'", "cannot be read"]),
            (&["--memory", "64"], &["--memory", "'64'", "at least 256"]),
            (&["--memory", "lots"], &["--memory", "at least 256"]),
            (&["--idle", "0"], &["--idle", "at least 1"]),
            (&["--stem-cells=-1"], &["--stem-cells"]),
            (&["--stem-cells", "65"], &["--stem-cells", "from 0 to 64"]),
            (&["--log", "a=b=c"], &["--log", "info"]),
            (
                &["--limits-fires-per-minute", "x"],
                &["--limits-fires-per-minute", "KWSK_LIMITS_FIRES_PER_MINUTE"],
            ),
            (&["--limits-max-action-concurrency", "0"], &["at least 1"]),
            (&["--no-such-flag"], &["--no-such-flag", "--help"]),
            (&["stray"], &["'stray'", "--help"]),
        ] {
            let text = parse(flags).unwrap_err();
            assert!(!text.contains('\n'), "{text}");
            for part in parts {
                assert!(text.contains(part), "{part} is not in: {text}");
            }
        }
    }

    #[test]
    fn help_has_examples() {
        let help = parse(&["--help"]).unwrap_err();
        assert!(help.contains("Examples:") && help.contains("--allow-origin"), "{help}");
        assert!(parse(&["--version"]).unwrap_err().starts_with("kwsk-server "));
        Flags::command().debug_assert();
    }

    #[test]
    fn upstream_manifests_get_commands() {
        let dir = std::env::temp_dir().join(format!("kwsk-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("runtimes.json");
        std::fs::write(&file, r#"{"runtimes":{"nodejs":[{"kind":"nodejs:20","image":{"name":"x"}}]}}"#)
            .unwrap();
        let read = manifest(file.to_str().unwrap()).unwrap();
        assert!(read.get("nodejs:20").unwrap().command.is_some());
        std::fs::write(&file, r#"{"runtimes":{"a":[]}}"#).unwrap();
        assert!(manifest(file.to_str().unwrap()).unwrap_err().contains("exactly one default"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
