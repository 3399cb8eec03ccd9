//! The distribution API of registries: one request at a time, with logins and second attempts.

mod auth;
mod blobs;
mod manifests;
mod referrers;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::credentials::Credentials;
use super::error::ImageError;
use super::progress::Progress;
use super::reference::Reference;
use super::transport::{Body, Transport, full};

pub(crate) use blobs::{Blob, Copied, short};
pub(crate) use referrers::{Attachment, EMPTY};

/// How long a registry may think about a request without much of a body.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// The slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 64 * 1024;
/// How often something that may be a passing failure is tried.
pub(crate) const ATTEMPTS: u32 = 4;
/// Before the second attempt; each further wait is three times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest that a registry may ask us to wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// Bytes of a registry's error that are read.
const ERROR_BYTES: usize = 64 * 1024;

/// A client of any number of registries.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    credentials: Credentials,
    plain_http: BTreeSet<String>,
    authorizations: Mutex<HashMap<String, HeaderValue>>,
    pub(crate) progress: Progress,
}

/// What may be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// One request.
struct Ask<'a> {
    to: &'a Reference,
    access: Access,
    /// A repository of the same registry that is read as well.
    from: Option<&'a Reference>,
    method: Method,
    /// Below `/v2/<repository>/`, or a whole URL.
    path: String,
    accept: Option<&'static str>,
    content: Content,
    /// For errors: "push blob sha256:…".
    task: String,
}

/// What a request carries.
enum Content {
    Nothing,
    Bytes {
        media_type: &'static str,
        bytes: Bytes,
    },
    /// Can be sent only once. The mutex is never waited for: it lets a request be looked at from several threads.
    Stream {
        size: u64,
        body: Mutex<Option<Body>>,
    },
}

impl<'a> Ask<'a> {
    fn new(method: Method, to: &'a Reference, access: Access, path: String, task: String) -> Self {
        Self { to, access, from: None, method, path, accept: None, content: Content::Nothing, task }
    }

    fn wait(&self) -> Duration {
        let size = match &self.content {
            Content::Nothing => 0,
            Content::Bytes { bytes, .. } => bytes.len() as u64,
            Content::Stream { size, .. } => *size,
        };
        ANSWER_WAIT + Duration::from_secs(size / SLOWEST)
    }

    fn is_repeatable(&self) -> bool {
        !matches!(self.content, Content::Stream { .. })
    }
}

impl Client {
    /// A client that logs in with `credentials`.
    #[must_use]
    pub fn new(credentials: Credentials, progress: Progress) -> Self {
        Self {
            transport: Transport::new(),
            credentials,
            plain_http: BTreeSet::new(),
            authorizations: Mutex::default(),
            progress,
        }
    }

    /// Talks plain HTTP to a registry. Those on the loopback interface need not be named.
    #[must_use]
    pub fn with_plain_http(mut self, registry: impl Into<String>) -> Self {
        self.plain_http.insert(registry.into());
        self
    }

