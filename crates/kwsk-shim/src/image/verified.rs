//! A blob on its way: counted, hashed and never whole in memory.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::digest::{Digest, Hasher};
use super::error::ImageError;
use super::progress::Meter;
use super::transport::{BoxError, chain};

/// How long nothing may arrive.
const IDLE: Duration = Duration::from_secs(30);

/// Where a body leaves the reason why it broke off; hyper only tells that it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause(Arc<Mutex<Option<ImageError>>>);

impl Cause {
    fn leave(&self, error: ImageError) -> BoxError {
        let text = error.to_string();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        text.into()
    }

    pub(crate) fn take(&self) -> Option<ImageError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Lets exactly the bytes through that a digest names. The last piece only passes when all of them were right.
pub(crate) struct Verified<B> {
    inner: B,
    hasher: Option<Hasher>,
    expected: Expected,
    seen: u64,
    idle: Pin<Box<Sleep>>,
    cause: Cause,
    meter: Meter,
}

/// What is to come, and from where, for the error.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) registry: String,
    pub(crate) what: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl<B> Verified<B> {
    pub(crate) fn new(inner: B, expected: Expected, meter: Meter, cause: Cause) -> Self {
        let hasher = Some(Hasher::of(&expected.digest));
        Self { inner, hasher, expected, seen: 0, idle: Box::pin(tokio::time::sleep(IDLE)), cause, meter }
    }

    fn length(&self) -> BoxError {
        let Expected { registry, what, size, .. } = self.expected.clone();
        self.cause.leave(ImageError::Length { registry, what, wanted: size, found: self.seen })
    }

    fn take_in(&mut self, data: &Bytes) -> Result<(), BoxError> {
        self.seen += data.len() as u64;
        self.meter.add(data.len() as u64);
        if self.seen > self.expected.size {
            return Err(self.length());
        }
        let Some(hasher) = &mut self.hasher else { return Ok(()) };
        hasher.update(data);
        // A server that was told the length stops reading here, so now is the last chance to withhold.
        if self.seen == self.expected.size { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), BoxError> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finish();
        if found == self.expected.digest {
            return Ok(());
        }
        let Expected { registry, what, digest: wanted, .. } = self.expected.clone();
        Err(self.cause.leave(ImageError::Mismatch { registry, what, wanted, found }))
    }

    fn end(&mut self) -> Result<(), BoxError> {
        if self.seen < self.expected.size { Err(self.length()) } else { self.finish() }
    }
}

impl<B> HttpBody for Verified<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let unreachable = |this: &Self, why: String| {
            let Expected { registry, what, .. } = this.expected.clone();
            this.cause.leave(ImageError::Unreachable { registry, task: format!("read {what}"), why })
        };
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.idle.as_mut().reset(Instant::now() + IDLE);
                let passed = frame.data_ref().map_or(Ok(()), |data| this.take_in(data));
                Poll::Ready(Some(passed.map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                // hyper's word for a connection that closes before all announced bytes came.
                let why = chain(&error);
                Poll::Ready(Some(Err(if this.seen > 0 { this.length() } else { unreachable(this, why) })))
            }
            Poll::Ready(None) => Poll::Ready(this.end().err().map(Err)),
            Poll::Pending => match this.idle.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(unreachable(
                    this,
                    format!("nothing came for {} s", IDLE.as_secs()),
                )))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.expected.size - self.seen.min(self.expected.size))
    }
}

/// All of a small blob.
pub(crate) async fn collect<B>(body: Verified<B>) -> Result<Bytes, ImageError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (cause, expected) = (body.cause.clone(), body.expected.clone());
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(cause.take().unwrap_or(ImageError::Unreachable {
            registry: expected.registry,
            task: format!("read {}", expected.what),
            why: error.to_string(),
        })),
    }
}
