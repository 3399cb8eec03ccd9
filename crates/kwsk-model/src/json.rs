//! [`RawJson`]: JSON that is checked once, kept as text and never rebuilt as a tree on the hot path.

use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Valid JSON text, shared and immutable. Equality compares the values, not the spelling.
#[derive(Clone)]
pub struct RawJson(Arc<RawValue>);

impl RawJson {
    /// Checks `text` and takes it over.
    ///
    /// # Errors
    /// When `text` is not one JSON value.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(|raw| Self(raw.into()))
    }

    /// `{}`.
    #[must_use]
    pub fn empty_object() -> Self {
        Self::from(&Value::Object(serde_json::Map::new()))
    }

    /// The text, compact or not, as it was received.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The tree. Costs a parse.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.get()).unwrap_or(Value::Null)
    }

    /// True for `{…}`.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.get().trim_start().starts_with('{')
    }

    /// True for `[…]`.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.get().trim_start().starts_with('[')
    }

    /// True for an object that has the top-level field `key`.
    #[must_use]
    pub fn has_field(&self, key: &str) -> bool {
        let text = self.get();
        if !self.is_object() || !(text.contains(key) || text.contains("\\u")) {
            return false;
        }
        serde_json::from_str::<indexmap::IndexMap<std::borrow::Cow<'_, str>, IgnoredAny>>(self.get())
            .is_ok_and(|map| map.keys().any(|k| k == key))
    }
}

impl From<&Value> for RawJson {
    fn from(value: &Value) -> Self {
        let raw =
            serde_json::value::to_raw_value(value).or_else(|_| RawValue::from_string("null".to_owned()));
        match raw {
            Ok(raw) => Self(raw.into()),
            Err(_) => unreachable!("`null` is JSON"),
        }
    }
}

impl From<Value> for RawJson {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get() || self.to_value() == other.to_value()
    }
}

impl std::fmt::Debug for RawJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.into()))
    }
}

/// OpenWhisk's notion of a true annotation (`Parameters.isTruthy`): `true`, a non-zero number, a non-empty string;
/// `when_absent` when there is no value.
#[must_use]
pub fn is_truthy(value: Option<&Value>, when_absent: bool) -> bool {
    match value {
        None => when_absent,
        Some(Value::Bool(b)) => *b,
        Some(Value::Number(n)) => n.as_f64() != Some(0.0),
        Some(Value::String(s)) => !s.is_empty(),
        Some(Value::Null) => false,
        Some(Value::Array(_) | Value::Object(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let json = |t: &str| RawJson::parse(t.to_owned()).unwrap();
        assert!(json(r#"{"error":1}"#).has_field("error"));
        assert!(json(r#"{"err\u006fr":1}"#).has_field("error"));
        assert!(!json(r#"{"a":{"error":1}}"#).has_field("error"));
        assert!(!json(r#"["error"]"#).has_field("error"));
        assert_eq!(json(r#"{ "a" : 1 }"#), json(r#"{"a":1}"#));
        assert!(RawJson::parse("{".to_owned()).is_err());
    }
}
