//! Manifests, read by tag or digest and written byte for byte.

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use super::super::digest::{Digest, Hasher};
use super::super::document::Stored;
use super::super::error::ImageError;
use super::super::media::ACCEPT;
use super::super::reference::Reference;
use super::{ANSWER_WAIT, Access, Ask, Client, Content};

/// What registries bound manifests to.
const MANIFEST_BYTES: usize = 4 * 1024 * 1024;

impl Client {
    /// The manifest or index that a reference names, verified.
    pub(crate) async fn manifest(&self, reference: &Reference) -> Result<Stored, ImageError> {
        let what = format!("image {reference}");
        let path = format!("manifests/{}", reference.selector());
        let task = format!("read {what}");
        let mut ask = Ask::new(Method::GET, reference, Access::Pull, path.clone(), task.clone());
        ask.accept = Some(ACCEPT);
        let response = self.send(ask).await?;
        let registry = reference.registry().to_owned();
        if response.status() == StatusCode::NOT_FOUND {
            return Err(ImageError::NotFound { registry, what });
        }
        if response.status() != StatusCode::OK {
            let ask = Ask::new(Method::GET, reference, Access::Pull, path, task);
            return Err(self.refusal(&ask, response).await);
        }
        let announced = text(response.headers(), header::CONTENT_TYPE.as_str());
        let told = digest(response.headers());
        let body = Limited::new(response.into_body(), MANIFEST_BYTES).collect();
        let body = match tokio::time::timeout(ANSWER_WAIT, body).await {
            Ok(Ok(body)) => body.to_bytes().to_vec(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(ImageError::malformed(what, "its manifest is larger than 4 MiB"));
            }
            Ok(Err(error)) => return Err(ImageError::Unreachable { registry, task, why: error.to_string() }),
            Err(_) => {
                let why = format!("no whole answer within {} s", ANSWER_WAIT.as_secs());
                return Err(ImageError::Unreachable { registry, task, why });
            }
        };
        if let Some(wanted) = reference.digest().or(told.as_ref()) {
            verify(&body, wanted, registry, &what)?;
        }
        let mut stored = Stored::read(body, &announced, &what)?;
        if let Some(wanted) = reference.digest() {
            // It is known by this name, whatever the algorithm.
            stored.digest = wanted.clone();
        }
        Ok(stored)
    }

    /// The digest a reference leads to, or `None` when it leads nowhere.
    pub(crate) async fn manifest_digest(&self, reference: &Reference) -> Result<Option<Digest>, ImageError> {
        let path = format!("manifests/{}", reference.selector());
        let task = format!("look for image {reference}");
        let mut ask = Ask::new(Method::HEAD, reference, Access::Pull, path.clone(), task.clone());
        ask.accept = Some(ACCEPT);
        let response = self.send(ask).await?;
        match response.status() {
            StatusCode::OK => match (digest(response.headers()), reference.digest()) {
                (Some(told), _) => Ok(Some(told)),
                (None, Some(asked)) => Ok(Some(asked.clone())),
                (None, None) => Ok(Some(self.manifest(reference).await?.digest)),
            },
            StatusCode::NOT_FOUND => Ok(None),
            _ => {
                let ask = Ask::new(Method::HEAD, reference, Access::Pull, path, task);
                Err(self.refusal(&ask, response).await)
            }
        }
    }

    /// Stores a manifest under its digest or, when `to` has one, under a tag. True when the registry minded its subject.
    pub(crate) async fn push_manifest(&self, to: &Reference, stored: &Stored) -> Result<bool, ImageError> {
        let selector = to.tag().map_or_else(|| stored.digest.to_string(), ToOwned::to_owned);
        let path = format!("manifests/{selector}");
        let task = format!("push manifest {selector} to {}", to.name());
        let ask = || Ask::new(Method::PUT, to, Access::Push, path.clone(), task.clone());
        let mut put = ask();
        let bytes = Bytes::from(stored.bytes.clone());
        put.content = Content::Bytes { media_type: stored.kind.media_type(), bytes };
        let response = self.send(put).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                Ok(response.headers().contains_key("oci-subject"))
            }
            _ => Err(self.refusal(&ask(), response).await),
        }
    }
}

/// Fails when `bytes` are not what `wanted` says.
pub(crate) fn verify(bytes: &[u8], wanted: &Digest, registry: String, what: &str) -> Result<(), ImageError> {
    let mut hasher = Hasher::of(wanted);
    hasher.update(bytes);
    let found = hasher.finish();
    if found == *wanted {
        return Ok(());
    }
    Err(ImageError::Mismatch { registry, what: what.to_owned(), wanted: wanted.clone(), found })
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn digest(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(&text(headers, "docker-content-digest")).ok()
}
