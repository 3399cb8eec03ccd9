//! `cases/**.json` → the document as YAML, valid by Knative's schemas, and read back as what it was made of.

use std::path::Path;

use kwsk_model::action::{Action, Code, Exec};
use kwsk_model::identity::Subject;
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::package::Package;
use kwsk_model::rule::Rule;
use kwsk_model::trigger::Trigger;
use kwsk_translate::alarm::Alarm;
use kwsk_translate::document::{Document, Key, Resource, ResourceKind};
use kwsk_translate::{action, alarm, keys, package, rule, sequence, subject, trigger};
use serde_json::Value;

use crate::manifest::{action_of, document_of, platform};
use crate::schema;

fn case(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The snapshot, the schema, and the way through text that every document takes.
fn check(document: &Document) -> Document {
    let kind = keys::kind(document).expect("every document says what it stands for");
    check_as(kind.as_str(), document)
}

pub(crate) fn check_as(snapshot: &str, document: &Document) -> Document {
    let json = document.to_json();
    insta::assert_yaml_snapshot!(snapshot, json);
    schema::assert_valid(document);
    let read = Document::from_json(serde_json::from_str(&json.to_string()).unwrap()).unwrap();
    assert_eq!(&read, document);
    read
}

/// What a document keeps of an action: everything but the code.
pub(crate) fn kept(it: Action) -> Action {
    match it.exec.code().map(action::stored) {
        Some(code) => Action { exec: it.exec.with_code(Code::Stored(code)), ..it },
        None => it,
    }
}

#[test]
fn actions() {
    insta::glob!("cases/action/*.json", |path| {
        let platform = platform();
        let it = action_of(&platform, case(path).as_object().unwrap()).unwrap();
        let document = check(&document_of(&platform, &it));
        assert_eq!(action::from_kservice(&platform, &document).unwrap(), kept(it.clone()));
        assert_eq!(action::Runtime::from_document(&document).unwrap(), action::Runtime::of(&it));
    });
}

#[test]
fn sequences() {
    insta::glob!("cases/sequence/*.json", |path| {
        let it = action_of(&platform(), case(path).as_object().unwrap()).unwrap();
        assert!(matches!(it.exec, Exec::Sequence { .. }));
        let document = check(&document_of(&platform(), &it));
        assert_eq!(sequence::from_document(&document).unwrap(), it);
    });
}

#[test]
fn packages() {
    insta::glob!("cases/package/*.json", |path| {
        let it = Package::from_json(&case(path)).unwrap();
        let document = check(&package::to_document(&it).to_document());
        assert_eq!(package::from_document(&document).unwrap(), it);
    });
}

#[test]
fn triggers() {
    insta::glob!("cases/trigger/*.json", |path| {
        let it = Trigger::from_json(&case(path)).unwrap();
        let document = check(&trigger::to_channel(&it).to_document());
        assert_eq!(trigger::from_channel(&document, it.rules.clone()).unwrap(), it);
    });
}

#[test]
fn rules() {
    insta::glob!("cases/rule/*.json", |path| {
        let case = case(path);
        let it = Rule::from_json(&case["rule"]).unwrap();
        let linked = case["linked"].as_u64().unwrap();
        let name: FullyQualifiedEntityName = case["target"].as_str().unwrap().parse().unwrap();
        let (typed, target) = if case["served"] == true {
            let target = kwsk_translate::names::key(ResourceKind::Sequence, &name);
            (rule::to_served_subscription(&platform(), &it, &target, linked), target)
        } else {
            let target: Key = kwsk_translate::names::key(ResourceKind::KService, &name);
            (rule::to_subscription(&platform(), &it, &name, linked), target)
        };
        let document = check(&typed.to_document());
        assert_eq!(rule::from_subscription(&platform(), &document).unwrap(), it);
        assert_eq!(rule::target(&document), Some(target));
        assert_eq!(rule::linked_order(&document), linked);
    });
}

#[test]
fn alarms() {
    insta::glob!("cases/alarm/*.json", |path| {
        let case = case(path);
        let trigger = case["trigger"].as_str().unwrap().parse().unwrap();
        let text = |key: &str| case[key].as_str().map(str::to_owned);
        let it = Alarm {
            cron: text("cron").unwrap(),
            timezone: text("timezone"),
            payload: case.get("trigger_payload").map(Into::into),
        };
        check(&alarm::to_pingsource(&trigger, &it).to_document());
    });
}

#[test]
fn subjects() {
    insta::glob!("cases/subject/*.json", |path| {
        let it: Subject = serde_json::from_value(case(path)).unwrap();
        let document = check(&subject::to_document(&it).to_document());
        assert_eq!(subject::from_document(&document).unwrap(), it);
    });
}

/// Only what a running instance depends on may start a new revision.
#[test]
fn metadata_leaves_the_template_alone() {
    let base = serde_json::json!({
        "namespace": "guest", "name": "a", "exec": {"kind": "nodejs:20", "code": "1"},
        "parameters": [{"key": "p", "value": 1}], "annotations": [{"key": "x", "value": 1}],
    });
    let of = |edit: &dyn Fn(&mut Action)| {
        let mut it = action_of(&platform(), base.as_object().unwrap()).unwrap();
        edit(&mut it);
        action::to_kservice(&platform(), &it).spec
    };
    let before = of(&|_| {});
    let same: [&dyn Fn(&mut Action); 5] = [
        &|it| it.version = it.version.bumped(),
        &|it| it.updated = 7,
        &|it| it.publish = true,
        &|it| it.annotations.set("y", 2),
        &|it| it.parameters = serde_json::from_str(r#"[{"key":"q","value":2}]"#).unwrap(),
    ];
    for edit in same {
        assert_eq!(of(edit), before);
    }
    let set_exec = |text: &'static str| {
        move |it: &mut Action| it.exec = Exec::from_stored(&serde_json::from_str(text).unwrap()).unwrap()
    };
    let other: [&dyn Fn(&mut Action); 10] = [
        &set_exec(r#"{"kind":"nodejs:20","code":"2"}"#),
        &set_exec(r#"{"kind":"nodejs:22","code":"1"}"#),
        &set_exec(r#"{"kind":"nodejs:20","code":"1","main":"m"}"#),
        &set_exec(r#"{"kind":"nodejs:20","code":"1","binary":true}"#),
        &|it| it.limits.timeout += 1,
        &|it| it.limits.memory += 1,
        &|it| it.limits.logs -= 1,
        &|it| it.limits.concurrency += 1,
        &|it| it.limits.instances = Some(3),
        &|it| it.parameters = serde_json::from_str(r#"[{"key":"p","value":1,"init":true}]"#).unwrap(),
    ];
    for edit in other {
        assert_ne!(of(edit), before);
    }
}

/// An action's own values appear in annotations of the Service at most, never in the template, labels or names.
#[test]
fn nothing_secret_reaches_the_template() {
    let it = serde_json::json!({
        "namespace": "guest", "name": "a", "exec": {"kind": "nodejs:20", "code": "secret-code"},
        "parameters": [{"key": "p", "value": "secret-bound"}, {"key": "i", "value": "secret-init", "init": true}],
    });
    let it = action_of(&platform(), it.as_object().unwrap()).unwrap();
    let mut document = action::to_kservice(&platform(), &it).to_document();
    assert!(!document.to_json().to_string().contains("secret-code"));
    document.metadata.annotations = None;
    assert!(!document.to_json().to_string().contains("secret-"));
}
