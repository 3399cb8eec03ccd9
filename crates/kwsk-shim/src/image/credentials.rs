//! Who we are to a registry: the files that docker, podman and their kin write, and their helper programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::error::ImageError;
use super::reference::Reference;

/// How long a helper program may take; some ask a keyring that asks the user.
const HELPER_WAIT: Duration = Duration::from_secs(60);

/// What was found for a repository.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Password {
        user: String,
        password: String,
    },
    /// To be exchanged for a token at the registry's token service.
    Identity {
        token: String,
    },
    /// To be sent as it is.
    Bearer {
        token: String,
    },
}

/// A login, and where it is from.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) login: Login,
    pub(crate) place: String,
}

/// The files in which logins are looked for, in this order.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(…)")
    }
}

impl Credentials {
    /// The usual places: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, and podman's
    /// `auth.json`.
    #[must_use]
    pub fn usual() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = set("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let docker = set("DOCKER_CONFIG").or_else(|| below_home(".docker"));
        let config = set("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let places = [
            set("REGISTRY_AUTH_FILE"),
            docker.map(|dir| dir.join("config.json")),
            set("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            config.map(|dir| dir.join("containers/auth.json")),
        ];
        Self { files: places.into_iter().flatten().collect() }
    }

    /// These files and no others.
    #[must_use]
    pub fn of(files: Vec<PathBuf>) -> Self {
        Self { files }
    }

    /// "a and b".
    pub(crate) fn places(&self) -> String {
        let shown: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
        if shown.is_empty() { "any known place".to_owned() } else { shown.join(", ") }
    }

    /// The first login for a repository; an unreadable file is an error, one that is not there is not.
    pub(crate) async fn find(&self, reference: &Reference) -> Result<Option<Found>, ImageError> {
        for path in &self.files {
            let Some(file) = read(path).await? else { continue };
            if let Some(found) = file.find(reference, path).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

async fn read(path: &Path) -> Result<Option<File>, ImageError> {
    let refused = |why: String| ImageError::Credentials { place: path.display().to_string(), why };
    let text = match tokio::fs::read(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(format!("{error}; make the file readable"))),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        refused(format!("it is not the JSON that `docker login` writes ({error}); log in again"))
    })
}

impl File {
    async fn find(&self, reference: &Reference, path: &Path) -> Result<Option<Found>, ImageError> {
        let place = path.display().to_string();
        let host = host_key(reference);
        if let Some(helper) = self.cred_helpers.get(host) {
            return ask(helper, host).await;
        }
        let login = self.entry(reference).map_or(Ok(None), |entry| entry.login(&place))?;
        if let Some(login) = login {
            return Ok(Some(Found { login, place }));
        }
        if self.creds_store.is_empty() { Ok(None) } else { ask(&self.creds_store, host).await }
    }

    /// The entry that names most of the repository; then those that name the registry in one of the old ways.
    fn entry(&self, reference: &Reference) -> Option<&Entry> {
        let mut name = reference.name();
        loop {
            if let Some(entry) = self.auths.get(&name) {
                return Some(entry);
            }
            let Some(slash) = name.rfind('/') else { break };
            name.truncate(slash);
        }
        let host = host_key(reference);
        let named = |key: &str| {
            let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
            let wanted = host.strip_prefix("https://").unwrap_or(host);
            key == wanted || key.split('/').next() == wanted.split('/').next()
        };
        self.auths.iter().find(|(key, _)| key.contains("://") && named(key)).map(|(_, entry)| entry)
    }
}

/// Docker Hub is known by the URL that it had first.
fn host_key(reference: &Reference) -> &str {
    if reference.registry() == "docker.io" { "https://index.docker.io/v1/" } else { reference.registry() }
}

impl Entry {
    fn login(&self, place: &str) -> Result<Option<Login>, ImageError> {
        let owned = |text: &str| text.to_owned();
        if !self.registrytoken.is_empty() {
            return Ok(Some(Login::Bearer { token: owned(&self.registrytoken) }));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Login::Identity { token: owned(&self.identitytoken) }));
        }
        if !self.auth.is_empty() {
            let pair = BASE64_STANDARD.decode(&self.auth).ok().and_then(|pair| String::from_utf8(pair).ok());
            let pair = pair.as_deref().and_then(|pair| pair.trim_end_matches('\0').split_once(':'));
            let (user, password) = pair.ok_or_else(|| ImageError::Credentials {
                place: owned(place),
                why: "an 'auth' is not base64 of user:password; log in again".to_owned(),
            })?;
            return Ok(Some(Login::Password { user: owned(user), password: owned(password) }));
        }
        let known = !self.username.is_empty();
        Ok(known.then(|| Login::Password { user: self.username.clone(), password: self.password.clone() }))
    }
}

