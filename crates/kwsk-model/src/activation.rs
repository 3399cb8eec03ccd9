//! Activations: ids, the four outcomes, logs, and the record's JSON forms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::json::RawJson;
use crate::name::{EntityName, FullyQualifiedEntityName, Namespace};
use crate::params::Annotations;
use crate::version::SemVer;

/// 32 lower-case hex characters (a UUID without dashes).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActivationId(String);

/// Why a text is not an activation id. `Display` is what OpenWhisk answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActivationIdError {
    /// Not 32 characters.
    #[error("Activation id length is {0} but must be 32.")]
    Length(usize),
    /// Something other than lower-case hex digits.
    #[error("The activation id is not valid.")]
    Invalid,
}

impl ActivationId {
    /// An id from 16 random bytes. The caller brings the randomness.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes))
    }

    /// The id of the run that `rule` makes of the event `(source, event_id)`: the same for every redelivery.
    #[must_use]
    pub fn of_rule(source: &str, event_id: &str, rule: &FullyQualifiedEntityName) -> Self {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(format!("kwsk-rule\n{source}\n{event_id}\n{rule}"));
        Self(hex(&digest[..16]))
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

impl FromStr for ActivationId {
    type Err = ActivationIdError;

    fn from_str(text: &str) -> Result<Self, ActivationIdError> {
        let length = text.chars().count();
        if length != 32 {
            return Err(ActivationIdError::Length(length));
        }
        if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ActivationIdError::Invalid);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::name::text_serde!(ActivationId, ActivationId::from_str);

/// The four outcomes, with upstream's codes 0–3 (`ActivationResponse.scala`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// 0: the action answered.
    Success,
    /// 1: the action answered with an `error` field, or its result was cut.
    ApplicationError,
    /// 2: the action could not be initialised, died, ran out of time or memory, or answered nonsense.
    DeveloperError,
    /// 3: the platform failed.
    WhiskError,
}

impl Outcome {
    /// The code on the wire, 0–3.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::ApplicationError => 1,
            Self::DeveloperError => 2,
            Self::WhiskError => 3,
        }
    }

    /// The outcome of a code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Success, Self::ApplicationError, Self::DeveloperError, Self::WhiskError]
            .get(usize::from(code))
            .copied()
    }

    /// The `status` text of a record.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ApplicationError => "application error",
            Self::DeveloperError => "action developer error",
            Self::WhiskError => "whisk internal error",
        }
    }
}

/// How an activation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationResponse {
    /// Which of the four outcomes.
    pub outcome: Outcome,
    /// The result: an object or an array; `None` when there is none to show.
    pub result: Option<RawJson>,
    /// Characters of the runtime's raw answer; absent for answers the platform made.
    pub size: Option<u64>,
}

impl ActivationResponse {
    /// A successful result.
    #[must_use]
    pub fn success(result: RawJson, size: Option<u64>) -> Self {
        Self { outcome: Outcome::Success, result: Some(result), size }
    }

    /// `{"error": message}` with the given outcome.
    #[must_use]
    pub fn error(outcome: Outcome, message: impl Into<Value>) -> Self {
        Self { outcome, result: Some(json!({ "error": message.into() }).into()), size: None }
    }

    /// The action developer's fault.
    #[must_use]
    pub fn developer_error(message: impl Into<Value>) -> Self {
        Self::error(Outcome::DeveloperError, message)
    }

    /// The platform's fault.
    #[must_use]
    pub fn whisk_error(message: impl Into<Value>) -> Self {
        Self::error(Outcome::WhiskError, message)
    }

    /// The application's own error.
    #[must_use]
    pub fn application_error(message: impl Into<Value>) -> Self {
        Self::error(Outcome::ApplicationError, message)
    }

    /// True for [`Outcome::Success`].
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.outcome == Outcome::Success
    }
}

/// `{"status","success","result","size"?}`: a response as records and `/result` show it.
#[derive(Serialize)]
pub struct ResponseView<'a> {
    status: &'static str,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl<'a> From<&'a ActivationResponse> for ResponseView<'a> {
    fn from(response: &'a ActivationResponse) -> Self {
        Self {
            status: response.outcome.status(),
            success: response.is_success(),
            result: response.result.as_ref(),
            size: response.size,
        }
    }
}

