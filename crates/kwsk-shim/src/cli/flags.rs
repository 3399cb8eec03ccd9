//! The flags of `exec` and `attach`, and what the environment says.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kwsk_model::runtimes::Protocol;
use kwsk_shim::Given;
use lexopt::{Arg, ValueExt as _};
use tracing::level_filters::LevelFilter;

const PORT: u16 = 8090;
const RUNTIME_PORT: u16 = 8080;
const MOUNT: &str = "/kwsk/action";
const TOKEN: &str = "/kwsk/token/token";
const GRACE: Duration = Duration::from_secs(30);

/// Which command the flags are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Exec,
    Attach,
}

/// What is on the command line.
#[derive(Debug)]
pub(crate) struct Flags {
    pub(crate) given: Given,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) runtime: SocketAddr,
    pub(crate) concurrent: bool,
    pub(crate) sentinels: bool,
    pub(crate) work: Option<PathBuf>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) grace: Duration,
    pub(crate) argv: Vec<String>,
}

impl Flags {
    /// `None`: help was asked for.
    pub(crate) fn parse(
        args: &mut lexopt::Parser,
        mode: Mode,
        environment: &Environment,
    ) -> anyhow::Result<Option<Self>> {
        let given = Given {
            mount: MOUNT.into(),
            code_url: environment.text("KWSK_CODE_URL")?,
            token: environment.path("KWSK_TOKEN").unwrap_or_else(|| TOKEN.into()),
            ..Given::default()
        };
        let mut flags = Self {
            given,
            protocol: Protocol::Http,
            port: RUNTIME_PORT,
            runtime: SocketAddr::from((Ipv4Addr::LOCALHOST, RUNTIME_PORT)),
            concurrent: false,
            sentinels: true,
            work: None,
            listen: None,
            grace: GRACE,
            argv: Vec::new(),
        };
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Short('h') | Arg::Long("help") => return Ok(None),
                Arg::Value(program) if mode == Mode::Exec => {
                    let all = std::iter::once(program).chain(args.raw_args()?);
                    flags.argv = all.map(utf8).collect::<anyhow::Result<_>>()?;
                }
                Arg::Long(name) => {
                    let name = name.to_owned();
                    if !flags.long(&name, mode, args)? {
                        return Err(Arg::Long(&name).unexpected().into());
                    }
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Some(flags))
    }

