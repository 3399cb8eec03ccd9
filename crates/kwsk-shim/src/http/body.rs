//! Request bodies: read within bounds, and read to the end also when nobody wants them, because a proxy that is still
//! sending one may miss the answer.

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::timeout;

use super::{Bounds, Refusal};

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    Late,
    Broken,
}

impl Unread {
    pub(super) fn refusal(&self, bounds: &Bounds) -> Refusal {
        match self {
            Self::TooLarge => Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("The request entity is too large: {} bytes are allowed.", bounds.body_bytes),
            ),
            Self::Late => Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("The request's body did not arrive within {:?}.", bounds.body),
            ),
            Self::Broken => Refusal::bad("The request ended early."),
        }
    }
}

/// The whole body. One that arrives in one piece is not copied.
pub(super) async fn read<B>(body: &mut B, bounds: &Bounds) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > bounds.body_bytes {
        return Err(Unread::TooLarge);
    }
    timeout(bounds.body, collect(body, bounds.body_bytes)).await.unwrap_or(Err(Unread::Late))
}

async fn collect<B>(body: &mut B, limit: u64) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Some(first) = piece(body).await? else { return Ok(Bytes::new()) };
    if first.len() as u64 > limit {
        return Err(Unread::TooLarge);
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    let mut whole = BytesMut::from(first);
    while let Some(next) = piece(body).await? {
        if (whole.len() + next.len()) as u64 > limit {
            return Err(Unread::TooLarge);
        }
        whole.extend_from_slice(&next);
    }
    Ok(whole.freeze())
}

/// The next data; trailers are passed over.
async fn piece<B>(body: &mut B) -> Result<Option<Bytes>, Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| Unread::Broken)?.into_data() {
            Ok(data) => return Ok(Some(data)),
            Err(_) => continue,
        }
    }
    Ok(None)
}

/// Reads what is left of a body, as much as one may have; false when there is more, or when it does not come in time.
pub(super) async fn discard<B>(body: &mut B, bounds: &Bounds) -> bool
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return true;
    }
    if body.size_hint().lower() > bounds.body_bytes {
        return false;
    }
    let swallow = async {
        let mut left = bounds.body_bytes;
        loop {
            match piece(body).await {
                Ok(None) => return true,
                Ok(Some(data)) if data.len() as u64 <= left => left -= data.len() as u64,
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    };
    timeout(bounds.body, swallow).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use hyper::body::Frame;

    use super::*;

    /// Gives its pieces and then ends, or is never heard of again.
    struct Pieces(VecDeque<&'static str>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(text) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    const BOUNDS: Bounds = Bounds { head: Duration::ZERO, body: Duration::from_millis(10), body_bytes: 5 };

    #[tokio::test]
    async fn bounded() {
        for (pieces, ends, expected, rest) in [
            (&[][..], true, Ok("".into()), true),
            (&["abcde"], true, Ok("abcde".into()), true),
            (&["ab", "", "cde"], true, Ok("abcde".into()), true),
            (&["abcdef"], true, Err(Unread::TooLarge), true),
            (&["abc", "def"], true, Err(Unread::TooLarge), true),
            (&["abc", "def", "abcde"], true, Err(Unread::TooLarge), true),
            (&["abc", "def", "abc", "def"], true, Err(Unread::TooLarge), false),
            (&["abc", "def"], false, Err(Unread::TooLarge), false),
            (&["abc"], false, Err(Unread::Late), false),
        ] {
            let mut body = Pieces(pieces.iter().copied().collect(), ends);
            assert_eq!(read(&mut body, &BOUNDS).await, expected, "{pieces:?}");
            assert_eq!(discard(&mut body, &BOUNDS).await, rest, "{pieces:?}");
        }
    }
}