    fn scheme(&self, reference: &Reference) -> &'static str {
        let registry = reference.registry();
        if self.plain_http.contains(registry) || is_loopback(registry) { "http" } else { "https" }
    }

    /// Sends a request until there is an answer that is worth something: repeats what may pass, logs in when asked to,
    /// follows redirects of reads.
    async fn send(&self, mut ask: Ask<'_>) -> Result<Response<Incoming>, ImageError> {
        let mut attempt = 1;
        loop {
            let result = self.send_once(&mut ask).await;
            let failed = match result {
                Ok(response) if is_passing(response.status()) => {
                    let pause = retry_after(response.headers());
                    (self.refusal(&ask, response).await, pause)
                }
                Ok(response) => return Ok(response),
                Err(error) => (error, None),
            };
            let (error, asked) = failed;
            if attempt == ATTEMPTS || !error.is_transient() || !ask.is_repeatable() {
                return Err(error);
            }
            pause(attempt, asked).await;
            attempt += 1;
        }
    }

    async fn send_once(&self, ask: &mut Ask<'_>) -> Result<Response<Incoming>, ImageError> {
        let mut logged_in = false;
        loop {
            let key = self.scopes(ask);
            let authorization = self.authorization(&key);
            let response = self.follow(ask, authorization).await?;
            if response.status() != StatusCode::UNAUTHORIZED || logged_in {
                return Ok(response);
            }
            // Tokens expire, and what was streamed cannot be sent again from here.
            self.forget(&key);
            if !ask.is_repeatable() {
                return Err(Self::expired(ask));
            }
            if !self.log_in(ask, &key, response.headers()).await? {
                return Ok(response);
            }
            logged_in = true;
        }
    }

    fn expired(ask: &Ask<'_>) -> ImageError {
        ImageError::Answer {
            registry: ask.to.registry().to_owned(),
            task: ask.task.clone(),
            status: StatusCode::UNAUTHORIZED.as_u16(),
            message: "the login expired".to_owned(),
        }
    }

    /// One request and the redirects it leads to.
    async fn follow(
        &self,
        ask: &mut Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, ImageError> {
        let registry = ask.to.registry().to_owned();
        let unreachable = |task: &str, why| ImageError::Unreachable {
            registry: registry.clone(),
            task: task.to_owned(),
            why,
        };
        let malformed = |task: &str, why: String| ImageError::Malformed {
            what: format!("the answer of {registry} to {task}"),
            why,
        };
        let home = self.url(ask.to, "")?;
        let mut url = self.url(ask.to, &ask.path)?;
        for _ in 0..=REDIRECTS {
            let at_home = url.authority() == home.authority() && url.scheme() == home.scheme();
            let authorization = authorization.as_ref().filter(|_| at_home);
            let request = request(ask, &url, authorization);
            let wait = ask.wait();
            let request = request.map_err(|error| malformed(&ask.task, error.to_string()))?;
            let sent = self.transport.send(request, wait).await;
            let response = sent.map_err(|why| unreachable(&ask.task, why))?;
            let read = ask.method == Method::GET || ask.method == Method::HEAD;
            if !response.status().is_redirection() || !read {
                return Ok(response);
            }
            let location =
                response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            url = join(&url, location)
                .ok_or_else(|| malformed(&ask.task, format!("it redirects to '{location}'")))?;
        }
        Err(malformed(&ask.task, format!("more than {REDIRECTS} redirects")))
    }

    /// `path` below the repository, or anywhere when it is a whole URL.
    fn url(&self, to: &Reference, path: &str) -> Result<Uri, ImageError> {
        let text = match path.contains("://") {
            true => path.to_owned(),
            false => format!("{}://{}/v2/{}/{path}", self.scheme(to), to.api_host(), to.repository()),
        };
        text.parse()
            .map_err(|_| ImageError::Reference { given: to.to_string(), why: "no URL can be made of it" })
    }

    /// Turns an answer that is no success into an error.
    async fn refusal(&self, ask: &Ask<'_>, response: Response<Incoming>) -> ImageError {
        let status = response.status();
        let registry = ask.to.registry().to_owned();
        let task = ask.task.clone();
        let message = message(response).await;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = self.hint(ask.to).await;
                ImageError::Denied { registry, task, status: status.as_u16(), message, hint }
            }
            _ => ImageError::Answer { registry, task, status: status.as_u16(), message },
        }
    }

    /// Whose login was used, and what to do about it.
    async fn hint(&self, to: &Reference) -> String {
        let registry = to.registry();
        match self.credentials.find(to).await {
            Ok(Some(found)) => format!(
                "the login from {} is not accepted or may not do this; log in again with `docker login {registry}` or ask for the right",
                found.place
            ),
            Ok(None) => format!(
                "no login for it was found in {}; log in with `docker login {registry}`",
                self.credentials.places()
            ),
            Err(error) => error.to_string(),
        }
    }
}

