//! Code by its digest, from kwsk's store over plain HTTP: bounded, verified, and asked for again when the store stumbles.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use kwsk_model::action::StoredCode;
use kwsk_model::activation::hex;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::resolve;
use crate::supply::mismatch;

const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);

/// Where code is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    host: String,
    port: u16,
    /// Ends in a slash.
    path: String,
    token: PathBuf,
}

/// Why one attempt failed.
#[derive(Debug)]
enum Miss {
    /// Asking again may help.
    Passing(String),
    Final(String),
}

impl Store {
    /// The store at the URL `base`. The file `token`, if there is one, holds what to show as a bearer.
    pub(crate) fn new(base: &str, token: PathBuf) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("KWSK_CODE_URL is '{base}', {why}; it has to be like http://host:port/path.");
        let uri: Uri = base.trim_end_matches('/').parse().map_err(|_| wrong("which is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("which is not plain http"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("which names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = format!("{}/", uri.path().trim_end_matches('/'));
        Ok(Self { host, port: uri.port_u16().unwrap_or(80), path, token })
    }

    /// The text that `expected` names, or what to fix.
    pub(crate) async fn fetch(&self, expected: &StoredCode, deadline: Instant) -> Result<String, String> {
        let mut last = String::from("there was no time to ask");
        for attempt in 0..TRIES {
            match timeout_at(deadline, self.attempt(expected)).await {
                Ok(Ok(text)) => return Ok(text),
                Ok(Err(Miss::Final(why))) => return Err(why),
                Ok(Err(Miss::Passing(why))) => last = why,
                Err(_) => {
                    last = format!("it did not answer within the action's time limit (before that: {last})");
                    break;
                }
            }
            if timeout_at(deadline, sleep(jittered(PAUSE * 2_u32.pow(attempt)))).await.is_err() {
                break;
            }
        }
        Err(format!("The action's code cannot be fetched from {}: {last}.", self.url(expected)))
    }

    fn url(&self, expected: &StoredCode) -> String {
        format!("http://{}:{}{}{}", self.host, self.port, self.path, expected.sha256)
    }

    async fn attempt(&self, expected: &StoredCode) -> Result<String, Miss> {
        let passing = |error: &dyn std::fmt::Display| Miss::Passing(error.to_string());
        let address = resolve::address(&self.host, self.port).await.map_err(Miss::Passing)?;
        let stream = TcpStream::connect(address).await.map_err(|error| passing(&error))?;
        let (mut sender, mut driver) =
            handshake(TokioIo::new(stream)).await.map_err(|error| passing(&error))?;
        let request = self.request(expected).await?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| passing(&error))?;
            self.read(answer, expected).await
        };
        tokio::pin!(exchange);
        tokio::select! {
            biased;
            text = &mut exchange => text,
            _ = &mut driver => {
                // What was read of the answer may be complete; nobody says otherwise as long as there is the connection.
                drop(driver);
                exchange.await
            }
        }
    }

    async fn request(&self, expected: &StoredCode) -> Result<Request<Empty<Bytes>>, Miss> {
        let mut request = Request::get(format!("{}{}", self.path, expected.sha256))
            .header(HOST, format!("{}:{}", self.host, self.port));
        match tokio::fs::read_to_string(&self.token).await {
            Ok(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
                let value = value.map_err(|_| {
                    Miss::Final(format!("The token at {} is no single line of text.", self.token.display()))
                })?;
                request = request.header(AUTHORIZATION, value);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let path = self.token.display();
                return Err(Miss::Final(format!(
                    "The token at {path} cannot be read ({error}); make the mounted file readable for the user of \
                     the container."
                )));
            }
        }
        request.body(Empty::new()).map_err(|error| Miss::Final(error.to_string()))
    }

    async fn read(
        &self,
        answer: http::Response<hyper::body::Incoming>,
        expected: &StoredCode,
    ) -> Result<String, Miss> {
        let (url, status) = (self.url(expected), answer.status());
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Miss::Passing(format!("it answered {status}")));
        }
        let why = match status {
            StatusCode::OK => None,
            StatusCode::NOT_FOUND => Some("it is not there (404); create the action anew".to_owned()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(format!(
                "the answer was {status}; the token at {} is not accepted",
                self.token.display()
            )),
            _ => Some(format!("the answer was {status}")),
        };
        if let Some(why) = why {
            return Err(Miss::Final(format!("The action's code cannot be fetched from {url}: {why}.")));
        }
        let mut body = answer.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Miss::Passing(format!("its answer broke off ({error})")))?;
            let Ok(data) = frame.into_data() else { continue };
            if (text.len() + data.len()) as u64 > expected.bytes {
                return Err(Miss::Final(format!(
                    "The code at {url} is longer than the action's {} bytes; create the action anew.",
                    expected.bytes
                )));
            }
            text.extend_from_slice(&data);
        }
        let found = hex(&Sha256::digest(&text));
        if found != expected.sha256 {
            return Err(Miss::Final(mismatch(&url, &found, expected)));
        }
        String::from_utf8(text).map_err(|_| Miss::Final(format!("The code at {url} is not text.")))
    }
}

/// Between half and all of `pause`, so that many instances do not ask in step.
fn jittered(pause: Duration) -> Duration {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).ok();
    pause / 2 + (pause / 2) * u32::from(u16::from_le_bytes(bytes)) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let store = |base| Store::new(base, PathBuf::new());
        let code = StoredCode { sha256: "ab".into(), bytes: 1 };
        for (base, url) in [
            ("http://kwsk", "http://kwsk:80/ab"),
            ("http://kwsk.ns.svc:3233/internal/code/", "http://kwsk.ns.svc:3233/internal/code/ab"),
            ("http://[::1]:1", "http://::1:1/ab"),
        ] {
            assert_eq!(store(base).unwrap().url(&code), url);
        }
        for (base, why) in [
            ("https://kwsk", "not plain http"),
            ("kwsk:80", "not plain http"),
            ("/code", "not plain http"),
            ("", "no URL"),
            ("http://a b", "no URL"),
        ] {
            let error = store(base).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn jitter() {
        for _ in 0..50 {
            let pause = jittered(PAUSE);
            assert!(pause >= PAUSE / 2 && pause <= PAUSE, "{pause:?}");
        }
    }
}
