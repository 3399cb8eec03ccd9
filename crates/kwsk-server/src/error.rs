//! The single table from failures to statuses, and OpenWhisk's error body.
//!
//! Handlers answer `Result<Response, Refused>`. A [`Refused`] carries no body: the outermost layer adds it, because only that
//! knows the transaction id, and logs what the client is not told.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use kwsk_knative::error::Error;
use kwsk_model::body::BodyError;
use kwsk_model::fault::Fault;
use kwsk_model::name::NameError;
use serde_json::json;

use crate::respond;

/// The status of each class of failure.
#[must_use]
pub fn status(fault: Fault) -> StatusCode {
    match fault {
        Fault::BadRequest => StatusCode::BAD_REQUEST,
        Fault::Unauthenticated => StatusCode::UNAUTHORIZED,
        Fault::Forbidden => StatusCode::FORBIDDEN,
        Fault::NotFound => StatusCode::NOT_FOUND,
        Fault::Conflict => StatusCode::CONFLICT,
        Fault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Fault::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        Fault::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Fault::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Fault::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Fault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What OpenWhisk says when there is nothing more precise to say.
fn default_text(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "The request contains bad syntax or cannot be fulfilled.",
        401 => "Authentication is possible but has failed or not yet been provided.",
        403 => "The supplied authentication is not authorized to access this resource.",
        404 => "The requested resource does not exist.",
        409 => {
            "The request could not be processed because of conflict in the request, such as an edit conflict."
        }
        413 => "The request content is larger than the server is willing or able to process.",
        429 => "The user has sent too many requests in a given amount of time.",
        503 => "The server is currently unavailable (because it is overloaded or down for maintenance).",
        _ => "There was an internal server error.",
    }
}

/// A request that is not done.
#[derive(Debug, Clone)]
pub struct Refused {
    status: StatusCode,
    /// Blank: the status' default text.
    message: Cow<'static, str>,
    /// Born before a handler took the request: no CORS headers.
    early: bool,
    /// What the operator is told.
    cause: Option<Error>,
}

impl Refused {
    fn early(fault: Fault, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: status(fault), message: message.into(), early: true, cause: None }
    }

    /// No route, or not with this method: OpenWhisk never answers 405.
    #[must_use]
    pub fn no_route() -> Self {
        Self::early(Fault::NotFound, "The requested resource could not be found.")
    }

    /// No credentials.
    #[must_use]
    pub fn no_credentials() -> Self {
        let text = "The resource requires authentication, which was not supplied with the request";
        Self::early(Fault::Unauthenticated, text)
    }

    /// Credentials nobody has.
    #[must_use]
    pub fn wrong_credentials() -> Self {
        Self::early(Fault::Unauthenticated, "The supplied authentication is invalid")
    }

    /// A query parameter that cannot be read.
    #[must_use]
    pub fn bad_query(name: &str, reason: impl std::fmt::Display) -> Self {
        let text = format!("The query parameter '{name}' was malformed:\n{reason}");
        Self::early(Fault::BadRequest, text)
    }

    /// A validation that failed; the message stands alone.
    #[must_use]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::early(Fault::BadRequest, message)
    }

    /// A body of a media type nobody reads.
    #[must_use]
    pub fn media_type(sent: &str) -> Self {
        let text =
            format!("The request's Content-Type [{sent}] is not supported. Expected:\napplication/json");
        Self::early(Fault::UnsupportedMediaType, text)
    }

    /// A body larger than the server reads at all.
    #[must_use]
    pub fn body_too_large() -> Self {
        Self::early(Fault::TooLarge, "")
    }

    /// A body that did not arrive in time.
    #[must_use]
    pub fn slow_body() -> Self {
        let message = "The request content did not arrive in time.".into();
        Self { status: StatusCode::REQUEST_TIMEOUT, message, early: true, cause: None }
    }

    /// Too many large bodies at a time.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::early(Fault::Unavailable, "")
    }

    /// A URI longer than OpenWhisk's edge lets through; clients look for the text.
    #[must_use]
    pub fn uri_too_long() -> Self {
        let message = "414 Request-URI Too Large".into();
        Self { status: StatusCode::URI_TOO_LONG, message, early: true, cause: None }
    }

    /// A web page's request in local mode.
    #[must_use]
    pub fn foreign_page(message: String) -> Self {
        Self::early(Fault::Forbidden, message)
    }

    /// A defect of ours, already logged.
    #[must_use]
    pub fn internal() -> Self {
        Self::early(Fault::Internal, "")
    }

    /// True when no handler took the request.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.early
    }

    /// Renders the body and logs the cause, both with the transaction id.
    pub fn finish(&self, transaction: &str) -> Response {
        if let Some(cause) = &self.cause {
            tracing::error!(transaction, error = %Chain(cause), "a request failed");
        }
        let message = if self.message.trim().is_empty() { default_text(self.status) } else { &self.message };
        let mut response = respond::json(self.status, &json!({ "error": message, "code": transaction }));
        if self.status == StatusCode::UNAUTHORIZED {
            let realm = HeaderValue::from_static("Basic realm=\"OpenWhisk secure realm\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, realm);
        }
        response
    }
}

impl IntoResponse for Refused {
    /// An empty shell for the outermost layer to [`Refused::finish`].
    fn into_response(self) -> Response {
        let mut response = respond::empty(self.status);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let fault = error.fault();
        let inside = matches!(fault, Fault::Internal | Fault::Unavailable);
        // A corrupted record has a text of its own, which tells nothing about the inside.
        let message = match &error {
            Error::Unreadable(_) => error.to_string(),
            _ if inside => String::new(),
            _ => error.to_string(),
        };
        let early = matches!(error, Error::Body(BodyError::Malformed(_)));
        Self { status: status(fault), message: message.into(), early, cause: inside.then_some(error) }
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        Error::from(error).into()
    }
}

impl From<NameError> for Refused {
    fn from(error: NameError) -> Self {
        Self::early(Fault::BadRequest, error.to_string())
    }
}

/// An error and all of its sources, outermost first.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let text = error.to_string();
            // Transparent errors show their source's text as their own.
            if text != said {
                write!(f, ": {text}")?;
                said = text;
            }
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn rendered(refused: Refused) -> (u16, String) {
        let response = refused.finish("T1");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn bodies_are_compact_and_blank_messages_get_the_default() {
        assert_eq!(
            rendered(Refused::body_too_large()).await,
            (
                413,
                r#"{"error":"The request content is larger than the server is willing or able to process.","code":"T1"}"#
                    .to_owned()
            )
        );
        let (status, body) = rendered(Refused::bad_query("limit", "why")).await;
        assert_eq!(status, 400);
        assert_eq!(body, r#"{"error":"The query parameter 'limit' was malformed:\nwhy","code":"T1"}"#);
    }

    #[tokio::test]
    async fn the_inside_stays_inside() {
        let source = std::io::Error::other("disk /secret is full");
        let error = Error::store("activation store", "written", source);
        assert_eq!(Chain(&error).to_string(), "the activation store cannot be written: disk /secret is full");
        let (status, body) = rendered(error.into()).await;
        assert_eq!(status, 503);
        assert!(body.contains("overloaded or down for maintenance") && !body.contains("secret"), "{body}");
    }
}
