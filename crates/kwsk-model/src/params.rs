//! [`Parameters`] and [`Annotations`]: ordered key–value lists with OpenWhisk's merge rules.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::json::{RawJson, is_truthy};

/// One bound parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Unique within its list.
    pub key: String,
    /// Any JSON; absent reads as `null`.
    #[serde(default)]
    pub value: Value,
    /// Goes to `/init` as environment, not to `/run`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub init: bool,
    /// The scheme, where parameters are stored encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// The payload sets a parameter that is locked by the `final` annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Request defines parameters that are not allowed (e.g., reserved properties).")]
pub struct FinalOverride;

/// An ordered list of parameters; a later entry of the same key replaces the earlier one, keeping its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters(IndexMap<String, Parameter>);

impl Parameters {
    /// No parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.0.values()
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).map(|p| &p.value)
    }

    /// Sets or replaces one parameter.
    pub fn set(&mut self, parameter: Parameter) {
        self.0.insert(parameter.key.clone(), parameter);
    }

    /// This list overlaid by `over`: shallow, by key, `over` wins. Package < binding < action is this, twice.
    #[must_use]
    pub fn merged(&self, over: &Self) -> Self {
        let mut all = self.clone();
        all.0.extend(over.0.iter().map(|(k, p)| (k.clone(), p.clone())));
        all
    }

    /// Bytes of the compact JSON form, what the parameter size limit counts.
    #[must_use]
    pub fn json_size(&self) -> u64 {
        json_size(self)
    }

    /// The init parameters: what `/init` gets as environment.
    #[must_use]
    pub fn init_environment(&self) -> Map<String, Value> {
        let init = self.iter().filter(|p| p.init);
        init.map(|p| (p.key.clone(), p.value.clone())).collect()
    }

    /// The keys that `final: true` locks: those with a defined, non-empty value.
    #[must_use]
    pub fn locked_keys(&self) -> HashSet<&str> {
        let defined =
            |p: &&Parameter| !matches!(&p.value, Value::Null) && p.value != Value::String(String::new());
        self.iter().filter(defined).map(|p| p.key.as_str()).collect()
    }

    /// The arguments of a run: these parameters (without the init ones) overlaid by `payload`. An array payload is
    /// passed on untouched, as sequences demand. The values of `payload` are copied as text, not rebuilt.
    ///
    /// # Errors
    /// [`FinalOverride`] when `locked` and the payload sets one of [`Self::locked_keys`].
    pub fn arguments(&self, payload: &RawJson, locked: bool) -> Result<RawJson, FinalOverride> {
        if self.is_empty() || !payload.is_object() {
            return Ok(payload.clone());
        }
        let Ok(given) = serde_json::from_str::<IndexMap<String, &serde_json::value::RawValue>>(payload.get())
        else {
            return Ok(payload.clone());
        };
        if locked {
            let keys = self.locked_keys();
            if given.keys().any(|key| keys.contains(key.as_str())) {
                return Err(FinalOverride);
            }
        }
        let mut text = String::with_capacity(payload.get().len() + 64 * self.len());
        text.push('{');
        let mut field = |key: &str, value: &str| {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&Value::from(key).to_string());
            text.push(':');
            text.push_str(value);
        };
        for p in self.iter().filter(|p| !p.init && !given.contains_key(&p.key)) {
            field(&p.key, &p.value.to_string());
        }
        for (key, value) in &given {
            field(key, value.get());
        }
        text.push('}');
        Ok(RawJson::parse(text).unwrap_or_else(|_| payload.clone()))
    }
}

impl FromIterator<Parameter> for Parameters {
    fn from_iter<I: IntoIterator<Item = Parameter>>(iter: I) -> Self {
        let mut all = Self::new();
        iter.into_iter().for_each(|p| all.set(p));
        all
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values())
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Parameter>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[derive(Serialize, Deserialize)]
struct Annotation<V> {
    key: String,
    #[serde(default = "Option::default")]
    value: Option<V>,
}

/// An ordered list of annotations; a later entry of the same key replaces the earlier one, keeping its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations(IndexMap<String, Value>);

impl Annotations {
    /// No annotations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Sets or replaces one annotation.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Drops one annotation.
    pub fn remove(&mut self, key: &str) {
        self.0.shift_remove(key);
    }

    /// What an action update makes of the stored list: stored minus `deleted`, overlaid by `over`.
    #[must_use]
    pub fn updated(&self, over: &Self, deleted: &[String]) -> Self {
        let mut all = self.clone();
        all.0.retain(|key, _| !deleted.contains(key));
        all.0.extend(over.0.iter().map(|(k, v)| (k.clone(), v.clone())));
        all
    }

    /// See [`is_truthy`].
    #[must_use]
    pub fn is_truthy(&self, key: &str, when_absent: bool) -> bool {
        is_truthy(self.get(key), when_absent)
    }

    /// Bytes of the compact JSON form, what the annotation size limit counts.
    #[must_use]
    pub fn json_size(&self) -> u64 {
        json_size(self)
    }
}

fn json_size(value: &impl Serialize) -> u64 {
    serde_json::to_string(value).map_or(0, |text| text.len() as u64)
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Annotations {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Self {
        Self(iter.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl Serialize for Annotations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0.iter().map(|(key, value)| Annotation { key: key.clone(), value: Some(value) }),
        )
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<Annotation<Value>>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|a| (a.key, a.value.unwrap_or(Value::Null))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params(value: Value) -> Parameters {
        serde_json::from_value(value).unwrap()
    }

    fn arguments(bound: Value, payload: &str, locked: bool) -> Result<Value, FinalOverride> {
        let payload = RawJson::parse(payload.to_owned()).unwrap();
        params(bound).arguments(&payload, locked).map(|a| a.to_value())
    }

    #[test]
    fn payload_wins_and_init_stays_out() {
        let bound = json!([{"key":"a","value":1},{"key":"b","value":2},{"key":"c","value":3,"init":true}]);
        assert_eq!(arguments(bound.clone(), r#"{"b":9,"d":{}}"#, false), Ok(json!({"a":1,"b":9,"d":{}})));
        assert_eq!(arguments(bound, "[1]", false), Ok(json!([1])));
    }

    #[test]
    fn final_locks_defined_values_only() {
        let bound = json!([{"key":"a","value":1},{"key":"b","value":""},{"key":"c","value":null}]);
        assert_eq!(arguments(bound.clone(), r#"{"a":1}"#, true), Err(FinalOverride));
        assert!(arguments(bound.clone(), r#"{"b":1,"c":2}"#, true).is_ok());
        assert!(arguments(bound, r#"{"a":1}"#, false).is_ok());
    }

    #[test]
    fn annotations_update() {
        let stored: Annotations = [("a", 1), ("b", 2)].into_iter().collect();
        let over: Annotations = [("b", 3), ("c", 4)].into_iter().collect();
        let updated = stored.updated(&over, &["a".to_owned(), "c".to_owned()]);
        assert_eq!(
            serde_json::to_string(&updated).unwrap(),
            r#"[{"key":"b","value":3},{"key":"c","value":4}]"#
        );
    }

    #[test]
    fn wire_form() {
        let text = r#"[{"key":"a","value":1},{"key":"b","value":"x","init":true}]"#;
        assert_eq!(serde_json::to_string(&params(serde_json::from_str(text).unwrap())).unwrap(), text);
        assert_eq!(params(json!([{"key":"a"}])).get("a"), Some(&Value::Null));
        assert!(serde_json::from_str::<Parameters>(r#"{"a":1}"#).is_err());
        assert!(serde_json::from_str::<Parameters>(r#"[{"value":1}]"#).is_err());
    }
}
