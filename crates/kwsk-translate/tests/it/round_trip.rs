//! from ∘ to = identity, for whatever the API may store.

use kwsk_model::name::EntityName;
use kwsk_translate::document::{Document, Resource};
use kwsk_translate::{action, keys, package, rule, sequence, subject, trigger};
use proptest::prelude::*;

use crate::golden::kept;
use crate::manifest::platform;
use crate::schema;
use crate::strategies as any_;

/// As a store hands it back: through text, with what a server adds.
fn stored(document: &Document) -> Document {
    let mut read =
        Document::from_json(serde_json::from_str(&document.to_json().to_string()).unwrap()).unwrap();
    read.metadata.resource_version = Some("7".to_owned());
    read.metadata.generation = Some(1);
    read.body.insert("status".to_owned(), serde_json::json!({"observedGeneration": 1, "unheardOf": [1]}));
    read
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn actions(it in any_::action(any_::exec(any_::stored_code()))) {
        let document = action::to_kservice(&platform(), &it).to_document();
        schema::assert_valid(&document);
        let read = stored(&document);
        prop_assert_eq!(keys::kind(&read), Some(keys::EntityKind::Action));
        prop_assert_eq!(keys::code_digest(&read).map(str::to_owned), it.exec.code().map(|code| action::stored(code).sha256));
        prop_assert_eq!(keys::package(&read).is_some(), it.namespace.package.is_some());
        prop_assert_eq!(action::from_kservice(&platform(), &read).unwrap(), it);
    }

    #[test]
    fn inline_code_becomes_its_digest(it in any_::action(any_::exec(any_::inline_code()))) {
        let document = action::to_kservice(&platform(), &it).to_document();
        prop_assert_eq!(action::from_kservice(&platform(), &stored(&document)).unwrap(), kept(it));
    }

    #[test]
    fn typed_services(it in any_::action(any_::exec(any_::stored_code()))) {
        let typed = action::to_kservice(&platform(), &it);
        prop_assert_eq!(Resource::from_document(&typed.to_document()), Ok(typed));
    }

    #[test]
    fn sequences(it in any_::action(any_::sequence())) {
        let document = stored(&sequence::to_document(&it).to_document());
        prop_assert_eq!(sequence::from_document(&document).unwrap(), it);
    }

    #[test]
    fn packages(it in any_::package()) {
        let document = stored(&package::to_document(&it).to_document());
        prop_assert_eq!(package::from_document(&document).unwrap(), it);
    }

    #[test]
    fn triggers(it in any_::trigger()) {
        let document = trigger::to_channel(&it).to_document();
        schema::assert_valid(&document);
        let document = stored(&document);
        prop_assert_eq!(trigger::has_been_linked(&document), it.rules.is_some());
        prop_assert_eq!(trigger::from_channel(&document, it.rules.clone()).unwrap(), it);
    }

    #[test]
    fn rules(it in any_::rule(), target in any_::fqn(), linked in any::<u64>()) {
        let document = rule::to_subscription(&platform(), &it, &target, linked).to_document();
        schema::assert_valid(&document);
        let document = stored(&document);
        prop_assert_eq!(rule::linked_order(&document), linked);
        prop_assert_eq!(keys::rule_state(&document), Some(it.status));
        prop_assert_eq!(rule::from_subscription(&platform(), &document).unwrap(), it);
    }

    #[test]
    fn rules_are_listed_as_linked(it in any_::rule(), names in prop::collection::hash_set(any_::entity_name(), 1..6)) {
        let names: Vec<EntityName> = names.into_iter().collect();
        let of = |(place, name): (usize, &EntityName)| {
            let it = kwsk_model::rule::Rule { name: name.clone(), ..it.clone() };
            rule::to_subscription(&platform(), &it, &it.action, place as u64).to_document()
        };
        let mut documents: Vec<Document> = names.iter().enumerate().map(of).collect();
        documents.reverse();
        let linked = rule::linked_rules(documents.iter());
        prop_assert_eq!(linked.keys().map(|fqn| fqn.name.clone()).collect::<Vec<_>>(), names);
        prop_assert!(linked.values().all(|rule| rule.status == it.status));
    }

    #[test]
    fn subjects(it in any_::subject()) {
        let document = stored(&subject::to_document(&it).to_document());
        prop_assert_eq!(subject::from_document(&document).unwrap(), it);
    }
}

fn document(yaml: &str) -> Document {
    Document::from_json(serde_norway::from_str(yaml).unwrap()).unwrap()
}

#[test]
fn a_service_that_others_made() {
    let document = document(
        "
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: hello
  namespace: guest
  generation: 3
  creationTimestamp: 2024-01-01T00:00:00Z
  managedFields:
  - {manager: kn, operation: Update, time: 2024-01-02T00:00:00Z}
  - {manager: controller, operation: Update, subresource: status, time: 2024-01-03T00:00:00Z}
spec:
  template:
    spec:
      containerConcurrency: 0
      timeoutSeconds: 900
      containers:
      - image: side
      - image: registry.example/hello
        ports: [{containerPort: 8080}]
        env: [{name: SECRET, value: x}]
        resources: {limits: {memory: 1Gi}}
        fieldOfTomorrow: 1
  newIdea: {a: 1}
",
    );
    assert!(action::is_foreign(&document));
    let it = action::from_kservice(&platform(), &document).unwrap();
    insta::assert_yaml_snapshot!(it.to_json(true));
}

