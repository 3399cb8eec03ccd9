//! What happens to every request before its route and to every answer after it, in this order:
//!
//! 1. transaction id, on every answer whatever happens;
//! 2. a panic becomes a 500: one defect must not take a connection's other requests with it;
//! 3. length of the URI; 4. [`Guard`](crate::guard::Guard), so that a web page learns nothing;
//! 5. `OPTIONS`, which needs no credentials; 6. the whole body, bounded in size, time and number;
//! 7. `HEAD` meets no route, since OpenWhisk does not map it to GET.
//!
//! Credentials come after the route: see [`crate::extract::Auth`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{EXPECT, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use kwsk_model::limits::{MAX_BODY_BYTES, MB};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::App;
use crate::error::Refused;
use crate::{respond, routes};

/// Longest URI, in bytes: the header buffer of OpenWhisk's edge.
const MAX_URI_BYTES: usize = 8 * 1024;
/// Longest silence within a body.
const BODY_SILENCE: Duration = Duration::from_secs(30);
/// Longest a body may take altogether: 50 MB at a megabit per second, and some more.
const BODY_TIME: Duration = Duration::from_secs(600);
/// From here on a body counts as large: above every payload of an invocation.
const LARGE_BODY_BYTES: u64 = 2 * MB;
/// Most large bodies at a time; more wait, so that memory stays bounded.
pub const MAX_LARGE_BODIES: usize = 8;
/// How much more of a body that is too large is read, so that its sender gets to read the answer.
const DRAIN_BYTES: u64 = 4 * MAX_BODY_BYTES;
/// How long such a body is read.
const DRAIN_TIME: Duration = Duration::from_secs(20);
/// Longest transaction id taken from a client.
const MAX_TRANSACTION: usize = 256;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id a request is known by, in answers, logs and actions.
#[derive(Debug, Clone)]
pub struct Transaction(pub Arc<str>);

impl Transaction {
    /// The client's, unless it starts with `sid_` (reserved) or is unfit for a header; otherwise 32 random characters.
    fn of(headers: &HeaderMap) -> Self {
        let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let fit = |id: &&str| !id.is_empty() && id.len() <= MAX_TRANSACTION && !id.starts_with("sid_");
        Self(sent.filter(fit).map_or_else(random_id, Arc::from))
    }
}

fn random_id() -> Arc<str> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = [0_u8; 32];
    // Without randomness ids repeat, which spoils nothing but the search for a line in the log.
    if getrandom::fill(&mut bytes).is_err() {
        tracing::warn!("the system gives no randomness");
    }
    bytes.iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect::<String>().into()
}

/// The whole body of a request.
#[derive(Debug, Clone)]
pub struct WholeBody(pub Bytes);

/// All of the above around the routes.
pub async fn edge(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let transaction = Transaction::of(request.headers());
    let api = request.uri().path().starts_with("/api/v1");
    request.extensions_mut().insert(transaction.clone());
    let answer = AssertUnwindSafe(admit(&app, request, next)).catch_unwind().await;
    let response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => Refused::internal().into_response(),
    };
    finish(response, &transaction.0, api)
}

async fn admit(app: &App, mut request: Request, next: Next) -> Result<Response, Refused> {
    if uri_length(&request) > MAX_URI_BYTES {
        return Err(Refused::uri_too_long());
    }
    app.guard.check(&request)?;
    if request.method() == Method::OPTIONS {
        return Ok(respond::empty(StatusCode::OK));
    }
    // Held until the answer exists: the handler works on copies of the body.
    let Read { body, room: _room } = whole_body(&app.large_bodies, &mut request).await?;
    request.extensions_mut().insert(WholeBody(body));
    if request.method() == Method::HEAD {
        return Err(routes::unmatched(app, request).await);
    }
    Ok(next.run(request).await)
}

fn uri_length(request: &Request) -> usize {
    request.uri().path_and_query().map_or(0, |p| p.as_str().len())
}