/// How `ActivationResponse` is stored and carried between shim and server: `{"statusCode","result","size"?}`.
#[derive(Serialize, Deserialize)]
struct StoredResponse {
    #[serde(rename = "statusCode")]
    status_code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<RawJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl Serialize for ActivationResponse {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredResponse { status_code: self.outcome.code(), result: self.result.clone(), size: self.size }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ActivationResponse {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredResponse::deserialize(deserializer)?;
        let outcome = Outcome::from_code(stored.status_code)
            .ok_or_else(|| serde::de::Error::custom("statusCode is not 0 to 3"))?;
        Ok(Self { outcome, result: stored.result, size: stored.size })
    }
}

/// One activation. Its serde form is the stored one; [`Activation::record`] and [`Activation::summary`] are what the API shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    /// The *invoker's* namespace.
    pub namespace: Namespace,
    /// The action's or trigger's own name.
    pub name: EntityName,
    /// The version that ran.
    pub version: SemVer,
    /// Who invoked it.
    pub subject: String,
    /// The id.
    pub activation_id: ActivationId,
    /// Milliseconds since the epoch.
    pub start: u64,
    /// Milliseconds since the epoch; absent for triggers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// Milliseconds, init and run; absent for triggers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// The enclosing sequence or composition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<ActivationId>,
    /// How it ended.
    pub response: ActivationResponse,
    /// Log lines, component ids or rule lines.
    pub logs: Vec<String>,
    /// `path`, `kind`, `limits`, …
    pub annotations: Annotations,
    /// Always false; kept because clients read it.
    pub publish: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordView<'a> {
    namespace: &'a Namespace,
    name: &'a EntityName,
    version: SemVer,
    subject: &'a str,
    activation_id: &'a ActivationId,
    start: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a ActivationId>,
    response: ResponseView<'a>,
    logs: &'a [String],
    annotations: &'a Annotations,
    publish: bool,
}

impl Activation {
    /// The full record, as `GET activations/{id}` and blocking invocations answer it.
    #[must_use]
    pub fn record(&self) -> impl Serialize + '_ {
        self.view(&self.logs)
    }

    /// The record of a blocking answer: logs are collected later, so they are shown empty.
    #[must_use]
    pub fn record_without_logs(&self) -> impl Serialize + '_ {
        self.view(&[])
    }

    fn view<'a>(&'a self, logs: &'a [String]) -> RecordView<'a> {
        RecordView {
            namespace: &self.namespace,
            name: &self.name,
            version: self.version,
            subject: &self.subject,
            activation_id: &self.activation_id,
            start: self.start,
            end: self.end,
            duration: self.duration,
            cause: self.cause.as_ref(),
            response: (&self.response).into(),
            logs,
            annotations: &self.annotations,
            publish: self.publish,
        }
    }

    /// The list item: no subject, response or logs; `statusCode` and `duration` only when it ended.
    #[must_use]
    pub fn summary(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        put("namespace", json!(self.namespace));
        put("name", json!(self.name));
        put("version", json!(self.version));
        put("publish", json!(self.publish));
        put("annotations", json!(self.annotations));
        put("activationId", json!(self.activation_id));
        put("start", json!(self.start));
        if let Some(end) = self.end {
            put("end", json!(end));
            put("duration", json!(end.saturating_sub(self.start)));
        }
        if let Some(cause) = &self.cause {
            put("cause", json!(cause));
        }
        if self.end.is_some() {
            put("statusCode", json!(self.response.outcome.code()));
        }
        Value::Object(map)
    }

    /// `name` or `pkg/name` as the `name` filter of a list finds it: through a binding the binding's package counts.
    #[must_use]
    pub fn filter_name(&self) -> String {
        let package = |key: &str, segment: usize| {
            let path = self.annotations.get(key)?.as_str()?;
            let parts: Vec<&str> = path.split('/').collect();
            (parts.len() > segment).then(|| parts[1].to_owned())
        };
        match package("binding", 1).or_else(|| package("path", 2)) {
            Some(package) => format!("{package}/{}", self.name),
            None => self.name.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        assert_eq!(
            "abc".parse::<ActivationId>().unwrap_err().to_string(),
            "Activation id length is 3 but must be 32."
        );
        assert_eq!(
            "G".repeat(32).parse::<ActivationId>().unwrap_err().to_string(),
            "The activation id is not valid."
        );
        assert_eq!(ActivationId::from_bytes([0xab; 16]).as_str(), "ab".repeat(16));
        let rule: FullyQualifiedEntityName = "guest/r".parse().unwrap();
        let id = ActivationId::of_rule("/a", "1", &rule);
        assert_eq!(id, ActivationId::of_rule("/a", "1", &rule));
        assert_ne!(id, ActivationId::of_rule("/a", "2", &rule));
    }

    #[test]
    fn outcomes() {
        for code in 0..4 {
            assert_eq!(Outcome::from_code(code).unwrap().code(), code);
        }
        assert_eq!(Outcome::from_code(4), None);
    }
}