#[test]
fn a_channel_and_a_subscription_that_others_made() {
    let channel = document(
        "{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {name: c, namespace: guest, generation: 1}}",
    );
    insta::assert_yaml_snapshot!(trigger::from_channel(&channel, None).unwrap().to_json());
    let subscription = |subscriber: &str| {
        document(&format!(
            "{{apiVersion: messaging.knative.dev/v1, kind: Subscription, metadata: {{name: s, namespace: guest}},
              spec: {{channel: {{apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}}, subscriber: {subscriber}}}}}"
        ))
    };
    let to_service = subscription(
        "{ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: hello, namespace: other}}",
    );
    insta::assert_yaml_snapshot!(rule::from_subscription(&platform(), &to_service).unwrap().to_json());
    assert_eq!(rule::target(&to_service).unwrap().to_string(), "Service other/hello");
    for subscriber in [
        "{uri: 'http://example.org'}",
        "{ref: {apiVersion: v1, kind: Service, name: x}}",
        "{ref: {apiVersion: v1, kind: Service, name: kwsk, namespace: kwsk-system}, uri: /x}",
        "null",
    ] {
        let error = rule::from_subscription(&platform(), &subscription(subscriber)).unwrap_err();
        assert!(error.to_string().starts_with("Subscription guest/s cannot be read: "), "{error}");
    }
}

#[test]
fn broken_records_are_unreadable() {
    for (kind, api) in [
        ("Service", "serving.knative.dev/v1"),
        ("Channel", "messaging.knative.dev/v1"),
        ("Subscription", "messaging.knative.dev/v1"),
    ] {
        for entity in ["{", "[]", "{}"] {
            let it = document(&format!(
                "{{apiVersion: {api}, kind: {kind}, metadata: {{name: n, namespace: guest, annotations: {{kwsk.dev/entity: '{entity}'}}}}}}"
            ));
            assert!(action::from_kservice(&platform(), &it).is_err());
            assert!(trigger::from_channel(&it, None).is_err());
            assert!(rule::from_subscription(&platform(), &it).is_err());
        }
    }
}

/// Who may write in one namespace must not speak for another.
#[test]
fn borrowed_records_are_unreadable() {
    let it =
        serde_json::json!({"namespace": "guest", "name": "a", "exec": {"kind": "nodejs:20", "code": ""}});
    let it = crate::manifest::action_of(&platform(), it.as_object().unwrap()).unwrap();
    let own = action::to_kservice(&platform(), &it).to_document();
    assert!(action::from_kservice(&platform(), &own).is_ok());
    let mut elsewhere = own.clone();
    elsewhere.metadata.namespace = Some("other".to_owned());
    let mut renamed = own;
    renamed.metadata.name = Some("b".to_owned());
    for borrowed in [elsewhere, renamed] {
        let error = action::from_kservice(&platform(), &borrowed).unwrap_err();
        assert_eq!(error.why, "its record is the one of Service guest/a");
    }
}

#[test]
fn a_trigger_remembers_its_first_rule() {
    let it: kwsk_model::trigger::Trigger = kwsk_model::trigger::Trigger::from_json(&serde_json::json!({
        "namespace": "guest", "name": "t", "version": "0.0.1", "publish": false, "annotations": [],
        "parameters": [], "updated": 1,
    }))
    .unwrap();
    let mut document = trigger::to_channel(&it).to_document();
    assert_eq!(trigger::from_channel(&document, Some(Default::default())).unwrap().rules, None);
    trigger::mark_linked(&mut document);
    assert_eq!(trigger::from_channel(&document, None).unwrap().rules, Some(Default::default()));
}

#[test]
fn the_label_decides_a_rules_state() {
    let it: kwsk_model::rule::Rule = kwsk_model::rule::Rule::from_json(&serde_json::json!({
        "namespace": "guest", "name": "r", "version": "0.0.1", "publish": false, "annotations": [], "status": "active",
        "trigger": {"path": "guest", "name": "t"}, "action": {"path": "guest", "name": "a"}, "updated": 1,
    }))
    .unwrap();
    let mut document = rule::to_subscription(&platform(), &it, &it.action, 1).to_document();
    keys::set_label(&mut document.metadata, keys::RULE_STATE, "inactive");
    assert_eq!(rule::from_subscription(&platform(), &document).unwrap().status.as_str(), "inactive");
}

#[test]
fn large_entities_are_known_as_such() {
    let of = |length: usize| {
        let it = serde_json::json!({
            "namespace": "guest", "name": "a", "exec": {"kind": "nodejs:20", "code": ""},
            "parameters": [{"key": "p", "value": "x".repeat(length)}],
        });
        let it = crate::manifest::action_of(&platform(), it.as_object().unwrap()).unwrap();
        action::is_oversized(&action::to_kservice(&platform(), &it).to_document())
    };
    assert!(!of(1000));
    assert!(of(action::MAX_ENTITY_BYTES));
}
