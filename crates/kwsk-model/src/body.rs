//! Reading request bodies: what all `…Put` types share.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::name::NameError;
use crate::version::SemVer;

/// A body that cannot be read. `Display` is what OpenWhisk answers, with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The text or shape is wrong.
    #[error("The request content was malformed:\n{0}")]
    Malformed(String),
    /// A validation of the body's content failed; the message stands alone.
    #[error("{0}")]
    Invalid(String),
    /// A name in the body is outside the grammar.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl BodyError {
    /// [`BodyError::Malformed`] with the text of `reason`.
    pub fn malformed(reason: impl std::fmt::Display) -> Self {
        Self::Malformed(reason.to_string())
    }
}

/// The members of a JSON object body.
///
/// # Errors
/// [`BodyError::Malformed`] for everything that is not an object.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, BodyError> {
    match serde_json::from_slice(body).map_err(BodyError::malformed)? {
        Value::Object(map) => Ok(map),
        _ => Err(BodyError::malformed("Object expected")),
    }
}

/// The optional member `key`; `null` counts as absent.
pub(crate) fn member<T: DeserializeOwned>(
    map: &Map<String, Value>,
    key: &'static str,
) -> Result<Option<T>, BodyError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            T::deserialize(value).map(Some).map_err(|error| BodyError::Malformed(format!("'{key}': {error}")))
        }
    }
}

/// The optional member `version`.
pub(crate) fn version(map: &Map<String, Value>) -> Result<Option<SemVer>, BodyError> {
    match map.get("version") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(BodyError::malformed),
        Some(_) => Err(BodyError::malformed("semantic version malformed")),
    }
}