    /// False for a flag that is not known.
    fn long(&mut self, name: &str, mode: Mode, args: &mut lexopt::Parser) -> anyhow::Result<bool> {
        let given = &mut self.given;
        match name {
            "name" => given.name = Some(text(args, name)?),
            "kind" => given.kind = Some(text(args, name)?),
            "main" => given.main = Some(text(args, name)?),
            "code" => given.code = Some(readable(args)?),
            "binary" => given.binary = true,
            "timeout" => given.timeout_ms = Some(number(args, name, 1)?),
            "memory" => given.memory_mb = Some(number(args, name, 1)?),
            "logs" => given.logs_bytes = Some(number(args, name, 0)?),
            "concurrency" => given.concurrency = Some(u32::try_from(number(args, name, 1)?)?),
            "action" => given.mount = args.value()?.into(),
            "concurrent" => self.concurrent = true,
            "listen" => self.listen = Some(address(args, name)?),
            "grace" => self.grace = Duration::from_secs(number(args, name, 0)?),
            "runtime" if mode == Mode::Attach => self.runtime = address(args, name)?,
            "protocol" if mode == Mode::Exec => self.protocol = protocol(args)?,
            "port" if mode == Mode::Exec => {
                self.port = u16::try_from(number(args, name, 1)?).context("--port: ports end at 65535")?;
            }
            "no-sentinels" if mode == Mode::Exec => self.sentinels = false,
            "work" if mode == Mode::Exec => self.work = Some(args.value()?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Where to listen: on loopback where queue-proxy is the only one to ask, and nobody else is to get past it.
    pub(crate) fn address(&self, environment: &Environment) -> anyhow::Result<SocketAddr> {
        if let Some(address) = self.listen {
            return Ok(address);
        }
        let port = match environment.text("PORT")? {
            Some(port) => port.parse().with_context(|| format!("PORT is '{port}', which is no port"))?,
            None => PORT,
        };
        let guarded = environment.has("K_REVISION") || environment.has("K_SERVICE");
        let ip = if guarded { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        Ok(SocketAddr::new(IpAddr::from(ip), port))
    }
}

fn utf8(argument: OsString) -> anyhow::Result<String> {
    argument.string().context("the command of the runtime is not UTF-8")
}

fn text(args: &mut lexopt::Parser, name: &str) -> anyhow::Result<String> {
    let text = args.value()?.string()?;
    if text.is_empty() {
        bail!("--{name}: the value is empty");
    }
    Ok(text)
}

fn number(args: &mut lexopt::Parser, name: &str, least: u64) -> anyhow::Result<u64> {
    let text = args.value()?.string()?;
    let number = text.parse().ok().filter(|number| *number >= least);
    number.with_context(|| format!("--{name}: '{text}' is no whole number from {least} on"))
}

fn address(args: &mut lexopt::Parser, name: &str) -> anyhow::Result<SocketAddr> {
    let text = args.value()?.string()?;
    text.parse().with_context(|| format!("--{name}: '{text}' is no address and port, as in 127.0.0.1:8080"))
}

fn protocol(args: &mut lexopt::Parser) -> anyhow::Result<Protocol> {
    let text = args.value()?.string()?;
    match text.as_str() {
        "http" => Ok(Protocol::Http),
        "actionloop" => Ok(Protocol::Actionloop),
        _ => bail!("--protocol: '{text}' is neither http nor actionloop"),
    }
}

fn readable(args: &mut lexopt::Parser) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(args.value()?);
    let file = std::fs::File::open(&path).and_then(|file| file.metadata());
    match file {
        Ok(file) if file.is_file() => Ok(path),
        Ok(_) => bail!("--code: {} is no file", path.display()),
        Err(error) => bail!("--code: {} cannot be read: {error}", path.display()),
    }
}

/// The environment as it was when the process began.
#[derive(Debug)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub(crate) fn read() -> Self {
        Self(std::env::vars_os().collect())
    }

    fn get(&self, name: &str) -> Option<&OsString> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        let value = self.get(name).cloned();
        value.map(|value| value.string().with_context(|| format!("{name} is not UTF-8"))).transpose()
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// `KWSK_LOG`.
    pub(crate) fn log_level(&self) -> anyhow::Result<LevelFilter> {
        match self.text("KWSK_LOG")? {
            Some(level) => level.parse().with_context(|| {
                format!("KWSK_LOG is '{level}', and has to be off, error, warn, info, debug or trace")
            }),
            None => Ok(LevelFilter::INFO),
        }
    }

    /// What the runtime gets of it: one that honours `PORT` would take the shim's, and the rest is nobody's business.
    pub(crate) fn of_runtime(&self) -> Vec<(OsString, OsString)> {
        let own = |key: &OsString| {
            let key = key.to_string_lossy();
            matches!(&*key, "PORT" | "K_SERVICE" | "K_CONFIGURATION" | "K_REVISION")
                || key.starts_with("KWSK_")
        };
        self.0.iter().filter(|(key, _)| !own(key)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(all: &[(&str, &str)]) -> Environment {
        Environment(all.iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    fn parse(args: &[&str], mode: Mode) -> anyhow::Result<Flags> {
        let mut args = lexopt::Parser::from_args(args);
        Flags::parse(&mut args, mode, &environment(&[])).map(|flags| flags.expect("help"))
    }

    #[test]
    fn commands_are_taken_as_they_are() {
        for args in
            [&["--port", "81", "--", "node", "--port", "8"][..], &["--port=81", "node", "--port", "8"]]
        {
            let flags = parse(args, Mode::Exec).unwrap();
            assert_eq!((flags.port, flags.argv), (81, vec!["node".into(), "--port".into(), "8".into()]));
        }
    }

    #[test]
    fn refusals() {
        for (args, mode, part) in [
            (&["--port", "0"][..], Mode::Exec, "--port: '0' is no whole number from 1 on"),
            (&["--port", "70000"], Mode::Exec, "--port: ports end at 65535"),
            (&["--timeout", "x"], Mode::Exec, "--timeout: 'x' is no whole number from 1 on"),
            (&["--logs", "-1"], Mode::Exec, "--logs: '-1' is no whole number from 0 on"),
            (&["--protocol", "grpc"], Mode::Exec, "--protocol: 'grpc' is neither http nor actionloop"),
            (&["--code", "/nonexistent"], Mode::Exec, "--code: /nonexistent cannot be read: "),
            (&["--code", "/"], Mode::Exec, "--code: / is no file"),
            (&["--name", ""], Mode::Exec, "--name: the value is empty"),
            (&["--runtime", "localhost:1"], Mode::Attach, "--runtime: 'localhost:1' is no address and port"),
            (&["--runtime", "127.0.0.1:1"], Mode::Exec, "'--runtime'"),
            (&["--port", "1"], Mode::Attach, "'--port'"),
            (&["node"], Mode::Attach, "\"node\""),
            (&["--memory"], Mode::Attach, "missing argument"),
            (&["--binary=yes"], Mode::Attach, "unexpected argument"),
        ] {
            let error = format!("{:#}", parse(args, mode).unwrap_err());
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }

    #[test]
    fn addresses() {
        for (all, listen, address) in [
            (&[][..], None, "0.0.0.0:8090"),
            (&[("PORT", "81")], None, "0.0.0.0:81"),
            (&[("PORT", "81"), ("K_REVISION", "r")], None, "127.0.0.1:81"),
            (&[("K_SERVICE", "s")], None, "127.0.0.1:8090"),
            (&[("K_SERVICE", "s"), ("PORT", "x")], Some("[::]:1"), "[::]:1"),
        ] {
            let mut flags = parse(&[], Mode::Attach).unwrap();
            flags.listen = listen.map(|address: &str| address.parse().unwrap());
            assert_eq!(flags.address(&environment(all)).unwrap(), address.parse().unwrap());
        }
        let error = parse(&[], Mode::Exec).unwrap().address(&environment(&[("PORT", "x")])).unwrap_err();
        assert_eq!(error.to_string(), "PORT is 'x', which is no port");
    }

    #[test]
    fn environments() {
        let all = environment(&[
            ("PATH", "/bin"),
            ("PORT", "1"),
            ("K_SERVICE", "s"),
            ("K_REVISION", "r"),
            ("K_CONFIGURATION", "c"),
            ("K_OTHER", "o"),
            ("KWSK_CODE_URL", "u"),
            ("__OW_API_HOST", "h"),
        ]);
        let kept: Vec<_> = all.of_runtime().into_iter().map(|(key, _)| key).collect();
        assert_eq!(kept, ["PATH", "K_OTHER", "__OW_API_HOST"]);
        assert_eq!(all.log_level().unwrap(), LevelFilter::INFO);
        assert!(environment(&[("KWSK_LOG", "loud")]).log_level().is_err());
    }
}
