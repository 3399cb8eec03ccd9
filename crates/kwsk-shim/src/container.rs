//! The action of a container: what is mounted beside the shim, under what the operator's flags say.
//!
//! Nothing that is wrong with a mount stops the shim: a container that cannot start says nothing to whoever invokes the
//! action. Each run is answered with what to fix instead.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kwsk_model::limits::MB;
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::params::Parameters;
use kwsk_translate::action::Runtime as Description;

use crate::fetch::Store;
use crate::launchpad::Launchpad;
use crate::runtime::Runtime;
use crate::shim::Shim;
use crate::spec::{ActionSpec, CodeSource};
use crate::supply::Supply;

/// What is said on the command line and in the environment. Whatever is given wins over what is mounted.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The directory where what belongs to the action is mounted; it need not exist.
    pub mount: PathBuf,
    /// Where code is that is not mounted: a URL to which its digest is appended.
    pub code_url: Option<String>,
    /// The file with what to show there.
    pub token: PathBuf,
    /// The action's name, bare or as `/namespace/[package/]name`.
    pub name: Option<String>,
    /// The runtime kind.
    pub kind: Option<String>,
    /// The file with the code.
    pub code: Option<PathBuf>,
    /// The entry point.
    pub main: Option<String>,
    /// The code is base64.
    pub binary: bool,
    /// Milliseconds.
    pub timeout_ms: Option<u64>,
    /// MB.
    pub memory_mb: Option<u64>,
    /// Bytes of log text.
    pub logs_bytes: Option<u64>,
    /// Activations at a time.
    pub concurrency: Option<u32>,
}

/// The action of one container.
#[derive(Debug)]
pub struct ContainerAction {
    spec: ActionSpec,
    supply: Supply,
}

impl ContainerAction {
    /// Reads what is mounted. Whatever is wrong with it is logged, and said in the answer to each run.
    #[must_use]
    pub fn load(given: &Given) -> Self {
        let kind = given.kind.as_deref().unwrap_or("blackbox");
        let mut action = Self { spec: ActionSpec::new("action", kind, None), supply: Supply::Given };
        if let Err(why) = action.read(given) {
            action.refuse(why);
        }
        action.apply(given);
        action
    }

    /// From now on every run is answered with `why`, unless there is a reason already.
    pub fn refuse(&mut self, why: String) {
        tracing::error!("{why}");
        if self.supply.refusal().is_none() {
            self.supply = Supply::Broken(why);
        }
    }

    /// What it runs.
    #[must_use]
    pub fn spec(&self) -> &ActionSpec {
        &self.spec
    }

    /// The instance of this container.
    #[must_use]
    pub fn shim(self, runtime: Runtime, pad: Launchpad) -> Shim {
        Shim::supplied(Arc::new(self.spec), Arc::new(runtime), pad, self.supply)
    }

    fn read(&mut self, given: &Given) -> Result<(), String> {
        let key = text(&given.mount.join("api-key"))?.map(|key| key.trim().to_owned());
        self.spec.identity.api_key = key.filter(|key| !key.is_empty());
        if let Some(bound) = text(&given.mount.join("parameters"))? {
            let bound: Parameters = serde_json::from_str(&bound)
                .map_err(|error| malformed(&given.mount.join("parameters"), "list of parameters", &error))?;
            self.spec.init_env = bound.init_environment();
            self.spec.parameters = bound.iter().filter(|parameter| !parameter.init).cloned().collect();
        }
        let path = given.mount.join("runtime");
        let described = text(&path)?;
        let code = given.mount.join("code");
        let Some(described) = described else {
            // Nobody says which code it has to be.
            if given.code.is_none() && is_there(&code)? {
                self.spec.code = Some(CodeSource::File(code));
            }
            return Ok(());
        };
        let description: Description = serde_json::from_str(&described)
            .map_err(|error| malformed(&path, "description of an action", &error))?;
        self.describe(&path, &description)?;
        if given.code.is_none() {
            self.supply = supply(given, code, &description)?;
        }
        if let Supply::Mounted { path, .. } = &self.supply {
            self.spec.code = Some(CodeSource::File(path.clone()));
        }
        Ok(())
    }

