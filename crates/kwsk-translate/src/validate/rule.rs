//! `PUT rules/…` and `POST rules/…`.

use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::rule::{Rule, RulePut, RuleStatus};

use super::{may_write, next_version, sizes};
use crate::error::Invalid;

/// Trigger and action the rule will link, to be looked up before [`rule`] is called.
///
/// # Errors
/// [`Invalid::RuleIncomplete`] when a new rule leaves one out.
pub fn rule_links(
    existing: Option<&Rule>,
    put: &RulePut,
) -> Result<(FullyQualifiedEntityName, FullyQualifiedEntityName), Invalid> {
    let trigger = put.trigger.clone().or_else(|| Some(existing?.trigger.clone()));
    let action = put.action.clone().or_else(|| Some(existing?.action.clone()));
    trigger.zip(action).ok_or(Invalid::RuleIncomplete)
}

/// The rule that `put` makes of `existing`. New rules are active; an update keeps the state. `trigger_exists` and
/// `action_exists` are about what [`rule_links`] named.
///
/// # Errors
/// [`Invalid`], in this order: size, existence, what is linked.
pub fn rule(
    name: &FullyQualifiedEntityName,
    existing: Option<&Rule>,
    put: RulePut,
    overwrite: bool,
    now_ms: u64,
    trigger_exists: bool,
    action_exists: bool,
) -> Result<Rule, Invalid> {
    sizes(None, put.annotations.as_ref())?;
    may_write(existing, overwrite)?;
    let (trigger, action) = rule_links(existing, &put)?;
    if !trigger_exists {
        return Err(Invalid::TriggerMissing(trigger));
    }
    if !action_exists {
        return Err(Invalid::ActionMissing(action));
    }
    Ok(Rule {
        namespace: name.namespace().clone(),
        name: name.name.clone(),
        version: next_version(put.version, existing.map(|rule| rule.version)),
        publish: put.publish.or(existing.map(|rule| rule.publish)).unwrap_or_default(),
        annotations: put.annotations.or_else(|| Some(existing?.annotations.clone())).unwrap_or_default(),
        trigger,
        action,
        status: existing.map_or(RuleStatus::Active, |rule| rule.status),
        updated: now_ms,
    })
}

/// The rule in the state `wanted`; `None` when it is in that state already.
///
/// # Errors
/// [`Invalid::RuleWithoutTrigger`] when the trigger is gone.
pub fn rule_state(
    existing: &Rule,
    wanted: RuleStatus,
    trigger_exists: bool,
) -> Result<Option<Rule>, Invalid> {
    if !trigger_exists {
        return Err(Invalid::RuleWithoutTrigger);
    }
    Ok((existing.status != wanted).then(|| Rule { status: wanted, ..existing.clone() }))
}
