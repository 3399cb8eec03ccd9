//! Rules: get, list, put, delete, enable and disable.

use std::sync::Arc;

use kwsk_model::action::Action;
use kwsk_model::name::{FullyQualifiedEntityName, Namespace};
use kwsk_model::rule::{Rule, RulePut, RuleStatus};
use kwsk_model::trigger::Trigger;
use kwsk_translate::document::{Document, Resource, ResourceKind};
use kwsk_translate::{rule, trigger, validate};

use super::resolve::{self, Found, Met};
use super::{Caller, Ops, Page, action};
use crate::cluster::Apply;
use crate::error::{Error, Result};

/// The rule as it is shown: inactive when its trigger is gone.
async fn shown(ops: &Ops, found: &Found<Rule>) -> Result<Rule> {
    let mut rule = Rule::clone(&found.entity);
    if resolve::find::<Trigger>(&*ops.cluster, &ops.platform, &rule.trigger).await?.is_none() {
        rule.status = RuleStatus::Inactive;
    }
    Ok(rule)
}

/// One rule.
///
/// # Errors
/// 403, 404, 409.
pub async fn get(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<Rule> {
    caller.must_own(name)?;
    shown(ops, &resolve::get(ops, name).await?).await
}

/// Rules newest first.
///
/// # Errors
/// 403 for foreign namespaces.
pub async fn list(ops: &Ops, caller: &Caller, namespace: &Namespace, page: Page) -> Result<Vec<Found<Rule>>> {
    Ok(page.of(resolve::owned(ops, caller, namespace).await?))
}

/// How many [`list`] would show without a page.
///
/// # Errors
/// As [`list`].
pub async fn count(ops: &Ops, caller: &Caller, namespace: &Namespace) -> Result<u64> {
    Ok(resolve::owned::<Rule>(ops, caller, namespace).await?.len() as u64)
}

/// Creates or, with `overwrite`, updates a rule. New rules are active, an update keeps the state.
///
/// # Errors
/// The refusals of openwhisk-api 7.3.
pub async fn put(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    put: RulePut,
    overwrite: bool,
) -> Result<Rule> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    let met = resolve::meet::<Rule>(ops, name).await?;
    let (trigger, action) = validate::rule_links(met.entity(), &put)?;
    let trigger_exists = trigger_exists(ops, caller, &trigger).await?;
    let target = target_of(ops, caller, &action).await?;
    let (stored, now) = (met.entity(), met.now_ms);
    let valid = validate::rule(name, stored, put, overwrite, now, trigger_exists, target.is_some())?;
    replace(ops, &met, build(ops, &valid, target.as_ref())).await?;
    mark_linked(ops, &valid.trigger).await?;
    Ok(valid)
}

/// The Subscription of a rule, linked now. Sequences have no service of their own: kwsk runs them.
fn build(ops: &Ops, rule: &Rule, target: Option<&Found<Action>>) -> Document {
    let platform = &ops.platform;
    let subscription = match target {
        Some(found) if found.document.kind == ResourceKind::Sequence => {
            rule::to_served_subscription(platform, rule, &found.document.key(), stamp())
        }
        Some(found) => rule::to_subscription(platform, rule, &found.entity.fqn(), stamp()),
        None => rule::to_subscription(platform, rule, &rule.action, stamp()),
    };
    subscription.to_document()
}

/// Microseconds since the epoch: rules of a trigger are ordered by when they were last linked.
fn stamp() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

async fn trigger_exists(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<bool> {
    caller.must_own(name)?;
    Ok(resolve::find::<Trigger>(&*ops.cluster, &ops.platform, name).await?.is_some())
}

/// The real action a rule leads to, or nothing when it does not exist. A missing package is a refusal of its own.
async fn target_of(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
) -> Result<Option<Found<Action>>> {
    if let Some(package) = name.path.package_name() {
        resolve::package(ops, caller, &package).await?;
    }
    match resolve::action(ops, caller, name).await {
        Ok(resolved) => Ok(Some(resolved.action)),
        Err(Error::NotFound | Error::WrongCollection) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A Subscription's channel is immutable, so a rule that moves to another trigger is made anew.
async fn replace(ops: &Ops, met: &Met<Rule>, document: Document) -> Result<()> {
    let channel = |d: &Document| d.body.get("spec").and_then(|spec| spec.get("channel")).cloned();
    let mut condition = met.condition();
    if let Some(old) = &met.existing
        && channel(&old.document) != channel(&document)
    {
        action::remove(ops, old).await?;
        condition = Apply::Create;
    }
    ops.cluster.apply(document, condition).await?;
    Ok(())
}

/// From its first rule on, a trigger shows `rules`, even when empty.
async fn mark_linked(ops: &Ops, name: &FullyQualifiedEntityName) -> Result<()> {
    loop {
        let Some(found) = resolve::find::<Trigger>(&*ops.cluster, &ops.platform, name).await? else {
            return Ok(());
        };
        if trigger::has_been_linked(&found.document) {
            return Ok(());
        }
        let version = found.document.resource_version().to_owned();
        let mut document = Document::clone(&found.document);
        trigger::mark_linked(&mut document);
        match ops.cluster.apply(document, Apply::Replace(version)).await {
            Err(Error::Conflict(_)) => {}
            other => return other.map(drop),
        }
    }
}

/// Enables or disables a rule; true when that changed anything.
///
/// # Errors
/// 403, 404 (also when the trigger is gone).
pub async fn set_status(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    status: RuleStatus,
) -> Result<bool> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    let found = resolve::get::<Rule>(ops, name).await?;
    let trigger = resolve::find::<Trigger>(&*ops.cluster, &ops.platform, &found.entity.trigger).await?;
    let Some(rule) = validate::rule_state(&found.entity, status, trigger.is_some())? else {
        return Ok(false);
    };
    // A rule whose action is gone or out of reach can still be switched.
    let target = target_of(ops, caller, &rule.action).await.ok().flatten();
    let document = build(ops, &rule, target.as_ref());
    let version = found.document.resource_version().to_owned();
    ops.cluster.apply(document, Apply::Replace(version)).await?;
    Ok(true)
}

/// Deletes a rule in any state.
///
/// # Errors
/// 403, 404, 409.
pub async fn delete(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<Rule> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    let found = resolve::get::<Rule>(ops, name).await?;
    action::remove(ops, &found).await?;
    Ok(Rule { status: RuleStatus::Inactive, ..Rule::clone(&found.entity) })
}

/// The rules of a trigger, in the order they were linked.
pub(crate) async fn of_trigger(ops: &Ops, trigger: &Trigger) -> Result<Vec<Found<Rule>>> {
    let name = trigger.fqn();
    let mut rules = resolve::all::<Rule>(&*ops.cluster, &ops.platform, &trigger.namespace).await?;
    rules.retain(|r| r.entity.trigger == name);
    rules.sort_by_key(|r| rule::linked_order(&r.document));
    Ok(rules)
}

/// The `rules` of a trigger's record: nothing before the first rule.
pub(crate) async fn links(
    ops: &Ops,
    found: &Found<Trigger>,
) -> Result<Option<kwsk_model::trigger::LinkedRules>> {
    if !trigger::has_been_linked(&found.document) {
        return Ok(None);
    }
    let rules = of_trigger(ops, &found.entity).await?;
    let linked = |r: Found<Rule>| {
        let rule: Arc<Rule> = r.entity;
        let link = kwsk_model::trigger::LinkedRule { action: (&rule.action).into(), status: rule.status };
        (rule.fqn(), link)
    };
    Ok(Some(rules.into_iter().map(linked).collect()))
}
