//! Triggers ⇄ `messaging.knative.dev/v1 Channel`.

use kwsk_model::params::Parameters;
use kwsk_model::trigger::{LinkedRules, Trigger};

use crate::document::{Document, ResourceKind};
use crate::error::Unreadable;
use crate::keys::{self, EntityKind};
use crate::manifest::channel::{Channel, ChannelSpec};
use crate::{foreign, names};

/// The channel of a trigger. Its spec is empty for good: the cluster's default implementation is filled in once and
/// immutable afterwards, so updates are to touch metadata only.
#[must_use]
pub fn to_channel(trigger: &Trigger) -> Channel {
    let key = names::key(ResourceKind::Channel, &trigger.fqn());
    let mut metadata = keys::metadata(key, EntityKind::Trigger, trigger.name.as_str());
    let unlinked = Trigger { rules: None, ..trigger.clone() };
    keys::set_entity(&mut metadata, &unlinked.to_json());
    if trigger.rules.is_some() {
        keys::set_annotation(&mut metadata, keys::LINKED, "true");
    }
    Channel { metadata, spec: ChannelSpec::default(), status: None }
}

/// The trigger of a channel. `rules` are what [`crate::rule::linked_rules`] made of its subscriptions; `rules` of the
/// result is absent until the first rule and empty after the last.
///
/// # Errors
/// [`Unreadable`] when the document is of another kind or its record is broken or another one's.
pub fn from_channel(document: &Document, rules: Option<LinkedRules>) -> Result<Trigger, Unreadable> {
    if document.kind != ResourceKind::Channel {
        return Err(Unreadable::of(document, "it is not a Channel"));
    }
    let stored = match keys::entity(document)? {
        Some(entity) => {
            let trigger = Trigger::from_json(&entity).map_err(|error| Unreadable::of(document, error))?;
            keys::expect_own(document, &names::key(ResourceKind::Channel, &trigger.fqn()))?;
            trigger
        }
        None => of_foreign(document)?,
    };
    let rules = rules.filter(|rules| !rules.is_empty());
    let rules = if has_been_linked(document) { Some(rules.unwrap_or_default()) } else { rules };
    Ok(Trigger { rules, ..stored })
}

/// Notes on the trigger that it has had a rule.
pub fn mark_linked(document: &mut Document) {
    keys::set_annotation(&mut document.metadata, keys::LINKED, "true");
}

/// True when the trigger has, or has had, a rule.
#[must_use]
pub fn has_been_linked(document: &Document) -> bool {
    document.annotation(keys::LINKED) == Some("true")
}

fn of_foreign(document: &Document) -> Result<Trigger, Unreadable> {
    let fqn = foreign::fqn(document)?;
    Ok(Trigger {
        namespace: fqn.namespace().clone(),
        name: fqn.name,
        version: foreign::version(document),
        publish: false,
        parameters: Parameters::new(),
        annotations: foreign::annotations(),
        rules: None,
        updated: foreign::updated(document),
    })
}
