//! [`Client`]: somebody with or without a key, and [`Reply`]: what they were told.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::coverage::Coverage;
use crate::wait;

/// Longer than anything a test waits for.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a client shows.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    None,
    Key { uuid: String, secret: String },
}

impl Credentials {
    pub(crate) fn key(pair: &str) -> Self {
        let (uuid, secret) = pair.split_once(':').unwrap_or((pair, ""));
        Self::Key { uuid: uuid.to_owned(), secret: secret.to_owned() }
    }
}

/// Somebody who uses the API over HTTP.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    credentials: Credentials,
    coverage: Coverage,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// `PUT actions/x`, for messages.
    pub what: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, credentials: Credentials, coverage: Coverage) -> Self {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        let http = http.unwrap_or_else(|error| panic!("{error}"));
        Self { http, base: format!("http://{address}"), credentials, coverage }
    }

    /// The URL of `path`: absolute below the server, or below the caller's namespace.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        match path.strip_prefix('/') {
            Some(_) => format!("{}{path}", self.base),
            None => format!("{}/api/v1/namespaces/_/{path}", self.base),
        }
    }

    /// A request to be completed and then [`Self::send`].
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let request = self.http.request(method, self.url(path));
        match &self.credentials {
            Credentials::None => request,
            Credentials::Key { uuid, secret } => request.basic_auth(uuid, Some(secret)),
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// When there is no answer, or one that breaks a rule every answer keeps.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let request = request.build().unwrap_or_else(|error| panic!("{error}"));
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let what = format!("{method} {}", request.url());
        let answer = self.http.execute(request).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        self.coverage.saw(&method, &path, status);
        let reply = Reply { what, status, headers, text };
        reply.keeps_the_rules(&method);
        reply
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request("DELETE", path)).await
    }

    /// PUT of a JSON document.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request("PUT", path).json(body)).await
    }

    /// POST of a JSON document; of nothing at all for `null`.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let request = self.request("POST", path);
        self.send(if body.is_null() { request } else { request.json(body) }).await
    }

    /// The record of an activation, once it is there.
    pub async fn activation(&self, id: &str) -> Value {
        let path = format!("activations/{id}");
        wait::eventually(Duration::from_secs(20), || async {
            let reply = self.get(&path).await;
            (reply.status == 200).then(|| reply.json())
        })
        .await
    }
}

impl Reply {
    /// Transaction id on everything, `error` and `code` on every refusal.
    fn keeps_the_rules(&self, method: &str) {
        let transaction =
            self.header("x-request-id").unwrap_or_else(|| panic!("no transaction id: {self:?}"));
        let activation = self.header("x-openwhisk-activation-id").is_some();
        if self.status >= 400 && method != "HEAD" && !activation {
            let body = self.json();
            assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
            assert_eq!(body["code"], transaction, "{self:?}");
            assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        }
        assert_ne!(self.status, 405, "{self:?}");
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The JSON of an answer with 200.
    ///
    /// # Panics
    /// When it has another status.
    pub fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The `activationId` of an answer with 202, which its header repeats.
    ///
    /// # Panics
    /// When it is no such answer.
    pub fn accepted(&self) -> String {
        assert_eq!(self.status, 202, "{self:?}");
        let body = self.json();
        let id = body["activationId"].as_str().unwrap_or_default();
        assert_eq!(self.header("x-openwhisk-activation-id"), Some(id), "{self:?}");
        assert_eq!(id.len(), 32, "{self:?}");
        id.to_owned()
    }

    /// Checks a refusal: status and exact text.
    ///
    /// # Panics
    /// When it says something else.
    #[track_caller]
    pub fn refused(&self, status: u16, error: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["error"], error, "{self:?}");
    }
}
