//! Events over HTTP, in binary mode, as Knative's dispatchers send them.

use std::sync::Arc;
use std::time::Duration;

use kwsk_translate::event::{self, CloudEvent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Answer, Reply};

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);

/// Until the answer is complete; a Subscription's `timeout` is shorter, if it has one.
const COMPLETE: Duration = Duration::from_secs(15 * 60);

/// Bytes of an answer that are read to find out whether it is an event.
const MOST: usize = 1 << 20;

/// KiB of events that may be kept in memory while they wait.
const ROOM_KIB: usize = 8 * 1024;

/// The request was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("there is no HTTP client")]
    NoClient,
    #[error("{0}")]
    Request(String),
}

/// The client, and the room for events that wait.
pub(super) struct Http {
    client: Option<reqwest::Client>,
    room: Arc<Semaphore>,
}

impl Http {
    pub(super) fn new() -> Self {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(COMPLETE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build();
        let client =
            client.inspect_err(|error| tracing::error!(%error, "events cannot be sent over HTTP")).ok();
        Self { client, room: Arc::new(Semaphore::new(ROOM_KIB)) }
    }

    /// Room to keep an event of this size, if there is any.
    pub(super) fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes / 1024 + 1).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(kib).ok()
    }

    pub(super) async fn post(
        &self,
        uri: &str,
        event: &CloudEvent,
        namespace: &str,
    ) -> Result<Answer, NoAnswer> {
        let client = self.client.as_ref().ok_or(NoAnswer::NoClient)?;
        let (headers, body) = event.to_binary();
        let mut request = client.post(uri).header("prefer", "reply").header("kn-namespace", namespace);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let failed = |error: reqwest::Error| NoAnswer::Request(chain(&error));
        let mut response = request.body(body).send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let headers =
            || headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        if !(200..300).contains(&status) || !event::is_event(headers()) {
            return Ok(Answer { status, reply: None });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST {
                return Err(NoAnswer::Request(format!("{uri} answered with more than {MOST} bytes")));
            }
        }
        match CloudEvent::from_http(headers(), &body) {
            Ok(reply) => Ok(Answer { status, reply: Some(Reply::Event(reply)) }),
            Err(error) => {
                tracing::debug!(uri, %error, "an answer that claims to be an event is none");
                Ok(Answer { status, reply: None })
            }
        }
    }
}

/// reqwest's own message leaves out why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = [text.as_str(), ": ", &error.to_string()].concat();
        source = error.source();
    }
    text
}
