//! What can go wrong: a document that cannot be read ([`Unreadable`]), a request that is refused ([`Invalid`]).

use kwsk_model::fault::Fault;
use kwsk_model::limits::{LimitError, TooLarge};
use kwsk_model::name::FullyQualifiedEntityName;

use crate::document::Document;

/// A document cannot be read as what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object} cannot be read: {why}")]
pub struct Unreadable {
    /// Which object.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
}

impl Unreadable {
    /// `document` is unreadable because of `why`.
    pub fn of(document: &Document, why: impl std::fmt::Display) -> Self {
        Self { object: document.key().to_string(), why: why.to_string() }
    }
}

/// Why a well-formed request is refused. `Display` is what OpenWhisk answers (`Messages.scala`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is one by this name and `overwrite` is not set.
    #[error("resource already exists")]
    Exists,
    /// Another kind of entity has this name.
    #[error("Resource by this name exists but is not in this collection.")]
    OtherCollection,
    /// Somebody else wrote meanwhile.
    #[error("Concurrent modification to resource detected.")]
    ConcurrentModification,
    /// An action is created without `exec`.
    #[error("exec undefined")]
    ExecUndefined,
    /// `exec`, `parameters`, `annotations` or the payload is too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A limit is outside its bounds.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The kind may be read and deleted only.
    #[error(
        "The '{kind}' runtime is no longer supported. You may read and delete but not update or invoke this action."
    )]
    Deprecated {
        /// The kind.
        kind: String,
    },
    /// The namespace may not use the kind.
    #[error("The supplied authentication is not authorized to access actions of kind '{kind}'.")]
    KindNotAllowed {
        /// The kind.
        kind: String,
    },
    /// A sequence of nothing.
    #[error("No component specified for the sequence.")]
    SequenceEmpty,
    /// More components, or more actions after inlining nested sequences, than allowed.
    #[error("Too many actions in the sequence.")]
    SequenceTooLong,
    /// A sequence contains itself.
    #[error("Sequence may not refer to itself.")]
    SequenceCycle,
    /// A component is missing.
    #[error("Sequence component does not exist.")]
    SequenceComponentMissing,
    /// The name `default`.
    #[error("Package name '{0}' is reserved.")]
    PackageReserved(String),
    /// A binding to nothing.
    #[error("Binding references a package that does not exist.")]
    BindingTargetMissing,
    /// A binding to an action, trigger or rule.
    #[error("Cannot bind to a resource that is not a package.")]
    BindingTargetNotPackage,
    /// A binding to a binding.
    #[error("Cannot bind to another package binding.")]
    BindingToBinding,
    /// A binding to itself.
    #[error("Package binding '{0}' contains a circular reference.")]
    BindingCircular(FullyQualifiedEntityName),
    /// A package would become a binding.
    #[error("Resource is a package and cannot be converted into a binding.")]
    PackageIsNoBinding,
    /// Content of a package is written through a binding.
    #[error("Operation not permitted on package binding.")]
    ThroughBinding,
    /// A package with content is deleted without `force`.
    #[error(
        "Package not empty (contains {contents} {}). Set force param or delete package contents.",
        if *.contents == 1 { "entity" } else { "entities" }
    )]
    PackageNotEmpty {
        /// How many actions it contains.
        contents: usize,
    },
    /// The `feed` annotation is no path.
    #[error("Feed name is not valid")]
    FeedName,
    /// A rule is created without trigger or action.
    #[error("rule requires a valid trigger and a valid action")]
    RuleIncomplete,
    /// The rule's trigger is missing.
    #[error("trigger /{0} does not exist")]
    TriggerMissing(FullyQualifiedEntityName),
    /// The rule's action is missing.
    #[error("action /{0} does not exist")]
    ActionMissing(FullyQualifiedEntityName),
    /// The state of a rule without trigger is changed.
    #[error("Only rules with existing triggers can be activated")]
    RuleWithoutTrigger,
}

impl Invalid {
    /// The class of failure.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Exists
            | Self::OtherCollection
            | Self::ConcurrentModification
            | Self::BindingTargetNotPackage
            | Self::PackageIsNoBinding
            | Self::PackageNotEmpty { .. } => Fault::Conflict,
            Self::TooLarge(_) => Fault::TooLarge,
            Self::KindNotAllowed { .. } => Fault::Forbidden,
            Self::BindingCircular(_) => Fault::Unprocessable,
            Self::RuleWithoutTrigger => Fault::NotFound,
            Self::ExecUndefined
            | Self::Limit(_)
            | Self::Deprecated { .. }
            | Self::SequenceEmpty
            | Self::SequenceTooLong
            | Self::SequenceCycle
            | Self::SequenceComponentMissing
            | Self::PackageReserved(_)
            | Self::BindingTargetMissing
            | Self::BindingToBinding
            | Self::ThroughBinding
            | Self::FeedName
            | Self::RuleIncomplete
            | Self::TriggerMissing(_)
            | Self::ActionMissing(_) => Fault::BadRequest,
        }
    }
}