    fn describe(&mut self, path: &Path, description: &Description) -> Result<(), String> {
        let name: FullyQualifiedEntityName = description
            .action
            .parse()
            .map_err(|error| malformed(path, "description of an action", &error))?;
        let limits = &description.limits;
        if [limits.timeout, limits.memory, limits.concurrency].contains(&0) {
            return Err(malformed(path, "description of an action", &"a limit is 0"));
        }
        identify(&mut self.spec, &name);
        self.spec.kind.clone_from(&description.kind);
        self.spec.main.clone_from(&description.main);
        self.spec.binary = description.binary;
        self.spec.timeout_ms = limits.timeout;
        self.spec.memory_mb = limits.memory;
        self.spec.logs_bytes = limits.logs.saturating_mul(MB);
        self.spec.concurrency = u32::try_from(limits.concurrency).unwrap_or(u32::MAX);
        Ok(())
    }

    fn apply(&mut self, given: &Given) {
        let spec = &mut self.spec;
        if let Some(name) = &given.name {
            match name.parse() {
                Ok(name) => identify(spec, &name),
                Err(_) => {
                    spec.identity.action_name = format!("/{}/{name}", spec.identity.namespace);
                    spec.name.clone_from(name);
                }
            }
        }
        if let Some(kind) = &given.kind {
            spec.kind.clone_from(kind);
        }
        if let Some(code) = &given.code {
            spec.code = Some(CodeSource::File(code.clone()));
            spec.binary = given.binary;
        }
        spec.binary |= given.binary;
        if given.main.is_some() {
            spec.main.clone_from(&given.main);
        }
        spec.timeout_ms = given.timeout_ms.unwrap_or(spec.timeout_ms);
        spec.memory_mb = given.memory_mb.unwrap_or(spec.memory_mb);
        spec.logs_bytes = given.logs_bytes.unwrap_or(spec.logs_bytes);
        spec.concurrency = given.concurrency.unwrap_or(spec.concurrency);
    }
}

fn identify(spec: &mut ActionSpec, name: &FullyQualifiedEntityName) {
    spec.name = name.name.to_string();
    spec.identity.namespace = name.namespace().to_string();
    spec.identity.action_name = name.with_slash();
}

/// Where the code that is described comes from.
fn supply(given: &Given, mounted: PathBuf, description: &Description) -> Result<Supply, String> {
    let Some(expected) = description.code.clone() else {
        return Ok(Supply::Given);
    };
    if is_there(&mounted)? {
        return Ok(Supply::Mounted { path: mounted, expected });
    }
    let Some(url) = &given.code_url else {
        return Err(format!(
            "The action's code {} is neither mounted at {} nor can it be fetched, since KWSK_CODE_URL is not set; \
             mount it or set that.",
            expected.sha256,
            mounted.display()
        ));
    };
    Ok(Supply::Stored { store: Store::new(url, given.token.clone())?, expected })
}

/// The text of a file that may be absent.
fn text(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Whether there is a file, which then has to be readable.
fn is_there(path: &Path) -> Result<bool, String> {
    match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(file) if file.is_file() => Ok(true),
        Ok(_) => Err(unreadable(path, &io::Error::from(io::ErrorKind::IsADirectory))),
        Err(error) if is_absence(&error) => Ok(false),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound)
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!(
        "The mounted file {} cannot be read ({error}); it has to be a file that the container's user (id {}) may read.",
        path.display(),
        rustix::process::geteuid().as_raw()
    )
}

