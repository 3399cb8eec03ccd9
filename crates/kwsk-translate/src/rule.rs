//! Rules ⇄ `messaging.knative.dev/v1 Subscription`.
//!
//! The subscriber's path carries the rule's raw name (percent-encoded), because activation ids of rules derive from
//! it. A disabled rule is a subscription whose subscriber is kwsk's `/internal/v1/disabled`; where the events really
//! belong stays in the annotation [`keys::TARGET`].

use kwsk_model::name::{FullyQualifiedEntityName, Namespace};
use kwsk_model::rule::{ActionLink, Rule, RuleStatus};
use kwsk_model::trigger::{LinkedRule, LinkedRules};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::document::{Document, Key, Resource, ResourceKind};
use crate::error::Unreadable;
use crate::keys::{self, EntityKind};
use crate::manifest::destination::{Destination, KReference};
use crate::manifest::subscription::{Subscription, SubscriptionSpec};
use crate::platform::Platform;
use crate::{foreign, names};

/// What the subscriber's path begins with; namespace and rule follow.
pub const PATH: &str = "/kwsk/rule/";
/// Where kwsk takes in the activations that come back as replies.
pub const ACTIVATIONS_PATH: &str = "/internal/v1/activations";
/// Where kwsk swallows the events of disabled rules.
pub const DISABLED_PATH: &str = "/internal/v1/disabled";
/// What the subscriber's path begins with when kwsk itself runs the action; namespace and rule follow.
pub const SERVED_PATH: &str = "/internal/v1/rule/";

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The subscription of a rule whose action is a Knative Service of its own. `target` is the real action, bindings
/// resolved; `linked` places the rule among those of its trigger.
#[must_use]
pub fn to_subscription(
    platform: &Platform,
    rule: &Rule,
    target: &FullyQualifiedEntityName,
    linked: u64,
) -> Subscription {
    let key = names::key(ResourceKind::KService, target);
    let subscriber = Destination::to(KReference::to_key(&key, &names::kubernetes_namespace(&rule.namespace)));
    build(platform, rule, &key, subscriber.at(&path(PATH, rule)), linked)
}

/// The subscription of a rule whose action only kwsk can run: a sequence or a conductor. `target` is where its
/// document is.
#[must_use]
pub fn to_served_subscription(platform: &Platform, rule: &Rule, target: &Key, linked: u64) -> Subscription {
    build(platform, rule, target, platform.sink.at(&path(SERVED_PATH, rule)), linked)
}

fn build(
    platform: &Platform,
    rule: &Rule,
    target: &Key,
    subscriber: Destination,
    linked: u64,
) -> Subscription {
    let key = names::key(ResourceKind::Subscription, &rule.fqn());
    let channel = names::key(ResourceKind::Channel, &rule.trigger);
    let channel = KReference::to_key(&channel, &key.namespace);
    let mut metadata = keys::metadata(key, EntityKind::Rule, rule.name.as_str());
    keys::set_label(&mut metadata, keys::RULE_STATE, rule.status.as_str());
    keys::set_entity(&mut metadata, &rule.to_json());
    keys::set_annotation(&mut metadata, keys::TARGET, target_text(target));
    keys::set_annotation(&mut metadata, keys::LINK_ORDER, linked.to_string());
    let subscriber = match rule.status {
        RuleStatus::Active => subscriber,
        RuleStatus::Inactive => platform.sink.at(DISABLED_PATH),
    };
    let spec = SubscriptionSpec {
        channel,
        subscriber: Some(subscriber),
        reply: Some(platform.sink.at(ACTIVATIONS_PATH)),
        delivery: Some(platform.delivery.clone()),
    };
    Subscription { metadata, spec, status: None }
}

/// The rule of a subscription. On one that others made, the action is the Knative Service it delivers to.
///
/// # Errors
/// [`Unreadable`] when the document is of another kind, its record is broken or another one's, or its subscriber
/// is no action.
pub fn from_subscription(platform: &Platform, document: &Document) -> Result<Rule, Unreadable> {
    let foreign = document.annotation(keys::ENTITY).is_none();
    if foreign && subscriber(document).is_some_and(|s| s.is_same_server(&platform.sink)) {
        return Err(Unreadable::of(document, "it delivers to kwsk itself"));
    }
    read(document)
}

fn read(document: &Document) -> Result<Rule, Unreadable> {
    let typed = Subscription::from_document(document)?;
    let rule = match keys::entity(document)? {
        Some(entity) => {
            let rule = Rule::from_json(&entity).map_err(|error| Unreadable::of(document, error))?;
            keys::expect_own(document, &names::key(ResourceKind::Subscription, &rule.fqn()))?;
            rule
        }
        None => of_foreign(document, &typed.spec)?,
    };
    let status = keys::rule_state(document).unwrap_or(rule.status);
    Ok(Rule { status, ..rule })
}

