//! Every label and annotation key kwsk reads or writes, with typed getters and setters.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kwsk_model::rule::RuleStatus;
use serde_json::Value;

use crate::document::{Document, Key};
use crate::error::Unreadable;

/// Annotation: the name within the namespace, case kept: `name` or `pkg/name`.
pub const NAME: &str = "kwsk.dev/name";
/// Annotation: one JSON value with everything OpenWhisk-specific.
pub const ENTITY: &str = "kwsk.dev/entity";
/// Label: an [`EntityKind`].
pub const KIND: &str = "kwsk.dev/kind";
/// Label: `active` or `inactive`.
pub const RULE_STATE: &str = "kwsk.dev/rule-state";
/// Label: the package, as [`crate::names::package_label`] spells it.
pub const PACKAGE: &str = "kwsk.dev/package";
/// Annotation of a revision: `sha256:` and the digest of the code, so that new code is a new revision.
pub const CODE_DIGEST: &str = "kwsk.dev/code-digest";
/// Annotation of a revision: what the shim must know to start the action, as JSON.
pub const RUNTIME: &str = "kwsk.dev/runtime";
/// Annotation of an action, and of a revision unless its image contains the shim: how the shim gets there.
pub const SHIM: &str = "kwsk.dev/shim";
/// Annotation of a rule: `kind/namespace/name` of the object that runs the action.
pub const TARGET: &str = "kwsk.dev/target";
/// Annotation of a rule: the place among the rules of its trigger.
pub const LINK_ORDER: &str = "kwsk.dev/link-order";
/// Annotation of a trigger: it has had a rule.
pub const LINKED: &str = "kwsk.dev/linked";
/// Label: who looks after the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub const MANAGER: &str = "kwsk";
/// Label of a Knative Service: no public route.
pub const VISIBILITY: &str = "networking.knative.dev/visibility";
/// The value of [`VISIBILITY`].
pub const CLUSTER_LOCAL: &str = "cluster-local";
/// Annotation of a revision: how long it may take to become ready.
pub const PROGRESS_DEADLINE: &str = "serving.knative.dev/progress-deadline";
/// Annotation of a revision: -1 keeps the activator in the path, which queues what no pod can take.
pub const TARGET_BURST_CAPACITY: &str = "autoscaling.knative.dev/target-burst-capacity";
/// Annotation of a revision: percent of the concurrency at which another pod is started.
pub const TARGET_UTILIZATION: &str = "autoscaling.knative.dev/target-utilization-percentage";
/// Annotation of a revision: most pods.
pub const MAX_SCALE: &str = "autoscaling.knative.dev/max-scale";
/// Annotation of a revision: fewest pods.
pub const MIN_SCALE: &str = "autoscaling.knative.dev/min-scale";
/// Annotation of a revision: the time over which load is averaged.
pub const WINDOW: &str = "autoscaling.knative.dev/window";
/// Annotation of a revision: how long the last pod is kept.
pub const RETENTION: &str = "autoscaling.knative.dev/scale-to-zero-pod-retention-period";

/// What OpenWhisk entity an object stands for: the value of the label [`KIND`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntityKind {
    /// An action with code.
    Action,
    /// An action made of others.
    Sequence,
    /// A trigger.
    Trigger,
    /// A rule.
    Rule,
    /// A package or a binding.
    Package,
    /// A subject.
    Subject,
    /// The schedule of a trigger.
    Alarm,
}

impl EntityKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Action, Self::Sequence, Self::Trigger, Self::Rule, Self::Package, Self::Subject, Self::Alarm];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Sequence => "sequence",
            Self::Trigger => "trigger",
            Self::Rule => "rule",
            Self::Package => "package",
            Self::Subject => "subject",
            Self::Alarm => "alarm",
        }
    }
}

/// The metadata of an object kwsk writes at `key` for the entity `local_name`.
pub(crate) fn metadata(key: Key, kind: EntityKind, local_name: &str) -> ObjectMeta {
    let mut metadata =
        ObjectMeta { name: Some(key.name), namespace: Some(key.namespace), ..ObjectMeta::default() };
    set_label(&mut metadata, MANAGED_BY, MANAGER);
    set_label(&mut metadata, KIND, kind.as_str());
    set_annotation(&mut metadata, NAME, local_name);
    metadata
}

/// Sets one label.
pub fn set_label(metadata: &mut ObjectMeta, key: &str, value: impl Into<String>) {
    metadata.labels.get_or_insert_default().insert(key.to_owned(), value.into());
}

/// Sets one annotation.
pub fn set_annotation(metadata: &mut ObjectMeta, key: &str, value: impl Into<String>) {
    metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.into());
}

/// Stores the entity.
pub(crate) fn set_entity(metadata: &mut ObjectMeta, entity: &Value) {
    set_annotation(metadata, ENTITY, entity.to_string());
}

/// The raw name within the namespace; `None` on objects that others made.
#[must_use]
pub fn name(document: &Document) -> Option<&str> {
    document.annotation(NAME)
}

/// The stored entity; `None` on objects that others made.
///
/// # Errors
/// [`Unreadable`] when the annotation is no JSON.
pub fn entity(document: &Document) -> Result<Option<Value>, Unreadable> {
    let Some(text) = document.annotation(ENTITY) else {
        return Ok(None);
    };
    serde_json::from_str(text).map(Some).map_err(|error| Unreadable::of(document, error))
}

/// Refuses a record that was copied to, or made up in, an object that is not its own: whoever may write objects in one
/// namespace must not speak for another.
pub(crate) fn expect_own(document: &Document, own: &Key) -> Result<(), Unreadable> {
    let found = document.key();
    if found == *own {
        Ok(())
    } else {
        Err(Unreadable::of(document, format_args!("its record is the one of {own}")))
    }
}

/// What entity the object stands for; `None` on objects that others made.
#[must_use]
pub fn kind(document: &Document) -> Option<EntityKind> {
    let label = document.label(KIND)?;
    EntityKind::ALL.into_iter().find(|kind| kind.as_str() == label)
}

/// True for objects kwsk made and may overwrite.
#[must_use]
pub fn is_managed(document: &Document) -> bool {
    document.label(MANAGED_BY) == Some(MANAGER)
}

/// The label of the package the entity is in.
#[must_use]
pub fn package(document: &Document) -> Option<&str> {
    document.label(PACKAGE)
}

/// The state of a rule.
#[must_use]
pub fn rule_state(document: &Document) -> Option<RuleStatus> {
    match document.label(RULE_STATE)? {
        "active" => Some(RuleStatus::Active),
        "inactive" => Some(RuleStatus::Inactive),
        _ => None,
    }
}

/// The digest of the code of the revision that `document`, a Knative Service, asks for: 64 hex characters.
#[must_use]
pub fn code_digest(document: &Document) -> Option<&str> {
    let annotations = document.body.get("spec")?.get("template")?.get("metadata")?.get("annotations")?;
    annotations.get(CODE_DIGEST)?.as_str()?.strip_prefix("sha256:")
}