/// Asks `docker-credential-<helper>`.
async fn ask(helper: &str, host: &str) -> Result<Option<Found>, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let refused = |why: String| ImageError::Credentials { place: program.clone(), why };
    if helper.contains('/') {
        return Err(refused("a helper is named without a path; correct config.json".to_owned()));
    }
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        refused(format!("it cannot be started ({error}); install it or correct config.json"))
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read says why in its answer.
        stdin.write_all(host.as_bytes()).await.ok();
    }
    let output = match tokio::time::timeout(HELPER_WAIT, child.wait_with_output()).await {
        Ok(output) => output.map_err(|error| refused(error.to_string()))?,
        Err(_) => return Err(refused(format!("no answer within {} s", HELPER_WAIT.as_secs()))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said = if said.trim().is_empty() { String::from_utf8_lossy(&output.stderr) } else { said };
        return Err(refused(format!("{}: {}", output.status, said.trim())));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| refused("its answer has no Username and Secret".to_owned()))?;
    let login = match answer.username.as_str() {
        "<token>" => Login::Identity { token: answer.secret },
        _ => Login::Password { user: answer.username, password: answer.secret },
    };
    Ok(Some(Found { login, place: program }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Credentials) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let credentials = Credentials::of(vec![dir.path().join("absent.json"), path]);
        (dir, credentials)
    }

    async fn user(credentials: &Credentials, image: &str) -> Option<String> {
        let found = credentials.find(&image.parse().unwrap()).await.unwrap()?;
        Some(match found.login {
            Login::Password { user, password } => format!("{user}:{password}"),
            Login::Identity { token } => format!("identity {token}"),
            Login::Bearer { token } => format!("bearer {token}"),
        })
    }

    #[tokio::test]
    async fn the_entry_that_names_most_wins() {
        let (_dir, credentials) = file(
            r#"{"auths":{
                "r.example":{"auth":"YTpi"}, "r.example/team":{"username":"c","password":"d"},
                "https://index.docker.io/v1/":{"auth":"aHViOng="}, "https://old.example/v1/":{"identitytoken":"i"},
                "t.example:5000":{"registrytoken":"t"}, "empty.example":{}
            }}"#,
        );
        for (image, expected) in [
            ("r.example/a", Some("a:b")),
            ("r.example/team/a", Some("c:d")),
            ("r.example/teams/a", Some("a:b")),
            ("debian", Some("hub:x")),
            ("old.example/a/b", Some("identity i")),
            ("t.example:5000/a", Some("bearer t")),
            ("t.example/a", None),
            ("empty.example/a", None),
        ] {
            assert_eq!(user(&credentials, image).await.as_deref(), expected, "{image}");
        }
    }

    #[tokio::test]
    async fn bad_files_and_helpers_are_named() {
        for (text, parts) in [
            ("{", &["config.json", "docker login"] as &[&str]),
            (r#"{"auths":{"r.example":{"auth":"!!"}}}"#, &["config.json", "'auth'"]),
            (r#"{"credsStore":"no-such-helper"}"#, &["docker-credential-no-such-helper", "install it"]),
            (r#"{"credHelpers":{"r.example":"../x"}}"#, &["without a path"]),
        ] {
            let (_dir, credentials) = file(text);
            let Err(error) = credentials.find(&"r.example/a".parse().unwrap()).await else {
                panic!("{text}")
            };
            let error = error.to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
