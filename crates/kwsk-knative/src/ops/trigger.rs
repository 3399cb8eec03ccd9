//! Triggers: get, list, put, delete, fire.

use std::sync::Arc;

use kwsk_model::activation::{Activation, ActivationId, ActivationResponse};
use kwsk_model::json::RawJson;
use kwsk_model::name::{FullyQualifiedEntityName, Namespace};
use kwsk_model::params::{Annotations, Parameter, Parameters};
use kwsk_model::rule::{Rule, RuleStatus};
use kwsk_model::trigger::{Trigger, TriggerPut};
use kwsk_translate::document::{Document, Resource, ResourceKind};
use kwsk_translate::{event, names, trigger, validate};
use serde_json::{Map, Value, json};

use super::invoke::{new_id, payload};
use super::resolve::{self, Found};
use super::{Caller, Ops, Page, action, now_ms, rule};
use crate::error::{Error, Result};

async fn with_rules(ops: &Ops, found: &Found<Trigger>) -> Result<Trigger> {
    let mut trigger = Trigger::clone(&found.entity);
    trigger.rules = rule::links(ops, found).await?;
    Ok(trigger)
}

/// One trigger with its rules.
///
/// # Errors
/// 403, 404, 409.
pub async fn get(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<Trigger> {
    caller.must_own(name)?;
    with_rules(ops, &resolve::get(ops, name).await?).await
}

/// Triggers newest first.
///
/// # Errors
/// 403 for foreign namespaces.
pub async fn list(
    ops: &Ops,
    caller: &Caller,
    namespace: &Namespace,
    page: Page,
) -> Result<Vec<Found<Trigger>>> {
    Ok(page.of(resolve::owned(ops, caller, namespace).await?))
}

/// How many [`list`] would show without a page.
///
/// # Errors
/// As [`list`].
pub async fn count(ops: &Ops, caller: &Caller, namespace: &Namespace) -> Result<u64> {
    Ok(resolve::owned::<Trigger>(ops, caller, namespace).await?.len() as u64)
}

/// Creates or, with `overwrite`, updates a trigger.
///
/// # Errors
/// The refusals of openwhisk-api 7.1.
pub async fn put(
    ops: &Ops,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    put: TriggerPut,
    overwrite: bool,
) -> Result<Trigger> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    let met = resolve::meet::<Trigger>(ops, name).await?;
    let valid = validate::trigger(name, met.entity(), put, overwrite, met.now_ms)?;
    let mut document = trigger::to_channel(&valid).to_document();
    if let Some(found) = &met.existing {
        if trigger::has_been_linked(&found.document) {
            trigger::mark_linked(&mut document);
        }
        // Everything but metadata is immutable once it exists, and may have been defaulted by others.
        document.body.clone_from(&found.document.body);
    }
    let document: Arc<Document> = ops.cluster.apply(document, met.condition()).await?;
    with_rules(ops, &Found { document, entity: Arc::new(valid) }).await
}

/// Deletes a trigger; its rules stay behind, inactive.
///
/// # Errors
/// 403, 404, 409.
pub async fn delete(ops: &Ops, caller: &Caller, name: &FullyQualifiedEntityName) -> Result<Trigger> {
    caller.must_own(name)?;
    let _turn = ops.turnstile.pass(name).await;
    let found = resolve::get::<Trigger>(ops, name).await?;
    let trigger = with_rules(ops, &found).await?;
    action::remove(ops, &found).await?;
    Ok(trigger)
}

/// Fires a trigger: records it and hands the event to its channel. Nothing (204) when no rule is active.
/// `headers` are the request's, lower-cased: actions get them as `__ow_headers`.
///
/// # Errors
/// 403, 404, 409, 413, 429, 400 for payloads that are no object.
pub async fn fire(
    ops: &Arc<Ops>,
    caller: &Caller,
    name: &FullyQualifiedEntityName,
    headers: Map<String, Value>,
    body: &[u8],
) -> Result<Option<ActivationId>> {
    let now = now_ms();
    ops.throttle.fire(&caller.identity, &ops.platform.limits, now)?;
    caller.must_own(name)?;
    let found = resolve::get::<Trigger>(ops, name).await?;
    let payload = payload(body)?;
    let rules = rule::of_trigger(ops, &found.entity).await?;
    if !rules.iter().any(|r| r.entity.status == RuleStatus::Active) {
        return Ok(None);
    }
    let id = new_id()?;
    let source = event::source_of(name);
    let mut lines = Vec::with_capacity(rules.len());
    for rule in &rules {
        lines.push(line(ops, caller, &source, &id, &rule.entity).await?);
    }
    let arguments = event_data(&found.entity.parameters, headers, &payload);
    let time = jiff::Timestamp::from_millisecond(i64::try_from(now).unwrap_or_default()).unwrap_or_default();
    let (subject, transaction) = (&caller.identity.subject, &caller.transaction);
    let event = event::trigger_event(name, &id, time.to_string(), subject, transaction, arguments);
    // The event first: a record that promises runs nobody was asked for would be worse than runs without it.
    ops.invoker.publish(&names::key(ResourceKind::Channel, name), event).await?;
    if caller.identity.limits.store_activations != Some(false) {
        let record = Arc::new(fired(caller, &found.entity, &id, now, payload, lines));
        ops.activations.record_durably(record).await?;
    }
    Ok(Some(id))
}

/// Trigger parameters < `__ow_headers` < payload.
fn event_data(bound: &Parameters, headers: Map<String, Value>, payload: &RawJson) -> RawJson {
    let mut bound = bound.clone();
    bound.set(Parameter {
        key: "__ow_headers".to_owned(),
        value: Value::Object(headers),
        init: false,
        encryption: None,
    });
    bound.arguments(payload, false).unwrap_or_else(|_| payload.clone())
}

/// What a trigger's record says about one rule.
async fn line(ops: &Ops, caller: &Caller, source: &str, id: &ActivationId, rule: &Rule) -> Result<String> {
    let (name, action) = (rule.fqn(), &rule.action);
    let failed = |code: u8, error: String| {
        json!({
            "statusCode": code, "success": false, "rule": name.to_string(), "action": action.to_string(), "error": error,
        })
        .to_string()
    };
    if rule.status == RuleStatus::Inactive {
        let text = format!("Rule '{name}' is inactive, action '{action}' was not activated.");
        return Ok(failed(1, text));
    }
    Ok(match resolve::action(ops, caller, action).await {
        Ok(_) => json!({
            "statusCode": 0, "success": true, "rule": name.to_string(), "action": action.to_string(),
            "activationId": ActivationId::of_rule(source, id.as_str(), &name),
        })
        .to_string(),
        Err(
            error
            @ (Error::NotFound | Error::NotFoundNamed(_) | Error::WrongCollection | Error::Forbidden(_)),
        ) => failed(1, error.to_string()),
        Err(error) => return Err(error),
    })
}

/// The record of a fire: no end, no duration, and the payload as its result.
fn fired(
    caller: &Caller,
    trigger: &Trigger,
    id: &ActivationId,
    now: u64,
    payload: RawJson,
    logs: Vec<String>,
) -> Activation {
    Activation {
        namespace: caller.namespace().clone(),
        name: trigger.name.clone(),
        version: trigger.version,
        subject: caller.identity.subject.clone(),
        activation_id: id.clone(),
        start: now,
        end: None,
        duration: None,
        cause: None,
        response: ActivationResponse::success(payload, None),
        logs,
        annotations: Annotations::new(),
        publish: false,
    }
}
