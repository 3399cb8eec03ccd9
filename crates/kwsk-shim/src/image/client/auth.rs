//! Logging in: what a registry asks for with 401, and the tokens it gives.

use std::sync::PoisonError;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::super::credentials::Login;
use super::super::error::ImageError;
use super::super::transport::full;
use super::{ANSWER_WAIT, Access, Ask, Client, ERROR_BYTES, message};

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: String },
}

impl Client {
    /// The authorisation of the repositories a request touches; the key under which it is kept.
    pub(super) fn scopes(&self, ask: &Ask<'_>) -> String {
        let to = match ask.access {
            Access::Pull => format!("repository:{}:pull", ask.to.repository()),
            Access::Push => format!("repository:{}:pull,push", ask.to.repository()),
        };
        let from = ask.from.map(|from| format!(" repository:{}:pull", from.repository()));
        format!("{} {to}{}", ask.to.registry(), from.unwrap_or_default())
    }

    pub(super) fn authorization(&self, key: &str) -> Option<HeaderValue> {
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(super) fn forget(&self, key: &str) {
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Answers a challenge. False when there is nothing to answer it with.
    pub(super) async fn log_in(
        &self,
        ask: &Ask<'_>,
        key: &str,
        headers: &HeaderMap,
    ) -> Result<bool, ImageError> {
        let challenges =
            headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = challenges.filter_map(challenge).collect();
        let login = self.credentials.find(ask.to).await?.map(|found| found.login);
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let value = match (bearer, login) {
            (_, Some(Login::Bearer { token })) => Some(format!("Bearer {token}")),
            (Some(Challenge::Bearer { realm, service }), login) => {
                let token = self.token(ask, key, realm, service, login.as_ref()).await?;
                Some(format!("Bearer {token}"))
            }
            (_, Some(Login::Password { user, password })) if !challenges.is_empty() => {
                Some(basic(&user, &password))
            }
            _ => None,
        };
        let Some(mut value) = value.and_then(|value| HeaderValue::try_from(value).ok()) else {
            return Ok(false);
        };
        value.set_sensitive(true);
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), value);
        Ok(true)
    }

    /// Gets a token from the service a registry names.
    async fn token(
        &self,
        ask: &Ask<'_>,
        key: &str,
        realm: &str,
        service: &str,
        login: Option<&Login>,
    ) -> Result<String, ImageError> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let registry = ask.to.registry().to_owned();
        let task = format!("get a token from {realm} to {}", ask.task);
        let malformed =
            |why: String| ImageError::Malformed { what: format!("the login at {realm} for {registry}"), why };
        let url: Uri = realm.parse().map_err(|_| malformed("it is not a URL".to_owned()))?;
        if url.scheme_str() != Some("https") && self.scheme(ask.to) == "https" {
            return Err(malformed(
                "it would send the login unencrypted; tell whoever runs the registry".to_owned(),
            ));
        }
        let scopes = key.split(' ').skip(1).map(|scope| ("scope", scope));
        let fields = [("service", service)].into_iter().filter(|(_, value)| !value.is_empty()).chain(scopes);
        let mut builder = Request::builder().header(header::ACCEPT, "application/json");
        let body = match login {
            Some(Login::Identity { token }) => {
                // The scopes are one field here.
                let scope = key.split_once(' ').map_or("", |(_, scopes)| scopes);
                let form = query(
                    [
                        ("grant_type", "refresh_token"),
                        ("refresh_token", token.as_str()),
                        ("service", service),
                        ("scope", scope),
                        ("client_id", "kwsk-shim"),
                    ]
                    .into_iter(),
                );
                builder = builder.method(Method::POST).uri(url);
                builder = builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                Bytes::from(form)
            }
            other => {
                if let Some(Login::Password { user, password }) = other {
                    builder = builder.header(header::AUTHORIZATION, basic(user, password));
                }
                let separator = if url.query().is_some() { '&' } else { '?' };
                builder = builder.method(Method::GET).uri(format!("{realm}{separator}{}", query(fields)));
                Bytes::new()
            }
        };
        let request = builder.body(full(body)).map_err(|error| malformed(error.to_string()))?;
        let unreachable =
            |why| ImageError::Unreachable { registry: registry.clone(), task: task.clone(), why };
        let response = self.transport.send(request, ANSWER_WAIT).await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            let (status, message) = (status, message(response).await);
            let refused =
                matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST);
            let status = status.as_u16();
            return Err(match refused {
                true => ImageError::Denied { registry, task, status, message, hint: self.hint(ask.to).await },
                false => ImageError::Answer { registry, task, status, message },
            });
        }
        let body =
            tokio::time::timeout(ANSWER_WAIT, Limited::new(response.into_body(), ERROR_BYTES).collect())
                .await;
        let body =
            body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        let token = token.map(|t| if t.token.is_empty() { t.access_token } else { t.token });
        token.filter(|token| !token.is_empty()).ok_or_else(|| malformed("its answer has no token".to_owned()))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn query<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let encoded =
        fields.map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    encoded.collect::<Vec<_>>().join("&")
}

/// Reads one `WWW-Authenticate`.
fn challenge(value: &str) -> Option<Challenge> {
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (String::new(), String::new());
    let mut rest = rest.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match key.trim() {
            "realm" => value.clone_into(&mut realm),
            "service" => value.clone_into(&mut service),
            _ => {}
        }
        rest = after.trim_start_matches([',', ' ']);
    }
    Some(Challenge::Bearer { realm, service }).filter(|_| rest.is_empty() || !rest.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: &str| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.to_owned() })
        };
        for (value, expected) in [
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#,
                bearer("https://a/t", "s"),
            ),
            (r#"bearer scope="a=b, c", realm="http://t?x=1""#, bearer("http://t?x=1", "")),
            ("Bearer realm=plain,service=s", bearer("plain", "s")),
            ("Negotiate", None),
        ] {
            assert_eq!(challenge(value), expected, "{value}");
        }
    }
}