/// Error bodies, CORS headers and the transaction id.
fn finish(mut response: Response, transaction: &str, api: bool) -> Response {
    let mut early = false;
    if let Some(refused) = response.extensions_mut().remove::<Refused>() {
        early = refused.is_early();
        response = refused.finish(transaction);
    }
    let headers = response.headers_mut();
    if api && !early {
        respond::add_cors(headers);
    }
    if let Ok(id) = HeaderValue::from_str(transaction) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// A body, and its place among the large ones.
struct Read {
    body: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

impl From<Bytes> for Read {
    fn from(body: Bytes) -> Self {
        Self { body, room: None }
    }
}

/// Reads the body, at most 50 MB of it.
async fn whole_body(places: &Arc<Semaphore>, request: &mut Request) -> Result<Read, Refused> {
    let waits = request.headers().contains_key(EXPECT);
    let mut body = std::mem::take(request.body_mut());
    if body.is_end_stream() {
        return Ok(Bytes::new().into());
    }
    if body.size_hint().lower() > MAX_BODY_BYTES {
        // A client that waits for `100 Continue` sends nothing and reads this.
        if !waits {
            drain(body).await;
        }
        return Err(Refused::body_too_large());
    }
    match tokio::time::timeout(BODY_TIME, collect(places, &mut body)).await {
        Ok(Ok(Some(read))) => Ok(read),
        Ok(Ok(None)) => {
            drain(body).await;
            Err(Refused::body_too_large())
        }
        Ok(Err(refused)) => Err(refused),
        Err(_) => Err(Refused::slow_body()),
    }
}

/// The next piece; nothing at the end.
async fn piece(body: &mut Body) -> Result<Option<Bytes>, Refused> {
    loop {
        match tokio::time::timeout(BODY_SILENCE, body.frame()).await {
            Err(_) => return Err(Refused::slow_body()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Refused::invalid("")),
            // Trailers carry nothing for us.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// All pieces in one, without a copy when there is but one; nothing when they are too many bytes.
async fn collect(places: &Arc<Semaphore>, body: &mut Body) -> Result<Option<Read>, Refused> {
    let Some(first) = piece(body).await? else {
        return Ok(Some(Bytes::new().into()));
    };
    if body.is_end_stream() {
        return Ok(Some(first.into()));
    }
    let (mut all, mut room) = (BytesMut::from(first), None);
    while let Some(more) = piece(body).await? {
        let length = (all.len() + more.len()) as u64;
        if length > MAX_BODY_BYTES {
            return Ok(None);
        }
        if length > LARGE_BODY_BYTES && room.is_none() {
            let place = tokio::time::timeout(BODY_SILENCE, Arc::clone(places).acquire_owned()).await;
            room = Some(place.ok().and_then(Result::ok).ok_or_else(Refused::overloaded)?);
        }
        all.extend_from_slice(&more);
    }
    Ok(Some(Read { body: all.freeze(), room }))
}

/// Reads and forgets. Closing a connection that still receives resets it, and the answer is lost.
async fn drain(mut body: Body) {
    let reading = async {
        let mut left = DRAIN_BYTES;
        while let Ok(Some(bytes)) = piece(&mut body).await {
            left = left.saturating_sub(bytes.len() as u64);
            if left == 0 {
                break;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIME, reading).await.is_err() {
        tracing::debug!("a body that is too large was not read to its end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_ids() {
        let of = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(sent.as_bytes()).unwrap());
            Transaction::of(&headers).0
        };
        assert_eq!(&*of("mine"), "mine");
        for refused in ["", "sid_mine", "\u{e9}", "a".repeat(257).as_str()] {
            let id = of(refused);
            assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{refused} → {id}");
        }
        assert_ne!(random_id(), random_id());
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let read = async |body: Body| {
            let mut request = Request::new(body);
            whole_body(&Arc::new(Semaphore::new(1)), &mut request).await.map(|read| read.body)
        };
        assert_eq!(read(Body::empty()).await.unwrap(), Bytes::new());
        assert_eq!(read(Body::from("abc")).await.unwrap(), Bytes::from("abc"));
        let pieces = |count: usize| {
            let piece = Bytes::from(vec![b' '; 1024 * 1024]);
            let stream =
                futures::stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
            Body::from_stream(stream)
        };
        assert_eq!(read(pieces(50)).await.unwrap().len(), 50 * 1024 * 1024);
        assert!(read(pieces(51)).await.is_err());
        assert!(read(Body::from(vec![b' '; 50 * 1024 * 1024 + 1])).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_bodies_end() {
        let mut request =
            Request::new(Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>()));
        let places = Arc::new(Semaphore::new(1));
        let refused = whole_body(&places, &mut request).await.map(|read| read.body).unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_are_few() {
        let places = Arc::new(Semaphore::new(1));
        let large = || {
            let piece = Bytes::from(vec![b' '; 1024 * 1024]);
            let stream = futures::stream::iter((0..3).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
            Request::new(Body::from_stream(stream))
        };
        let first = whole_body(&places, &mut large()).await.ok().unwrap();
        let refused = whole_body(&places, &mut large()).await.map(|read| read.body).unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert!(whole_body(&places, &mut large()).await.is_ok());
    }
}