fn malformed(path: &Path, what: &str, error: &dyn std::fmt::Display) -> String {
    format!("The mounted file {} is no {what} ({error}); create the action anew.", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn load(files: &[(&str, String)], mut given: Given) -> ContainerAction {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        given.mount = dir.path().to_owned();
        ContainerAction::load(&given)
    }

    fn description(code: bool) -> String {
        let mut value = json!({"action":"guest/pack/hello","kind":"nodejs:20","main":"go","binary":false,
            "limits":{"timeout":1000,"memory":128,"logs":2,"concurrency":3}});
        if code {
            value["code"] = json!({"sha256": HELLO, "bytes": 5});
        }
        value.to_string()
    }

    fn why(action: &ContainerAction) -> &str {
        match &action.supply {
            Supply::Broken(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_mounted() {
        let action = ContainerAction::load(&Given { mount: "/nonexistent".into(), ..Given::default() });
        assert!(matches!(action.supply, Supply::Given) && action.spec.code.is_none());
        assert_eq!(
            (action.spec.timeout_ms, action.spec.identity.action_name.as_str()),
            (60_000, "/_/action")
        );
    }

    #[test]
    fn everything_mounted() {
        let parameters = json!([{"key":"a","value":1},{"key":"E","value":"x","init":true}]).to_string();
        let files = [
            ("runtime", description(true)),
            ("code", "hello".into()),
            ("parameters", parameters),
            ("api-key", "u:k\n".into()),
        ];
        let ContainerAction { spec, supply } = load(&files, Given::default());
        assert!(matches!(supply, Supply::Mounted { .. }) && matches!(spec.code, Some(CodeSource::File(_))));
        assert_eq!((spec.name.as_str(), spec.kind.as_str(), spec.main()), ("hello", "nodejs:20", "go"));
        assert_eq!(
            (spec.timeout_ms, spec.memory_mb, spec.logs_bytes, spec.concurrency),
            (1000, 128, 2 * MB, 3)
        );
        assert_eq!(spec.identity.action_name, "/guest/pack/hello");
        assert_eq!(
            (spec.identity.namespace.as_str(), spec.identity.api_key.as_deref()),
            ("guest", Some("u:k"))
        );
        assert_eq!(json!(spec.init_env), json!({"E":"x"}));
        assert_eq!((spec.parameters.len(), spec.parameters.get("a")), (1, Some(&json!(1))));
    }

    #[test]
    fn flags_win() {
        let given = Given {
            name: Some("/other/b".into()),
            kind: Some("k".into()),
            main: Some("m".into()),
            code: Some("/c".into()),
            timeout_ms: Some(7),
            memory_mb: Some(8),
            logs_bytes: Some(9),
            concurrency: Some(10),
            binary: true,
            ..Given::default()
        };
        let files = [("runtime", description(true)), ("code", "hallo".into())];
        let ContainerAction { spec, supply } = load(&files, given);
        assert!(matches!(supply, Supply::Given) && spec.binary);
        assert!(matches!(&spec.code, Some(CodeSource::File(path)) if path == Path::new("/c")));
        assert_eq!((spec.name.as_str(), spec.kind.as_str(), spec.main()), ("b", "k", "m"));
        assert_eq!((spec.timeout_ms, spec.memory_mb, spec.logs_bytes, spec.concurrency), (7, 8, 9, 10));
        let named =
            load(&[("runtime", description(false))], Given { name: Some("b".into()), ..Given::default() });
        assert_eq!(named.spec.identity.action_name, "/guest/b");
    }

    #[test]
    fn code_from_elsewhere() {
        let given = Given { code_url: Some("http://kwsk/code".into()), ..Given::default() };
        let action = load(&[("runtime", description(true))], given.clone());
        assert!(matches!(action.supply, Supply::Stored { .. }));
        let action = load(&[("runtime", description(false))], given.clone());
        assert!(matches!(action.supply, Supply::Given) && action.spec.code.is_none());
        let action = load(&[("code", "x".into())], given);
        assert!(matches!(action.supply, Supply::Given) && action.spec.code.is_some());
    }

    #[test]
    fn refusals() {
        let plain = Given::default;
        let https = || Given { code_url: Some("https://kwsk".into()), ..Given::default() };
        let zero = description(false).replace("1000", "0");
        let unnamed = description(false).replace("guest/pack/hello", "hello");
        for (files, given, part) in [
            (vec![("runtime", "{".to_owned())], plain(), "is no description of an action (EOF"),
            (vec![("runtime", String::new())], plain(), "is no description of an action"),
            (vec![("runtime", "[]".to_owned())], plain(), "is no description of an action"),
            (vec![("runtime", zero)], plain(), "a limit is 0"),
            (vec![("runtime", unnamed)], plain(), "is no description of an action"),
            (vec![("runtime", description(true))], plain(), "since KWSK_CODE_URL is not set"),
            (vec![("runtime", description(true))], https(), "is not plain http"),
            (vec![("parameters", "{}".to_owned())], plain(), "parameters is no list of parameters"),
        ] {
            let action = load(&files, given);
            assert!(why(&action).contains(part), "{}", why(&action));
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["runtime", "code", "parameters", "api-key"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            let action = ContainerAction::load(&Given { mount: dir.path().to_owned(), ..Given::default() });
            assert!(why(&action).contains(&format!("{name} cannot be read (")), "{}", why(&action));
            fs::remove_dir(dir.path().join(name)).unwrap();
        }
    }
}
