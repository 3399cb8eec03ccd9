//! Rules: the link from a trigger to an action.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::body::{BodyError, member, version};
use crate::name::{EntityName, EntityPath, FullyQualifiedEntityName, Namespace};
use crate::params::Annotations;
use crate::version::SemVer;

/// The two states a rule can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleStatus {
    /// A fire reaches the action.
    Active,
    /// A fire is recorded as not delivered.
    Inactive,
}

impl RuleStatus {
    /// Reads `{"status": …}` of `POST rules/…`; other fields are ignored.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] for anything but `active` and `inactive`.
    pub fn from_json(map: &Map<String, Value>) -> Result<Self, BodyError> {
        match map.get("status") {
            Some(Value::String(text)) => match text.as_str() {
                "active" => Ok(Self::Active),
                "inactive" => Ok(Self::Inactive),
                other => Err(BodyError::Malformed(format!(
                    "requirement failed: {other} is not a recognized rule state"
                ))),
            },
            _ => Err(BodyError::malformed("rule state must be a string")),
        }
    }

    /// `active` or `inactive`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }
}

/// `{"path","name"}`: how rules and triggers show another entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionLink {
    /// `ns` or `ns/pkg`.
    pub path: EntityPath,
    /// The entity's own name.
    pub name: EntityName,
}

impl From<&FullyQualifiedEntityName> for ActionLink {
    fn from(name: &FullyQualifiedEntityName) -> Self {
        Self { path: name.path.clone(), name: name.name.clone() }
    }
}

impl From<ActionLink> for FullyQualifiedEntityName {
    fn from(link: ActionLink) -> Self {
        Self { path: link.path, name: link.name }
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The owner.
    pub namespace: Namespace,
    /// Its name.
    pub name: EntityName,
    /// Bumped by every update.
    pub version: SemVer,
    /// Stored, without meaning.
    pub publish: bool,
    /// Annotations.
    pub annotations: Annotations,
    /// What fires it.
    pub trigger: FullyQualifiedEntityName,
    /// What it invokes; a binding's path is kept as given.
    pub action: FullyQualifiedEntityName,
    /// Whether a fire reaches the action.
    pub status: RuleStatus,
    /// Milliseconds since the epoch of the last successful PUT.
    pub updated: u64,
}

impl Rule {
    /// The full name.
    #[must_use]
    pub fn fqn(&self) -> FullyQualifiedEntityName {
        FullyQualifiedEntityName::new(self.namespace.clone(), self.name.clone())
    }

    /// The full document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut value = self.summary();
        value["status"] = json!(self.status);
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
            trigger: ActionLink,
            action: ActionLink,
            status: RuleStatus,
            updated: u64,
        }
        let f = Fields::deserialize(value).map_err(BodyError::malformed)?;
        Ok(Self {
            namespace: f.namespace,
            name: f.name,
            version: f.version,
            publish: f.publish,
            annotations: f.annotations,
            trigger: f.trigger.into(),
            action: f.action.into(),
            status: f.status,
            updated: f.updated,
        })
    }

    /// The list item: the full document without `status`.
    #[must_use]
    pub fn summary(&self) -> Value {
        json!({
            "namespace": self.namespace, "name": self.name, "version": self.version, "publish": self.publish,
            "annotations": self.annotations, "trigger": ActionLink::from(&self.trigger),
            "action": ActionLink::from(&self.action), "updated": self.updated,
        })
    }
}

/// The body of `PUT rules/…`. `name` and `status` are ignored, as upstream does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RulePut {
    /// Obligatory on create.
    pub trigger: Option<FullyQualifiedEntityName>,
    /// Obligatory on create.
    pub action: Option<FullyQualifiedEntityName>,
    /// Replaces the list.
    pub annotations: Option<Annotations>,
    /// Patch level plus one when left out.
    pub version: Option<SemVer>,
    /// Kept when left out.
    pub publish: Option<bool>,
}

impl RulePut {
    /// Reads a PUT body; `own` replaces `_`.
    ///
    /// # Errors
    /// [`BodyError`] in OpenWhisk's words.
    pub fn from_json(map: &Map<String, Value>, own: &Namespace) -> Result<Self, BodyError> {
        let link = |key: &'static str| -> Result<Option<FullyQualifiedEntityName>, BodyError> {
            let name = match map.get(key) {
                None | Some(Value::Null) => return Ok(None),
                // Some clients send back what GET showed them.
                Some(value @ Value::Object(_)) => {
                    ActionLink::deserialize(value).map(Into::into).map_err(BodyError::malformed)?
                }
                Some(value) => FullyQualifiedEntityName::deserialize(value).map_err(BodyError::malformed)?,
            };
            Ok(Some(name.resolve(own)))
        };
        Ok(Self {
            trigger: link("trigger")?,
            action: link("action")?,
            annotations: member(map, "annotations")?,
            version: version(map)?,
            publish: member(map, "publish")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let read = |v: Value| RuleStatus::from_json(v.as_object().unwrap()).map_err(|e| e.to_string());
        assert_eq!(read(json!({"status":"active","trigger":null})), Ok(RuleStatus::Active));
        for bogus in ["bogus", "activating", "deactivating"] {
            assert_eq!(
                read(json!({"status": bogus})).unwrap_err(),
                format!(
                    "The request content was malformed:\nrequirement failed: {bogus} is not a recognized rule state"
                )
            );
        }
        assert!(read(json!({})).is_err());
    }
}