fn of_foreign(document: &Document, spec: &SubscriptionSpec) -> Result<Rule, Unreadable> {
    let fqn = foreign::fqn(document)?;
    let own = document.key().namespace;
    let action = spec
        .subscriber
        .as_ref()
        .and_then(|s| s.ref_.as_ref()?.key(&own))
        .filter(|key| key.kind == ResourceKind::KService)
        .ok_or_else(|| Unreadable::of(document, "its subscriber is not a Knative Service"))?;
    let trigger_namespace = spec.channel.namespace.as_deref().unwrap_or(&own);
    let name = |namespace: &str, name: &str| {
        let namespace = Namespace::new(namespace).map_err(|error| Unreadable::of(document, error))?;
        FullyQualifiedEntityName::from_local_name(namespace, name)
            .map_err(|error| Unreadable::of(document, error))
    };
    Ok(Rule {
        namespace: fqn.namespace().clone(),
        name: fqn.name,
        version: foreign::version(document),
        publish: false,
        annotations: foreign::annotations(),
        trigger: name(trigger_namespace, &spec.channel.name)?,
        action: name(&action.namespace, &action.name)?,
        status: RuleStatus::Active,
        updated: foreign::updated(document),
    })
}

/// Where the document of the real action is, whether the rule is enabled or not.
#[must_use]
pub fn target(document: &Document) -> Option<Key> {
    if let Some(text) = document.annotation(keys::TARGET) {
        return target_key(text);
    }
    subscriber(document)?.ref_?.key(&document.key().namespace)
}

fn subscriber(document: &Document) -> Option<Destination> {
    Subscription::from_document(document).ok()?.spec.subscriber
}

/// The place among the rules of its trigger; 0 on objects that others made.
#[must_use]
pub fn linked_order(document: &Document) -> u64 {
    document.annotation(keys::LINK_ORDER).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The rules of one trigger as it shows them, in the order they were linked. Unreadable subscriptions are left out.
pub fn linked_rules<'a>(subscriptions: impl Iterator<Item = &'a Document>) -> LinkedRules {
    let placed = |document: &'a Document| Some((linked_order(document), read(document).ok()?));
    let mut rules: Vec<(u64, Rule)> = subscriptions.filter_map(placed).collect();
    rules.sort_by(|(one, a), (two, b)| one.cmp(two).then_with(|| a.name.cmp(&b.name)));
    let entry = |(_, rule): (u64, Rule)| {
        (rule.fqn(), LinkedRule { action: ActionLink::from(&rule.action), status: rule.status })
    };
    rules.into_iter().map(entry).collect()
}

/// The rule that a request path of the form [`PATH`] or [`SERVED_PATH`] names.
#[must_use]
pub fn of_path(path: &str) -> Option<FullyQualifiedEntityName> {
    let rest = path.strip_prefix(PATH).or_else(|| path.strip_prefix(SERVED_PATH))?;
    let (namespace, name) = rest.split_once('/')?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    let (namespace, name) = (Namespace::new(decode(namespace)?).ok()?, decode(name)?);
    let fqn = FullyQualifiedEntityName::from_local_name(namespace, &name).ok()?;
    fqn.path.package.is_none().then_some(fqn)
}

fn path(prefix: &str, rule: &Rule) -> String {
    let encode = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
    [prefix, &encode(rule.namespace.as_str()), "/", &encode(rule.name.as_str())].concat()
}

fn target_text(key: &Key) -> String {
    [key.kind.kind(), "/", &key.namespace, "/", &key.name].concat()
}

fn target_key(text: &str) -> Option<Key> {
    let (kind, rest) = text.split_once('/')?;
    let (namespace, name) = rest.split_once('/')?;
    let kind = ResourceKind::ALL.into_iter().find(|known| known.kind() == kind)?;
    Some(Key::new(kind, namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let name: FullyQualifiedEntityName = "my ns/a & b.c@d".parse().unwrap();
        let rule = |fqn: &FullyQualifiedEntityName| Rule {
            namespace: fqn.namespace().clone(),
            name: fqn.name.clone(),
            version: Default::default(),
            publish: false,
            annotations: Default::default(),
            trigger: fqn.clone(),
            action: fqn.clone(),
            status: RuleStatus::Active,
            updated: 0,
        };
        let text = path(PATH, &rule(&name));
        assert_eq!(text, "/kwsk/rule/my%20ns/a%20%26%20b.c%40d");
        assert_eq!(of_path(&text), Some(name));
        for bad in ["/", "/kwsk/rule/x", "/kwsk/rule/a/b/c", "/kwsk/rule//b", "/kwsk/rule/a/%ff"] {
            assert_eq!(of_path(bad), None, "{bad}");
        }
    }
}
