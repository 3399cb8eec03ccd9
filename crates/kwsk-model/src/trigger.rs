//! Triggers.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::body::{BodyError, member, version};
use crate::name::{EntityName, FullyQualifiedEntityName, Namespace};
use crate::params::{Annotations, Parameters};
use crate::rule::{ActionLink, RuleStatus};
use crate::version::SemVer;

/// A rule as its trigger shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedRule {
    /// The rule's action.
    pub action: ActionLink,
    /// Whether a fire reaches it.
    pub status: RuleStatus,
}

/// The rules of a trigger, by `ns/rule`, in the order they were linked.
pub type LinkedRules = IndexMap<FullyQualifiedEntityName, LinkedRule>;

/// A trigger.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The owner.
    pub namespace: Namespace,
    /// Its name.
    pub name: EntityName,
    /// Bumped by every update.
    pub version: SemVer,
    /// Stored, without meaning.
    pub publish: bool,
    /// Handed to every action, below the payload.
    pub parameters: Parameters,
    /// Annotations; `feed` names the feed action.
    pub annotations: Annotations,
    /// Absent before the first rule, empty after the last is removed.
    pub rules: Option<LinkedRules>,
    /// Milliseconds since the epoch of the last successful PUT.
    pub updated: u64,
}

impl Trigger {
    /// The full name.
    #[must_use]
    pub fn fqn(&self) -> FullyQualifiedEntityName {
        FullyQualifiedEntityName::new(self.namespace.clone(), self.name.clone())
    }

    /// The full document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "namespace": self.namespace, "name": self.name, "version": self.version, "publish": self.publish,
            "annotations": self.annotations, "parameters": self.parameters, "limits": {},
        });
        if let Some(rules) = &self.rules {
            value["rules"] = rules.iter().map(|(name, rule)| (name.to_string(), json!(rule))).collect();
        }
        value["updated"] = json!(self.updated);
        value
    }

    /// The inverse of [`Self::to_json`].
    ///
    /// # Errors
    /// [`BodyError`] when the value was not written by [`Self::to_json`].
    pub fn from_json(value: &Value) -> Result<Self, BodyError> {
        #[derive(Deserialize)]
        struct Fields {
            namespace: Namespace,
            name: EntityName,
            version: SemVer,
            publish: bool,
            annotations: Annotations,
            parameters: Parameters,
            rules: Option<LinkedRules>,
            updated: u64,
        }
        let f = Fields::deserialize(value).map_err(BodyError::malformed)?;
        Ok(Self {
            namespace: f.namespace,
            name: f.name,
            version: f.version,
            publish: f.publish,
            parameters: f.parameters,
            annotations: f.annotations,
            rules: f.rules,
            updated: f.updated,
        })
    }

    /// The list item.
    #[must_use]
    pub fn summary(&self) -> Value {
        json!({
            "namespace": self.namespace, "name": self.name, "version": self.version, "publish": self.publish,
            "annotations": self.annotations, "updated": self.updated,
        })
    }
}

/// The body of `PUT triggers/…`: each given field replaces the stored one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TriggerPut {
    /// Replaces the list.
    pub parameters: Option<Parameters>,
    /// Replaces the list.
    pub annotations: Option<Annotations>,
    /// Patch level plus one when left out.
    pub version: Option<SemVer>,
    /// Kept when left out.
    pub publish: Option<bool>,
}

impl TriggerPut {
    /// Reads a PUT body.
    ///
    /// # Errors
    /// [`BodyError`] in OpenWhisk's words.
    pub fn from_json(map: &Map<String, Value>) -> Result<Self, BodyError> {
        Ok(Self {
            parameters: member(map, "parameters")?,
            annotations: member(map, "annotations")?,
            version: version(map)?,
            publish: member(map, "publish")?,
        })
    }

    /// True when a `feed` annotation is given that is no valid path (`name`, `pkg/name`, `/ns/pkg/name`).
    #[must_use]
    pub fn has_bad_feed(&self) -> bool {
        let Some(feed) = self.annotations.as_ref().and_then(|a| a.get("feed")) else {
            return false;
        };
        let segments = |text: &str| {
            let text = text.strip_prefix('/').unwrap_or(text);
            !text.is_empty() && text.split('/').all(|s| EntityName::new(s).is_ok())
        };
        !feed.as_str().is_some_and(segments)
    }
}
