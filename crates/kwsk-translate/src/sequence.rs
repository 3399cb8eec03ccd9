//! Sequences ⇄ `kwsk.dev/v1alpha1 Sequence`, and the check of what they contain.

use std::collections::VecDeque;

use kwsk_model::action::Action;
use kwsk_model::limits::MAX_SEQUENCE_LENGTH;
use kwsk_model::name::FullyQualifiedEntityName;
use serde_json::Value;

use crate::document::{Document, Resource, ResourceKind};
use crate::error::{Invalid, Unreadable};
use crate::keys::{self, EntityKind};
use crate::manifest::own::SequenceDocument;
use crate::names;

/// The document of an action whose exec is a sequence.
#[must_use]
pub fn to_document(action: &Action) -> SequenceDocument {
    let fqn = action.fqn();
    let key = names::key(ResourceKind::Sequence, &fqn);
    let mut metadata = keys::metadata(key, EntityKind::Sequence, &fqn.local_name());
    if let Some(package) = &action.namespace.package {
        keys::set_label(&mut metadata, keys::PACKAGE, names::package_label(package));
    }
    SequenceDocument::new(metadata, action.to_json(true))
}

/// The action of a sequence's document.
///
/// # Errors
/// [`Unreadable`] when the document is of another kind or its `spec` is no action, or another one's.
pub fn from_document(document: &Document) -> Result<Action, Unreadable> {
    let typed = SequenceDocument::from_document(document)?;
    let action =
        Action::from_json(&Value::Object(typed.spec)).map_err(|error| Unreadable::of(document, error))?;
    keys::expect_own(document, &names::key(ResourceKind::Sequence, &action.fqn()))?;
    Ok(action)
}

/// What the name of a component leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    /// Nothing.
    Missing,
    /// An action that runs by itself.
    Action,
    /// Another sequence.
    Sequence {
        /// Its real name, bindings resolved.
        name: FullyQualifiedEntityName,
        /// Its components.
        components: Vec<FullyQualifiedEntityName>,
    },
}

/// Walks a sequence and the sequences in it: every component exists, none is the sequence itself, and there are at
/// most [`MAX_SEQUENCE_LENGTH`] actions after inlining. The caller looks names up, this decides.
///
/// ```
/// use kwsk_translate::sequence::{Check, Component};
/// # let own: kwsk_model::name::FullyQualifiedEntityName = "guest/s".parse().unwrap();
/// # let components = vec!["guest/a".parse().unwrap()];
/// let mut check = Check::new(&own, &components);
/// while let Some(name) = check.next_name() {
///     # let _ = name;
///     check.found(Component::Action)?; // as looked up
/// }
/// # Ok::<(), kwsk_translate::error::Invalid>(())
/// ```
#[derive(Debug, Clone)]
pub struct Check {
    own: FullyQualifiedEntityName,
    pending: VecDeque<FullyQualifiedEntityName>,
    actions: u32,
    lookups: u32,
}

impl Check {
    /// A check of the sequence `own` made of `components`.
    #[must_use]
    pub fn new(own: &FullyQualifiedEntityName, components: &[FullyQualifiedEntityName]) -> Self {
        Self { own: own.clone(), pending: components.iter().cloned().collect(), actions: 0, lookups: 0 }
    }

    /// The next name to look up; each is followed by one [`Self::found`].
    pub fn next_name(&mut self) -> Option<FullyQualifiedEntityName> {
        self.pending.pop_front()
    }

    /// What the last name leads to.
    ///
    /// # Errors
    /// [`Invalid::SequenceComponentMissing`], [`Invalid::SequenceCycle`] or [`Invalid::SequenceTooLong`].
    pub fn found(&mut self, component: Component) -> Result<(), Invalid> {
        self.lookups += 1;
        match component {
            Component::Missing => return Err(Invalid::SequenceComponentMissing),
            Component::Action => self.actions += 1,
            Component::Sequence { name, .. } if name == self.own => return Err(Invalid::SequenceCycle),
            Component::Sequence { components, .. } => self.pending.extend(components),
        }
        // Sequences that came to contain each other by a race would be walked for ever.
        let endless = self.lookups > MAX_SEQUENCE_LENGTH * MAX_SEQUENCE_LENGTH;
        if endless || self.actions > MAX_SEQUENCE_LENGTH { Err(Invalid::SequenceTooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FullyQualifiedEntityName {
        text.parse().unwrap()
    }

    fn check(components: &[&str], lookup: impl Fn(&str) -> Component) -> Result<(), Invalid> {
        let components: Vec<_> = components.iter().map(|c| name(c)).collect();
        let mut check = Check::new(&name("ns/own"), &components);
        while let Some(next) = check.next_name() {
            check.found(lookup(&next.to_string()))?;
        }
        Ok(())
    }

    fn sequence(own: &str, components: &[&str]) -> Component {
        Component::Sequence { name: name(own), components: components.iter().map(|c| name(c)).collect() }
    }

    #[test]
    fn nested() {
        let lookup = |n: &str| match n {
            "ns/inner" => sequence("ns/inner", &["ns/a", "ns/a"]),
            "ns/loop" => sequence("ns/loop", &["ns/b/own"]),
            "ns/b/own" => sequence("ns/own", &[]),
            "ns/endless" => sequence("ns/endless", &["ns/endless"]),
            "ns/gone" => Component::Missing,
            _ => Component::Action,
        };
        assert_eq!(check(&["ns/a", "ns/inner"], lookup), Ok(()));
        assert_eq!(check(&["ns/a", "ns/gone"], lookup), Err(Invalid::SequenceComponentMissing));
        assert_eq!(check(&["ns/loop"], lookup), Err(Invalid::SequenceCycle));
        assert_eq!(check(&["ns/endless"], lookup), Err(Invalid::SequenceTooLong));
        assert_eq!(check(&["ns/inner"; 25], lookup), Ok(()));
        assert_eq!(check(&["ns/inner"; 26], lookup), Err(Invalid::SequenceTooLong));
    }
}
