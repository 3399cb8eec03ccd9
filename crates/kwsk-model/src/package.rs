//! Packages and bindings.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::action::Action;
use crate::body::{BodyError, member, version};
use crate::name::{EntityName, FullyQualifiedEntityName, Namespace};
use crate::params::{Annotations, Parameters};
use crate::version::SemVer;

/// What a binding points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The provider's namespace, `_` resolved.
    pub namespace: Namespace,
    /// The provider package.
    pub name: EntityName,
}

impl Binding {
    /// The provider's full name.
    #[must_use]
    pub fn fqn(&self) -> FullyQualifiedEntityName {
        FullyQualifiedEntityName::new(self.namespace.clone(), self.name.clone())
    }
}

/// A package, or a binding to one.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// The owner.
    pub namespace: Namespace,
    /// Its name; never `default`.
    pub name: EntityName,
    /// Bumped by every update.
    pub version: SemVer,
    /// Others may read and invoke its content.
    pub publish: bool,
    /// Inherited by its actions.
    pub parameters: Parameters,
    /// Annotations; `binding` is the server's.
    pub annotations: Annotations,
    /// Set when this is a binding.
    pub binding: Option<Binding>,
    /// Milliseconds since the epoch of the last successful PUT.
    pub updated: u64,
}

/// `{}` for a plain package, `{"namespace","name"}` for a binding.
fn binding_json(binding: Option<&Binding>) -> Value {
    binding.map_or_else(|| json!({}), |b| json!(b))
}

impl Package {
    /// The full name.
    #[must_use]
    pub fn fqn(&self) -> FullyQualifiedEntityName {
        FullyQualifiedEntityName::new(self.namespace.clone(), self.name.clone())
    }

    /// The document of PUT and DELETE.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "namespace": self.namespace, "name": self.name, "version": self.version, "publish": self.publish,
            "annotations": self.annotations, "parameters": self.parameters,
            "binding": binding_json(self.binding.as_ref()), "updated": self.updated,
        })
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
            binding: Map<String, Value>,
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
            binding: read_binding(&f.binding)?,
            updated: f.updated,
        })
    }

    /// The document of GET: with the actions and feeds of the package (for a binding: of the one it points at).
    #[must_use]
    pub fn to_json_with_actions(&self, actions: &[Action]) -> Value {
        let item = |a: &Action| json!({"name": a.name, "version": a.version, "annotations": a.annotations});
        let (feeds, plain): (Vec<_>, Vec<_>) =
            actions.iter().partition(|a| a.annotations.get("feed").is_some());
        let mut value = self.to_json();
        value["actions"] = plain.into_iter().map(item).collect();
        value["feeds"] = feeds.into_iter().map(item).collect();
        value
    }

    /// The list item: `binding` is false for a plain package.
    #[must_use]
    pub fn summary(&self) -> Value {
        json!({
            "namespace": self.namespace, "name": self.name, "version": self.version, "publish": self.publish,
            "annotations": self.annotations,
            "binding": self.binding.as_ref().map_or(json!(false), |b| json!(b)), "updated": self.updated,
        })
    }
}

fn read_binding(map: &Map<String, Value>) -> Result<Option<Binding>, BodyError> {
    if map.is_empty() {
        return Ok(None);
    }
    Binding::deserialize(map).map(Some).map_err(BodyError::malformed)
}

/// The body of `PUT packages/…`: each given field replaces the stored one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PackagePut {
    /// `{}` reads as none.
    pub binding: Option<Binding>,
    /// Replaces the list.
    pub parameters: Option<Parameters>,
    /// Replaces the list.
    pub annotations: Option<Annotations>,
    /// Patch level plus one when left out.
    pub version: Option<SemVer>,
    /// Kept when left out.
    pub publish: Option<bool>,
}

impl PackagePut {
    /// Reads a PUT body; `own` replaces `_` as the binding's namespace.
    ///
    /// # Errors
    /// [`BodyError`] in OpenWhisk's words.
    pub fn from_json(map: &Map<String, Value>, own: &Namespace) -> Result<Self, BodyError> {
        let binding = member::<Map<String, Value>>(map, "binding")?.unwrap_or_default();
        let resolve = |b: Binding| Binding { namespace: b.namespace.resolve(own), ..b };
        Ok(Self {
            binding: read_binding(&binding)?.map(resolve),
            parameters: member(map, "parameters")?,
            annotations: member(map, "annotations")?,
            version: version(map)?,
            publish: member(map, "publish")?,
        })
    }
}
