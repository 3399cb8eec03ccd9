//! Who calls: subjects, keys and the limits of a namespace.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{Bounds, LimitBounds};
use crate::name::Namespace;

/// `uuid:key`: 36 characters of UUID, exactly 64 of secret. `Debug` redacts the secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AuthKey {
    uuid: String,
    key: String,
}

/// Not `uuid:key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The supplied authentication is invalid")]
pub struct AuthKeyMalformed;

impl AuthKey {
    /// The public half, by which a key is looked up.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The secret half. Compare it in constant time.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.key
    }

    /// `uuid:key`, as actions get it.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}:{}", self.uuid, self.key)
    }
}

impl FromStr for AuthKey {
    type Err = AuthKeyMalformed;

    fn from_str(text: &str) -> Result<Self, AuthKeyMalformed> {
        let (uuid, key) = text.split_once(':').ok_or(AuthKeyMalformed)?;
        let hex_or_dash = |(i, b): (usize, u8)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        };
        let uuid_ok = uuid.len() == 36 && uuid.bytes().enumerate().all(hex_or_dash);
        if !uuid_ok || key.chars().count() != 64 {
            return Err(AuthKeyMalformed);
        }
        Ok(Self { uuid: uuid.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:…", self.uuid)
    }
}

impl Serialize for AuthKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.reveal())
    }
}

impl<'de> Deserialize<'de> for AuthKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What an operator may set for one namespace; everything left out is the system's default. Upstream: `UserLimits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespaceLimits {
    /// Invocations in a wall-clock minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocations_per_minute: Option<u64>,
    /// Invocations in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_invocations: Option<u64>,
    /// Trigger fires in a wall-clock minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fires_per_minute: Option<u64>,
    /// Kinds a PUT may name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_kinds: Option<Vec<String>>,
    /// False: nothing is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_activations: Option<bool>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_action_memory: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_memory: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_action_logs: Option<u64>,
    /// MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_logs: Option<u64>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_action_timeout: Option<u64>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_timeout: Option<u64>,
    /// Count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_action_concurrency: Option<u64>,
    /// Count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_action_concurrency: Option<u64>,
}

/// The limits every namespace has unless its own say otherwise. OpenWhisk's `application.conf` is the `Default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemLimits {
    /// Bounds of action limits.
    pub action: LimitBounds,
    /// Invocations in a wall-clock minute, default 60.
    pub invocations_per_minute: u64,
    /// Invocations in flight, default 30.
    pub concurrent_invocations: u64,
    /// Trigger fires in a wall-clock minute, default 60.
    pub fires_per_minute: u64,
}

impl Default for SystemLimits {
    fn default() -> Self {
        Self {
            action: LimitBounds::default(),
            invocations_per_minute: 60,
            concurrent_invocations: 30,
            fires_per_minute: 60,
        }
    }
}

impl SystemLimits {
    /// The bounds of a namespace: its own, capped by the system's.
    #[must_use]
    pub fn bounds_of(&self, own: &NamespaceLimits) -> LimitBounds {
        let narrow = |system: Bounds, min: Option<u64>, max: Option<u64>| Bounds {
            min: min.map_or(system.min, |m| m.max(system.min)),
            max: max.map_or(system.max, |m| m.min(system.max)),
        };
        let base = self.action;
        LimitBounds {
            timeout: narrow(base.timeout, own.min_action_timeout, own.max_action_timeout),
            memory: narrow(base.memory, own.min_action_memory, own.max_action_memory),
            logs: narrow(base.logs, own.min_action_logs, own.max_action_logs),
            concurrency: narrow(base.concurrency, own.min_action_concurrency, own.max_action_concurrency),
            instances: own.concurrent_invocations.unwrap_or(self.concurrent_invocations),
        }
    }
}

/// One key of one namespace, as authentication finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who owns the key.
    pub subject: String,
    /// The namespace the key opens.
    pub namespace: Namespace,
    /// The key.
    pub key: AuthKey,
    /// The namespace's own limits.
    pub limits: NamespaceLimits,
}

/// `{name, uuid, key}` of a subject record, as CouchDB holds it upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectNamespace {
    /// The namespace.
    pub name: Namespace,
    /// The key that opens it.
    pub auth: AuthKey,
}

/// A subject: somebody with one key for each of one or more namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// At least five characters.
    pub subject: String,
    /// Namespaces and keys.
    pub namespaces: Vec<SubjectNamespace>,
    /// True: the credentials stop working.
    #[serde(default)]
    pub blocked: bool,
    /// The limits of the subject's namespaces.
    #[serde(default)]
    pub limits: NamespaceLimits,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let text = format!("23bc46b1-71f6-4ed5-8c54-816aa4f8c502:{}", "k".repeat(64));
        let key: AuthKey = text.parse().unwrap();
        assert_eq!(key.reveal(), text);
        assert!(!format!("{key:?}").contains("kkk"));
        for bad in ["xxx", "a:b", &text[..99], &format!("{text}k"), &text.replace('-', "_")] {
            assert!(bad.parse::<AuthKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn namespace_bounds_are_capped() {
        let own = NamespaceLimits {
            max_action_memory: Some(9999),
            min_action_timeout: Some(1),
            max_action_timeout: Some(1000),
            ..NamespaceLimits::default()
        };
        let bounds = SystemLimits::default().bounds_of(&own);
        assert_eq!(bounds.memory.max, 512);
        assert_eq!(bounds.timeout, Bounds { min: 100, max: 1000 });
    }
}
