//! Blobs: looked for, read, mounted, copied, uploaded.

use std::path::PathBuf;
use std::sync::Mutex;

use bytes::Bytes;
use http::header;
use http::{Method, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};

use super::super::digest::Digest;
use super::super::document::Descriptor;
use super::super::error::ImageError;
use super::super::progress::size;
use super::super::reference::Reference;
use super::super::verified::{Cause, Expected, Verified, collect};
use super::{ATTEMPTS, Access, Ask, Client, Content, join, pause};

/// Bytes of a configuration that are read.
const CONFIG_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a file that are read at a time.
const PIECE: usize = 128 * 1024;

/// How a blob came to be where it was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    WasThere,
    Mounted,
    Uploaded,
}

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub(crate) enum Blob {
    Memory(Bytes),
    File(PathBuf),
    Registry(Reference),
}

impl Client {
    /// A small blob: the configuration of an image.
    pub(crate) async fn small_blob(&self, from: &Reference, blob: &Descriptor) -> Result<Bytes, ImageError> {
        if blob.size > CONFIG_BYTES {
            let why = format!("it has {} and at most {} are read", size(blob.size), size(CONFIG_BYTES));
            return Err(ImageError::malformed(format!("blob {} of {}", blob.digest, from.name()), why));
        }
        let mut attempt = 1;
        loop {
            match collect(self.read_blob(from, blob, Cause::default()).await?).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => pause(attempt, None).await,
                other => return other,
            }
            attempt += 1;
        }
    }

    /// A blob as a stream that fails when it is not what its digest says.
    pub(crate) async fn read_blob(
        &self,
        from: &Reference,
        blob: &Descriptor,
        cause: Cause,
    ) -> Result<Verified<Incoming>, ImageError> {
        let what = format!("blob {} of {}", blob.digest, from.name());
        let path = format!("blobs/{}", blob.digest);
        let ask = || Ask::new(Method::GET, from, Access::Pull, path.clone(), format!("read {what}"));
        let response = self.send(ask()).await?;
        let registry = from.registry().to_owned();
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(ImageError::NotFound { registry, what }),
            _ => return Err(self.refusal(&ask(), response).await),
        }
        let expected = Expected { registry, what, digest: blob.digest.clone(), size: blob.size };
        let meter = self.progress.meter(format!("blob {}", short(&blob.digest)), blob.size);
        Ok(Verified::new(response.into_body(), expected, meter, cause))
    }

    /// True when a repository has a blob.
    pub(crate) async fn has_blob(&self, at: &Reference, digest: &Digest) -> Result<bool, ImageError> {
        let path = format!("blobs/{digest}");
        let task = format!("look for blob {digest} in {}", at.name());
        // With the token of the upload that follows.
        let ask = || Ask::new(Method::HEAD, at, Access::Push, path.clone(), task.clone());
        let response = self.send(ask()).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refusal(&ask(), response).await),
        }
    }

    /// Brings a blob to a repository by the cheapest way there is.
    pub(crate) async fn push_blob(
        &self,
        to: &Reference,
        blob: &Descriptor,
        bytes: &Blob,
    ) -> Result<Copied, ImageError> {
        if self.has_blob(to, &blob.digest).await? {
            return Ok(Copied::WasThere);
        }
        let mut attempt = 1;
        loop {
            match self.upload(to, blob, bytes).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    self.progress.say(&format!("{error}; trying again"));
                    pause(attempt, None).await;
                }
                other => return other,
            }
            attempt += 1;
        }
    }

    async fn upload(&self, to: &Reference, blob: &Descriptor, bytes: &Blob) -> Result<Copied, ImageError> {
        let digest = &blob.digest;
        let name = short(digest);
        let here = match bytes {
            Blob::Registry(from) if from.registry() == to.registry() => Some(from),
            Blob::Registry(_) | Blob::Memory(_) | Blob::File(_) => None,
        };
        let task = format!("push blob {digest} to {}", to.name());
        let mut path = "blobs/uploads/".to_owned();
        if let Some(from) = here {
            path = format!("{path}?mount={digest}&from={}", from.repository());
        }
        let ask =
            || Ask { from: here, ..Ask::new(Method::POST, to, Access::Push, path.clone(), task.clone()) };
        let response = self.send(ask()).await?;
        match response.status() {
            StatusCode::CREATED => {
                self.progress.say(&format!("{name}: mounted in {}", to.name()));
                return Ok(Copied::Mounted);
            }
            StatusCode::ACCEPTED => {}
            _ => return Err(self.refusal(&ask(), response).await),
        }
        let location = self.location(&response, to, &task)?;
        let separator = if location.query().is_some() { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", digest.as_str().replace(':', "%3A"));
        self.progress.say(&format!("{name}: {} to {}", size(blob.size), to.name()));
        let cause = Cause::default();
        // The same scopes as before, so that the same token serves.
        let ask = || Ask { from: here, ..Ask::new(Method::PUT, to, Access::Push, url.clone(), task.clone()) };
        let mut put = ask();
        put.content = self.content(blob, bytes, cause.clone()).await?;
        let sent = self.send(put).await;
        // Why a body broke off says more than that it did.
        if let Some(cause) = cause.take() {
            return Err(cause);
        }
        let response = sent?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(Copied::Uploaded),
            _ => Err(self.refusal(&ask(), response).await),
        }
    }

    fn location(&self, response: &Response<Incoming>, to: &Reference, task: &str) -> Result<Uri, ImageError> {
        let base = self.url(to, "")?;
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        location.and_then(|location| join(&base, location)).ok_or_else(|| ImageError::Malformed {
            what: format!("the answer of {} to {task}", to.registry()),
            why: "it does not say where to upload to".to_owned(),
        })
    }

    async fn content(&self, blob: &Descriptor, bytes: &Blob, cause: Cause) -> Result<Content, ImageError> {
        Ok(match bytes {
            Blob::Memory(bytes) => {
                Content::Bytes { media_type: "application/octet-stream", bytes: bytes.clone() }
            }
            Blob::File(path) => {
                let file = tokio::fs::File::open(path)
                    .await
                    .map_err(ImageError::file(format!("read {}", path.display())))?;
                let body = Verified::new(pieces(file), self.of_file(blob, path), self.meter(blob), cause);
                Content::Stream { size: blob.size, body: Mutex::new(Some(body.boxed_unsync())) }
            }
            Blob::Registry(from) => {
                let body = self.read_blob(from, blob, cause).await?;
                Content::Stream { size: blob.size, body: Mutex::new(Some(body.boxed_unsync())) }
            }
        })
    }

    fn meter(&self, blob: &Descriptor) -> super::super::progress::Meter {
        self.progress.meter(format!("blob {}", short(&blob.digest)), blob.size)
    }

    fn of_file(&self, blob: &Descriptor, path: &std::path::Path) -> Expected {
        let registry = path.parent().unwrap_or(path).display().to_string();
        Expected {
            registry,
            what: format!("blob {}", blob.digest),
            digest: blob.digest.clone(),
            size: blob.size,
        }
    }
}

/// A file as a body.
fn pieces(
    file: tokio::fs::File,
) -> std::pin::Pin<Box<dyn hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send>> {
    use tokio::io::AsyncReadExt as _;
    let stream = futures::stream::try_unfold(file, |mut file| async move {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        let read = file.read_buf(&mut piece).await?;
        Ok((read > 0).then(|| (Frame::data(piece.freeze()), file)))
    });
    Box::pin(http_body_util::StreamBody::new(stream))
}

/// Enough of a digest to tell blobs apart.
pub(crate) fn short(digest: &Digest) -> &str {
    digest.as_str().get(..19).unwrap_or(digest.as_str())
}
