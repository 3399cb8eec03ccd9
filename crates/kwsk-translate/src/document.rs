//! [`Document`]: one Kubernetes object as the cluster port carries it, and [`Key`]: where it is.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Unreadable;

/// The kinds of object kwsk writes. "Kind" alone is three things, hence the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// `serving.knative.dev/v1 Service`: an action.
    KService,
    /// `messaging.knative.dev/v1 Channel`: a trigger.
    Channel,
    /// `messaging.knative.dev/v1 Subscription`: a rule.
    Subscription,
    /// `sources.knative.dev/v1 PingSource`: an alarm.
    PingSource,
    /// `kwsk.dev/v1alpha1 Package`: a package or a binding.
    Package,
    /// `kwsk.dev/v1alpha1 Sequence`: an action without code of its own.
    Sequence,
    /// `kwsk.dev/v1alpha1 Subject`: somebody with keys.
    Subject,
}

impl ResourceKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::KService,
        Self::Channel,
        Self::Subscription,
        Self::PingSource,
        Self::Package,
        Self::Sequence,
        Self::Subject,
    ];

    /// `group/version`.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::KService => "serving.knative.dev/v1",
            Self::Channel | Self::Subscription => "messaging.knative.dev/v1",
            Self::PingSource => "sources.knative.dev/v1",
            Self::Package | Self::Sequence | Self::Subject => "kwsk.dev/v1alpha1",
        }
    }

    /// The `kind` field.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::KService => "Service",
            Self::Channel => "Channel",
            Self::Subscription => "Subscription",
            Self::PingSource => "PingSource",
            Self::Package => "Package",
            Self::Sequence => "Sequence",
            Self::Subject => "Subject",
        }
    }

    /// The kind with this `apiVersion` and `kind`.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.api_version() == api_version && k.kind() == kind)
    }
}

/// Where a document is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What it is.
    pub kind: ResourceKind,
    /// The Kubernetes namespace.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(kind: ResourceKind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind(), self.namespace, self.name)
    }
}

/// What was parsed out of a document, kept with it so that a hot document is read once per version.
#[derive(Default)]
struct Parsed(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Clone for Parsed {
    /// A copy may be changed, so it starts without.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// One Kubernetes object: kind, metadata, and everything else as JSON.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it is.
    pub kind: ResourceKind,
    /// Name, labels, annotations, resource version, generation, …
    pub metadata: ObjectMeta,
    /// `spec`, `status` and whatever else the object has at its top level.
    pub body: Map<String, Value>,
    parsed: Parsed,
}

impl Document {
    /// A document from its parts.
    #[must_use]
    pub fn new(kind: ResourceKind, metadata: ObjectMeta, body: Map<String, Value>) -> Self {
        Self { kind, metadata, body, parsed: Parsed::default() }
    }

    /// Where it is.
    #[must_use]
    pub fn key(&self) -> Key {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Key::new(self.kind, text(&self.metadata.namespace), text(&self.metadata.name))
    }

    /// `metadata.resourceVersion`.
    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }

    /// `metadata.generation`, 0 when unset. It grows when `spec` changes, and only then.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// `metadata.annotations[key]`.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// `metadata.labels[key]`.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The result of `parse` on this document, computed once and kept with it. All callers must parse a document of one
    /// kind to the same type; another type is computed afresh each time.
    ///
    /// # Errors
    /// Whatever `parse` refuses.
    pub fn view<T: Send + Sync + 'static>(
        &self,
        parse: impl FnOnce(&Self) -> Result<T, Unreadable>,
    ) -> Result<Arc<T>, Unreadable> {
        if let Some(kept) = self.parsed.0.get()
            && let Ok(kept) = Arc::clone(kept).downcast::<T>()
        {
            return Ok(kept);
        }
        let parsed = Arc::new(parse(self)?);
        let kept: Arc<dyn Any + Send + Sync> = parsed.clone();
        drop(self.parsed.0.set(kept));
        Ok(parsed)
    }

    /// The whole object as Kubernetes writes it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("apiVersion".to_owned(), self.kind.api_version().into());
        map.insert("kind".to_owned(), self.kind.kind().into());
        map.insert("metadata".to_owned(), serde_json::to_value(&self.metadata).unwrap_or_default());
        map.extend(self.body.clone());
        Value::Object(map)
    }

    /// The inverse of [`Self::to_json`].
    ///
    /// # Errors
    /// [`Unreadable`] for objects of a kind kwsk does not know, and for broken metadata.
    pub fn from_json(value: Value) -> Result<Self, Unreadable> {
        let unreadable = |why: String| Unreadable { object: "document".to_owned(), why };
        let Value::Object(mut map) = value else {
            return Err(unreadable("it is not a JSON object".to_owned()));
        };
        let mut take = |key: &str| map.shift_remove(key).unwrap_or_default();
        let (api_version, kind, metadata) = (take("apiVersion"), take("kind"), take("metadata"));
        let kind =
            ResourceKind::of(api_version.as_str().unwrap_or_default(), kind.as_str().unwrap_or_default())
                .ok_or_else(|| unreadable(format!("kwsk does not know {api_version} {kind}")))?;
        let metadata = serde_json::from_value(metadata).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self::new(kind, metadata, map))
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.metadata == other.metadata && self.body == other.body
    }
}

/// A typed object that becomes a [`Document`] and comes back from one.
pub trait Resource: Serialize + DeserializeOwned {
    /// What it is.
    const KIND: ResourceKind;

    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// The document. Typed objects serialise to JSON objects with `metadata`, so nothing can be lost.
    fn to_document(&self) -> Document {
        let mut body = match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        for key in ["metadata", "apiVersion", "kind"] {
            body.shift_remove(key);
        }
        Document::new(Self::KIND, self.metadata().clone(), body)
    }

    /// The typed object.
    ///
    /// # Errors
    /// [`Unreadable`] when the document is of another kind or shape.
    fn from_document(document: &Document) -> Result<Self, Unreadable> {
        let unreadable = |why: String| Unreadable { object: document.key().to_string(), why };
        if document.kind != Self::KIND {
            return Err(unreadable(format!("it is not a {}", Self::KIND.kind())));
        }
        Self::deserialize(document.to_json()).map_err(|error| unreadable(error.to_string()))
    }
}
