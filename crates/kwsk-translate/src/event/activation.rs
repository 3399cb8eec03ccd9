//! The event that brings an activation from where it ran to where records are kept.

use std::collections::BTreeMap;

use kwsk_model::activation::{ActivationId, ActivationIdError};
use kwsk_model::json::RawJson;
use kwsk_model::name::{EntityName, FullyQualifiedEntityName, NameError, Namespace};
use percent_encoding::percent_decode_str;

use super::{ACTIVATION_TYPE, CAUSE, CloudEvent, Data, JSON, RULE, TRANSACTION, USER, encoded};

/// An activation that is over: what its event says.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationNotice {
    /// Of the activation.
    pub id: ActivationId,
    /// The action that ran; bindings are resolved.
    pub action: FullyQualifiedEntityName,
    /// When it ended, RFC 3339.
    pub time: Option<String>,
    /// The transaction it belongs to.
    pub transaction: Option<String>,
    /// The subject whose key fired the trigger.
    pub user: Option<String>,
    /// The trigger's own activation.
    pub cause: Option<ActivationId>,
    /// The rule that sent the event.
    pub rule: Option<FullyQualifiedEntityName>,
    /// What the shim reports, a JSON object.
    pub report: RawJson,
}

/// An event that brings no activation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnActivation {
    /// It is about something else.
    #[error("an event of type '{0}' is no activation")]
    Type(String),
    /// Its id, or that of its cause, is no activation id.
    #[error("the activation's event has the '{attribute}' '{value}': {cause}")]
    Id {
        /// `id` or `owcause`.
        attribute: &'static str,
        /// What is there.
        value: String,
        /// What is wrong with it.
        #[source]
        cause: ActivationIdError,
    },
    /// Its source is no action, or its rule no rule.
    #[error("the activation's event has the '{attribute}' '{value}', which names no {what}")]
    Name {
        /// `source` or `kwskrule`.
        attribute: &'static str,
        /// What is there.
        value: String,
        /// `action` or `rule`.
        what: &'static str,
    },
    /// Its data is not a JSON object.
    #[error("the activation's event carries no JSON object")]
    Report,
}

/// The event of an activation.
#[must_use]
pub fn activation_event(notice: ActivationNotice) -> CloudEvent {
    let ActivationNotice { id, action, time, transaction, user, cause, rule, report } = notice;
    let rule =
        rule.map(|rule| [&encoded(rule.namespace().as_str()), "/", &encoded(rule.name.as_str())].concat());
    let extensions = [
        (TRANSACTION, transaction),
        (USER, user),
        (CAUSE, cause.map(|cause| cause.as_str().to_owned())),
        (RULE, rule),
    ];
    let given = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
    CloudEvent {
        id: id.as_str().to_owned(),
        source: action_source(&action),
        ty: ACTIVATION_TYPE.to_owned(),
        time,
        content_type: Some(JSON.to_owned()),
        extensions: extensions.into_iter().filter_map(given).collect::<BTreeMap<_, _>>(),
        data: Data::Json(report),
    }
}

/// The activation of an event; the inverse of [`activation_event`].
///
/// # Errors
/// [`NotAnActivation`] says what is wrong.
pub fn activation_of(event: &CloudEvent) -> Result<ActivationNotice, NotAnActivation> {
    if event.ty != ACTIVATION_TYPE {
        return Err(NotAnActivation::Type(event.ty.clone()));
    }
    let extension = |name: &str| event.extensions.get(name);
    let id = |attribute, value: &String| {
        value.parse().map_err(|cause| NotAnActivation::Id { attribute, value: value.clone(), cause })
    };
    let unnamed =
        |attribute, value: &String, what| NotAnActivation::Name { attribute, value: value.clone(), what };
    let rule = |value: &String| rule_of(value).ok_or_else(|| unnamed(RULE, value, "rule"));
    let report = match &event.data {
        Data::Json(report) if report.is_object() => report.clone(),
        Data::None | Data::Json(_) | Data::Text(_) | Data::Binary(_) => return Err(NotAnActivation::Report),
    };
    Ok(ActivationNotice {
        id: id("id", &event.id)?,
        action: action_of(&event.source).ok_or_else(|| unnamed("source", &event.source, "action"))?,
        time: event.time.clone(),
        transaction: extension(TRANSACTION).cloned(),
        user: extension(USER).cloned(),
        cause: extension(CAUSE).map(|value| id(CAUSE, value)).transpose()?,
        rule: extension(RULE).map(rule).transpose()?,
        report,
    })
}

/// `/namespaces/<ns>/actions/[<pkg>/]<name>`, each segment percent-encoded.
fn action_source(action: &FullyQualifiedEntityName) -> String {
    let mut source = ["/namespaces/", &encoded(action.namespace().as_str()), "/actions/"].concat();
    if let Some(package) = &action.path.package {
        source.extend([&encoded(package.as_str()), "/"]);
    }
    source + &encoded(action.name.as_str())
}

fn action_of(source: &str) -> Option<FullyQualifiedEntityName> {
    let (namespace, action) = source.strip_prefix("/namespaces/")?.split_once("/actions/")?;
    let namespace = namespace_of(namespace)?;
    Some(match action.split_once('/') {
        Some((package, name)) => {
            FullyQualifiedEntityName::packaged(namespace, name_of(package)?, name_of(name)?)
        }
        None => FullyQualifiedEntityName::new(namespace, name_of(action)?),
    })
}

fn rule_of(text: &str) -> Option<FullyQualifiedEntityName> {
    let (namespace, name) = text.split_once('/')?;
    Some(FullyQualifiedEntityName::new(namespace_of(namespace)?, name_of(name)?))
}

fn namespace_of(segment: &str) -> Option<Namespace> {
    decoded(segment, Namespace::new)
}

fn name_of(segment: &str) -> Option<EntityName> {
    decoded(segment, EntityName::new)
}

fn decoded<T>(segment: &str, name: impl FnOnce(String) -> Result<T, NameError>) -> Option<T> {
    name(percent_decode_str(segment).decode_utf8().ok()?.into_owned()).ok()
}
