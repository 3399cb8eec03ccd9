//! kwsk's own kinds, group `kwsk.dev/v1alpha1`: what OpenWhisk has and Knative has not.
//!
//! Their `spec` is the entity's JSON as OpenWhisk's API shows it, so that one definition of the shape serves both.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::{Resource, ResourceKind};

macro_rules! own_kind {
    ($(#[$doc:meta])* $name:ident, $kind:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            /// Name, labels, annotations.
            pub metadata: ObjectMeta,
            /// The entity.
            #[serde(default)]
            pub spec: Map<String, Value>,
        }

        impl $name {
            /// A document of `entity`, which serialises to a JSON object.
            pub(crate) fn new(metadata: ObjectMeta, entity: Value) -> Self {
                let spec = match entity {
                    Value::Object(spec) => spec,
                    _ => Map::new(),
                };
                Self { metadata, spec }
            }
        }

        impl Resource for $name {
            const KIND: ResourceKind = $kind;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
        }
    };
}

own_kind!(
    /// `Package`: a package or a binding.
    PackageDocument,
    ResourceKind::Package
);
own_kind!(
    /// `Sequence`: an action made of others.
    SequenceDocument,
    ResourceKind::Sequence
);
own_kind!(
    /// `Subject`: somebody with keys. On a cluster the keys are to be kept in a Secret.
    SubjectDocument,
    ResourceKind::Subject
);
