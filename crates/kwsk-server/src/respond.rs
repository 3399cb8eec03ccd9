//! Building answers: compact JSON, plain text, and the CORS headers OpenWhisk sends.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use kwsk_model::activation::ActivationId;
use serde::Serialize;
use serde_json::json;

/// Exactly what OpenWhisk sends; wskdeploy compares the text.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const ACTIVATION_ID: HeaderName = HeaderName::from_static("x-openwhisk-activation-id");

/// OpenWhisk's CORS headers on REST paths.
const CORS: [(HeaderName, HeaderValue); 3] = [
    (http::header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (
        http::header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent"),
    ),
    (http::header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, DELETE, POST, PUT, HEAD")),
];

/// Adds OpenWhisk's CORS headers.
pub fn add_cors(headers: &mut HeaderMap) {
    for (name, value) in CORS {
        headers.insert(name, value);
    }
}

fn with(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// JSON text that already exists.
pub fn json_text(status: StatusCode, text: impl Into<Body>) -> Response {
    with(status, JSON, text)
}

/// Compact JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => json_text(status, text),
        // Nothing kwsk answers can fail to serialise; if it does, say so rather than send half of it.
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Compact JSON with 200.
pub fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

/// Plain text with 200.
pub fn text(text: &'static str) -> Response {
    with(StatusCode::OK, TEXT, text)
}

/// No body at all.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// 202 with the id of what was accepted.
pub fn accepted(id: &ActivationId) -> Response {
    with_activation(json(StatusCode::ACCEPTED, &json!({ "activationId": id })), id)
}

/// Names the activation in the header every invocation's answer has.
pub fn with_activation(mut response: Response, id: &ActivationId) -> Response {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(ACTIVATION_ID, value);
    }
    response
}

/// `{"<collection>": N}`, the answer to `count=true`: what is left after `skip`.
pub fn count(collection: &str, total: u64, skip: u64) -> Response {
    ok(&json!({ collection: total.saturating_sub(skip) }))
}
