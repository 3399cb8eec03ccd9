//! Actions with code ⇄ `serving.knative.dev/v1 Service`.
//!
//! The whole entity is the annotation `kwsk.dev/entity`, with the code replaced by its digest. What a *running*
//! instance depends on is in the template, so that a change of it (and of nothing else) makes a new revision: image,
//! code, entry point, init parameters, limits, scaling. Bound parameters and annotations are not.
//!
//! Kubernetes allows 256 KiB of annotations, OpenWhisk 1 MiB of parameters and as much of annotations. LocalCluster
//! stores any size; a cluster adapter asks [`is_oversized`] and keeps such an entity elsewhere (or refuses it).
//!
//! Annotations of an action that set what OpenWhisk has no word for; a value outside the range is ignored:
//!
//! | annotation | value | becomes |
//! |---|---|---|
//! | `kwsk.dev/min-scale` | 0 … most instances | instances that are never stopped |
//! | `kwsk.dev/window` | `6s` … `1h`, seconds as `90s` | time over which load is averaged |
//! | `kwsk.dev/retention` | `0s` … `1h` | how long the last instance is kept beyond the window |
//! | `kwsk.dev/shim` | an [`Injection`] | the way the shim gets next to the runtime; [`choose`] refuses others |

use kwsk_model::action::{Action, Code, Exec, StoredCode};
use kwsk_model::activation::hex;
use kwsk_model::limits::Limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::document::{Document, Resource, ResourceKind};
use crate::error::Unreadable;
use crate::keys::{self, EntityKind};
use crate::manifest::kservice::{KService, RevisionTemplate, ServiceSpec};
use crate::names;
use crate::platform::Platform;

mod files;
mod foreign;
mod injection;
mod pod;
mod template;

pub use files::{OversizedShim, shim_config_map};
pub use injection::{ImageEntry, ImageFacts, Injection, InjectionError, Placement, choose};
pub use pod::PORT;

/// Largest entity, in bytes of JSON, that an object on a cluster can carry: 256 KiB is Kubernetes' limit of all
/// annotations together, and `kubectl apply` keeps a copy of small ones.
pub const MAX_ENTITY_BYTES: usize = 200 * 1024;

/// The service of an action whose image contains the shim, or that runs without an image.
/// [`to_kservice_with`] says the rest.
#[must_use]
pub fn to_kservice(platform: &Platform, action: &Action) -> KService {
    to_kservice_with(platform, action, &Placement::Wrapped)
}

/// The service of an action. Code given inline is replaced by its digest: whoever calls this stores the code.
/// Sequences have a document of their own ([`crate::sequence`]); handing one in is a defect of the caller.
#[must_use]
pub fn to_kservice_with(platform: &Platform, action: &Action, placement: &Placement) -> KService {
    debug_assert!(!matches!(action.exec, Exec::Sequence { .. }), "sequences have their own document");
    let action = without_code(action);
    let fqn = action.fqn();
    let key = names::key(ResourceKind::KService, &fqn);
    let template = template::of(platform, &action, &key.name, placement);
    let mut metadata = keys::metadata(key, EntityKind::Action, &fqn.local_name());
    keys::set_label(&mut metadata, keys::VISIBILITY, keys::CLUSTER_LOCAL);
    if let Some(package) = &action.namespace.package {
        keys::set_label(&mut metadata, keys::PACKAGE, names::package_label(package));
    }
    keys::set_entity(&mut metadata, &action.to_json(true));
    KService { metadata, spec: ServiceSpec { template, traffic: Vec::new() }, status: None }
}

/// The action of a service: kwsk's record, or what a service that others made looks like from here.
///
/// # Errors
/// [`Unreadable`] when the document is of another kind or its record is broken or another one's.
pub fn from_kservice(platform: &Platform, document: &Document) -> Result<Action, Unreadable> {
    if document.kind != ResourceKind::KService {
        return Err(Unreadable::of(document, "it is not a Service"));
    }
    let Some(entity) = keys::entity(document)? else {
        return foreign::action(platform, document);
    };
    let action = Action::from_json(&entity).map_err(|error| Unreadable::of(document, error))?;
    keys::expect_own(document, &names::key(ResourceKind::KService, &action.fqn()))?;
    Ok(action)
}

/// True for a service that others made: it speaks plain HTTP, not `/init` and `/run`.
#[must_use]
pub fn is_foreign(document: &Document) -> bool {
    document.annotation(keys::ENTITY).is_none()
}

/// True when the entity is too large for the annotations of an object on a cluster.
#[must_use]
pub fn is_oversized(document: &Document) -> bool {
    document.annotation(keys::ENTITY).is_some_and(|entity| entity.len() > MAX_ENTITY_BYTES)
}

/// The reference that stands for `code` in documents.
#[must_use]
pub fn stored(code: &Code) -> StoredCode {
    match code {
        Code::Stored(stored) => stored.clone(),
        Code::Inline(text) => {
            StoredCode { sha256: hex(&Sha256::digest(text.as_bytes())), bytes: text.len() as u64 }
        }
    }
}

/// What the shim must know to start an action: the annotation [`keys::RUNTIME`] of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// `ns/[pkg/]name`.
    pub action: String,
    /// A runtime kind, or `blackbox`.
    pub kind: String,
    /// The entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<String>,
    /// The code is base64.
    pub binary: bool,
    /// The code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<StoredCode>,
    /// SHA-256 of the init parameters; their values may be secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_digest: Option<String>,
    /// What it may use.
    pub limits: Limits,
}

impl Runtime {
    /// Of an action.
    #[must_use]
    pub fn of(action: &Action) -> Self {
        let environment = action.parameters.init_environment();
        let digest = |text: String| hex(&Sha256::digest(text.as_bytes()));
        Self {
            action: action.fqn().to_string(),
            kind: action.exec.kind().to_owned(),
            main: action.exec.main().map(str::to_owned),
            binary: action.exec.is_binary(),
            code: action.exec.code().map(stored),
            init_digest: (!environment.is_empty()).then(|| digest(Value::Object(environment).to_string())),
            limits: action.limits,
        }
    }

    /// Of a service kwsk wrote.
    ///
    /// # Errors
    /// [`Unreadable`] when the template has no such annotation or a broken one.
    pub fn from_document(document: &Document) -> Result<Self, Unreadable> {
        let service = KService::from_document(document)?;
        let annotations = service.spec.template.metadata.annotations.unwrap_or_default();
        let text = annotations
            .get(keys::RUNTIME)
            .ok_or_else(|| Unreadable::of(document, "its template names no runtime"))?;
        serde_json::from_str(text).map_err(|error| Unreadable::of(document, error))
    }
}

fn without_code(action: &Action) -> Action {
    match action.exec.code().map(stored) {
        Some(code) => Action { exec: action.exec.clone().with_code(Code::Stored(code)), ..action.clone() },
        None => action.clone(),
    }
}

/// The part of a document whose change makes a new revision.
///
/// # Errors
/// [`Unreadable`] when the document is no readable service.
pub fn template_of(document: &Document) -> Result<RevisionTemplate, Unreadable> {
    Ok(KService::from_document(document)?.spec.template)
}
