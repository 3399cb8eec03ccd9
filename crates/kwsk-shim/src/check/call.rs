//! One request to a runtime, on a connection of its own, and what came back.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::Stop;

const BODY_MAX: usize = 64 * 1024 * 1024;
/// Characters of a request or an answer that are shown.
const SHOWN: usize = 400;

/// An HTTP answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    /// The body; null when it is not JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A JSON object that has an `error`.
    pub(super) fn has_error(&self) -> bool {
        self.json().get("error").is_some()
    }
}

/// A request and its answer, or why there is none.
#[derive(Debug)]
pub(super) struct Exchange {
    sent: String,
    answer: Result<Reply, String>,
}

impl Exchange {
    pub(super) async fn post(address: SocketAddr, path: &str, body: Bytes, patience: Duration) -> Self {
        let sent = format!("POST {path} {}", shown(&String::from_utf8_lossy(&body)));
        let answer = match timeout(patience, post(address, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
        };
        Self { sent, answer }
    }

    /// The answer, whatever it is.
    pub(super) fn answered(&self, expected: &str) -> Result<&Reply, Stop> {
        self.answer.as_ref().map_err(|_| self.fail(expected))
    }

    /// The answer if it is a good one.
    pub(super) fn answered_if(
        &self,
        expected: &str,
        good: impl FnOnce(&Reply) -> bool,
    ) -> Result<&Reply, Stop> {
        let reply = self.answered(expected)?;
        if good(reply) { Ok(reply) } else { Err(self.fail(expected)) }
    }

    pub(super) fn fail(&self, expected: impl Into<String>) -> Stop {
        let got = match &self.answer {
            Ok(reply) => format!("{} {}", reply.status, shown(&reply.body)),
            Err(reason) => reason.clone(),
        };
        Stop::fail(self.sent.clone(), expected, got)
    }
}

/// What fits on a line.
pub(super) fn shown(text: &str) -> String {
    let line = text.replace('\n', "\\n");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}… ({} bytes)", &line[..at], text.len()),
        None => line,
    }
}

async fn post(address: SocketAddr, path: &str, body: Bytes) -> Result<Reply, String> {
    let stream =
        TcpStream::connect(address).await.map_err(|error| format!("no connection to {address}: {error}"))?;
    let broken = |error: hyper::Error| format!("no whole HTTP answer: {error}");
    let (mut sender, driver) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = http::Request::post(path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|error| format!("{status} and no whole body: {error}"))?.to_bytes();
        Ok(Reply { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // The answer may have arrived together with the end of the connection.
        _ = driver => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shown("a\nb"), "a\\nb");
        let long = "ä".repeat(SHOWN + 1);
        assert_eq!(shown(&long), format!("{}… (802 bytes)", "ä".repeat(SHOWN)));
    }
}