fn request(
    ask: &mut Ask<'_>,
    url: &Uri,
    authorization: Option<&HeaderValue>,
) -> Result<Request<Body>, http::Error> {
    let mut builder = Request::builder().method(ask.method.clone()).uri(url.clone());
    builder = builder.header(header::USER_AGENT, concat!("kwsk-shim/", env!("CARGO_PKG_VERSION")));
    if let Some(accept) = ask.accept {
        builder = builder.header(header::ACCEPT, accept);
    }
    if let Some(authorization) = authorization {
        builder = builder.header(header::AUTHORIZATION, authorization.clone());
    }
    match &mut ask.content {
        Content::Nothing => {
            let carries = ask.method == Method::POST || ask.method == Method::PUT;
            if carries {
                builder = builder.header(header::CONTENT_LENGTH, 0);
            }
            builder.body(full(Bytes::new()))
        }
        Content::Bytes { media_type, bytes } => {
            builder = builder.header(header::CONTENT_TYPE, *media_type);
            builder.header(header::CONTENT_LENGTH, bytes.len()).body(full(bytes.clone()))
        }
        Content::Stream { size, body } => {
            builder = builder.header(header::CONTENT_TYPE, "application/octet-stream");
            let body = body.get_mut().unwrap_or_else(PoisonError::into_inner).take();
            let body = body.unwrap_or_else(|| full(Bytes::new()));
            builder.header(header::CONTENT_LENGTH, *size).body(body)
        }
    }
}

/// Where a relative or whole `Location` leads.
fn join(base: &Uri, location: &str) -> Option<Uri> {
    if location.is_empty() {
        return None;
    }
    if location.contains("://") {
        return location.parse().ok().filter(|uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")));
    }
    let path = if location.starts_with('/') { location.to_owned() } else { format!("/{location}") };
    format!("{}://{}{path}", base.scheme_str()?, base.authority()?).parse().ok()
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = if registry.starts_with('[') && registry.ends_with(']') { registry } else { host };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// Waits before another attempt: longer each time, and never in step with others.
pub(crate) async fn pause(attempt: u32, asked: Option<Duration>) {
    let base = FIRST_PAUSE * 3_u32.saturating_pow(attempt.saturating_sub(1));
    let jitter = getrandom::u32().map_or(0, |random| random % 1000);
    let pause = base + base * jitter / 1000;
    tokio::time::sleep(asked.unwrap_or_default().max(pause)).await;
}

/// The registry's own words.
async fn message(response: Response<Incoming>) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        detail: serde_json::Value,
    }
    let body =
        tokio::time::timeout(ANSWER_WAIT, Limited::new(response.into_body(), ERROR_BYTES).collect()).await;
    let Ok(Ok(body)) = body else { return String::new() };
    let body = body.to_bytes();
    let Ok(Errors { errors }) = serde_json::from_slice(&body) else {
        let text = String::from_utf8_lossy(&body);
        let first = text.lines().next().unwrap_or_default().trim();
        // A web server's page explains nothing.
        return if first.starts_with('<') { String::new() } else { first.chars().take(200).collect() };
    };
    let shown = errors.into_iter().map(|Entry { code, message, detail }| {
        let detail = detail.as_str().map(|text| format!(" ({text})")).unwrap_or_default();
        format!("{code}: {message}{detail}")
    });
    shown.collect::<Vec<_>>().join("; ").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_registries() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:1", "127.8.8.8", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["localhost.example", "registry.example:5000", "10.0.0.1:5000", "[fe80::1]:5000"] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }

    #[test]
    fn locations_are_relative_or_whole() {
        let base: Uri = "https://a:5000/v2/x/blobs/y?z".parse().unwrap();
        assert_eq!(join(&base, "/v2/q?u=1").unwrap().to_string(), "https://a:5000/v2/q?u=1");
        assert_eq!(join(&base, "http://b/x").unwrap().to_string(), "http://b/x");
        assert!(join(&base, "").is_none() && join(&base, "file:///etc/passwd").is_none());
    }
}
