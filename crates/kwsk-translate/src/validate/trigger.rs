//! `PUT triggers/…`.

use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::trigger::{Trigger, TriggerPut};

use super::{may_write, next_version, sizes};
use crate::error::Invalid;

/// The trigger that `put` makes of `existing`. Its rules stay.
///
/// # Errors
/// [`Invalid`], in this order: sizes, existence, the name of the feed (when it is created).
pub fn trigger(
    name: &FullyQualifiedEntityName,
    existing: Option<&Trigger>,
    put: TriggerPut,
    overwrite: bool,
    now_ms: u64,
) -> Result<Trigger, Invalid> {
    sizes(put.parameters.as_ref(), put.annotations.as_ref())?;
    may_write(existing, overwrite)?;
    if existing.is_none() && put.has_bad_feed() {
        return Err(Invalid::FeedName);
    }
    Ok(Trigger {
        namespace: name.namespace().clone(),
        name: name.name.clone(),
        version: next_version(put.version, existing.map(|trigger| trigger.version)),
        publish: put.publish.or(existing.map(|trigger| trigger.publish)).unwrap_or_default(),
        parameters: put.parameters.or_else(|| Some(existing?.parameters.clone())).unwrap_or_default(),
        annotations: put.annotations.or_else(|| Some(existing?.annotations.clone())).unwrap_or_default(),
        rules: existing.and_then(|trigger| trigger.rules.clone()),
        updated: now_ms,
    })
}
