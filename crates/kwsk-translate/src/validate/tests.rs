//! Each refusal with its text and class, and what is stored when nothing is refused.

use kwsk_model::action::{Action, ActionPut};
use kwsk_model::fault::Fault;
use kwsk_model::limits::{Bounds, LimitBounds, MAX_EXEC_BYTES, MAX_PARAMETERS_BYTES};
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::package::{Package, PackagePut};
use kwsk_model::rule::{Rule, RulePut, RuleStatus};
use kwsk_model::runtimes::RuntimesManifest;
use kwsk_model::trigger::{Trigger, TriggerPut};
use serde_json::{Value, json};

use super::*;
use crate::platform::Platform;

fn name(text: &str) -> FullyQualifiedEntityName {
    text.parse().unwrap()
}

fn platform() -> Platform {
    Platform::with_manifest(
        RuntimesManifest::parse(
            r#"{"runtimes":{"nodejs":[{"kind":"nodejs:20","default":true,"image":{"name":"n"}},
                {"kind":"nodejs:6","deprecated":true,"image":{"name":"n6"}}]}}"#,
        )
        .unwrap(),
    )
}

fn refused<T: std::fmt::Debug>(result: Result<T, Invalid>) -> (Fault, String) {
    let error = result.unwrap_err();
    (error.fault(), error.to_string())
}

/// A JSON string one byte longer than a parameter list may be.
fn long() -> String {
    "x".repeat(usize::try_from(MAX_PARAMETERS_BYTES).unwrap())
}

struct Put {
    name: &'static str,
    existing: Option<Action>,
    overwrite: bool,
    allowed: Option<Vec<String>>,
    bounds: LimitBounds,
}

impl Put {
    fn new() -> Self {
        Self {
            name: "guest/a",
            existing: None,
            overwrite: false,
            allowed: None,
            bounds: LimitBounds::default(),
        }
    }

    fn over(existing: &Action) -> Self {
        Self { existing: Some(existing.clone()), overwrite: true, ..Self::new() }
    }

    fn body(&self, body: &Value) -> Result<Action, Invalid> {
        let name = name(self.name);
        let put =
            ActionPut::from_json(body.as_object().unwrap(), &platform().manifest, name.namespace()).unwrap();
        let allowed = self.allowed.as_deref();
        action(&platform(), &self.bounds, &name, self.existing.as_ref(), put, self.overwrite, 7, allowed)
    }
}

fn node() -> Value {
    json!({"exec": {"kind": "nodejs:20", "code": "1"}})
}

fn sequence(components: &[&str]) -> Value {
    json!({"exec": {"kind": "sequence", "components": components}})
}

#[test]
fn actions_that_are_refused() {
    let old = Put::new().body(&node()).unwrap();
    let too_long = "x".repeat(usize::try_from(MAX_EXEC_BYTES).unwrap() + 1);
    let many: Vec<String> = (0..51).map(|n| format!("/guest/b{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let only_python = Put { allowed: Some(vec!["python:3".to_owned()]), ..Put::new() };
    let deprecated = Action {
        exec: kwsk_model::action::Exec::from_stored(&json!({"kind": "nodejs:6", "code": ""})).unwrap(),
        ..old.clone()
    };
    let max = MAX_PARAMETERS_BYTES;
    for (put, body, fault, text) in [
        (Put::new(), json!({}), Fault::BadRequest, "exec undefined".to_owned()),
        (
            Put::new(),
            json!({"exec": {"kind": "nodejs:20", "code": too_long}}),
            Fault::TooLarge,
            format!("exec larger than allowed: {} > {MAX_EXEC_BYTES} bytes.", MAX_EXEC_BYTES + 1),
        ),
        (
            Put::new(),
            json!({"parameters": [{"key": "p", "value": long()}]}),
            Fault::TooLarge,
            format!("parameters larger than allowed: {} > {max} bytes.", max + 24),
        ),
        (
            Put::new(),
            json!({"annotations": [{"key": "p", "value": long()}]}),
            Fault::TooLarge,
            format!("annotations larger than allowed: {} > {max} bytes.", max + 24),
        ),
        (
            Put::new(),
            json!({"limits": {"timeout": 1}}),
            Fault::BadRequest,
            "duration 1 milliseconds below allowed threshold of 100 milliseconds".to_owned(),
        ),
        (
            only_python,
            node(),
            Fault::Forbidden,
            "The supplied authentication is not authorized to access actions of kind 'nodejs:20'.".to_owned(),
        ),
        (
            Put { overwrite: false, ..Put::over(&old) },
            node(),
            Fault::Conflict,
            "resource already exists".to_owned(),
        ),
        (
            Put::new(),
            json!({"exec": {"kind": "nodejs:6", "code": ""}}),
            Fault::BadRequest,
            "The 'nodejs:6' runtime is no longer supported. You may read and delete but not update or invoke this action.".to_owned(),
        ),
        (
            Put::over(&deprecated),
            json!({}),
            Fault::BadRequest,
            "The 'nodejs:6' runtime is no longer supported. You may read and delete but not update or invoke this action.".to_owned(),
        ),
        (Put::new(), sequence(&[]), Fault::BadRequest, "No component specified for the sequence.".to_owned()),
        (Put::new(), sequence(&many), Fault::BadRequest, "Too many actions in the sequence.".to_owned()),
        (Put::new(), sequence(&["/_/b", "/_/a"]), Fault::BadRequest, "Sequence may not refer to itself.".to_owned()),
    ] {
        assert_eq!(refused(put.body(&body)), (fault, text));
    }
}

#[test]
fn the_first_reason_counts() {
    let old = Put::new().body(&node()).unwrap();
    let put = Put { overwrite: false, allowed: Some(vec!["x".to_owned()]), ..Put::over(&old) };
    let mut body = json!({
        "exec": {"kind": "nodejs:6", "code": ""}, "limits": {"memory": 1},
        "parameters": [{"key": "p", "value": long()}],
    });
    assert_eq!(refused(put.body(&body)).0, Fault::TooLarge);
    body["parameters"] = json!([]);
    assert!(refused(put.body(&body)).1.contains("allowed threshold"));
    body["limits"] = json!({});
    assert_eq!(refused(put.body(&body)).0, Fault::Forbidden);
    let put = Put { allowed: Some(Vec::new()), ..put };
    assert_eq!(put.body(&body), Err(Invalid::Exists));
    let put = Put { overwrite: true, ..put };
    assert_eq!(put.body(&body), Err(Invalid::Deprecated { kind: "nodejs:6".to_owned() }));
}

#[test]
fn a_created_action() {
    let created = Put::new()
        .body(&json!({
            "exec": {"kind": "nodejs:default", "code": "1"}, "annotations": [{"key": "a", "value": 1}],
            "delAnnotations": ["a"], "limits": {"memory": 128},
        }))
        .unwrap();
    assert_eq!(
        created.to_json(true),
        json!({
            "namespace": "guest", "name": "a", "version": "0.0.1", "publish": false,
            "exec": {"kind": "nodejs:20", "code": "1", "binary": false}, "parameters": [],
            "annotations": [{"key": "a", "value": 1}, {"key": "provide-api-key", "value": false}, {"key": "exec", "value": "nodejs:20"}],
            "limits": {"timeout": 60000, "memory": 128, "logs": 10, "concurrency": 1}, "updated": 7,
        })
    );
    let asked = Put::new()
        .body(&json!({
            "exec": {"kind": "nodejs:20", "code": ""}, "version": "1.2", "publish": true,
            "annotations": [{"key": "provide-api-key", "value": true}, {"key": "exec", "value": "lie"}],
        }))
        .unwrap();
    assert_eq!(asked.version.to_string(), "1.2.0");
    assert!(asked.publish);
    let annotations =
        json!([{"key": "provide-api-key", "value": true}, {"key": "exec", "value": "nodejs:20"}]);
    assert_eq!(serde_json::to_value(&asked.annotations).unwrap(), annotations);
}

#[test]
fn an_updated_action() {
    let old = Put::new()
        .body(&json!({
            "exec": {"kind": "nodejs:20", "code": "1"}, "parameters": [{"key": "p", "value": 1}], "publish": true,
            "annotations": [{"key": "a", "value": 1}, {"key": "b", "value": 2}], "limits": {"timeout": 1000},
        }))
        .unwrap();
    let kept = Put::over(&old).body(&json!({})).unwrap();
    assert_eq!(kept, Action { version: "0.0.2".parse().unwrap(), ..old.clone() });
    let new = Put::over(&old)
        .body(&json!({
            "parameters": [{"key": "q", "value": 2}], "annotations": [{"key": "c", "value": 3}],
            "delAnnotations": ["a", "exec", "provide-api-key"], "limits": {"memory": 512}, "version": "2.0.0",
        }))
        .unwrap();
    let shown = new.to_json(false);
    assert_eq!(shown["parameters"], json!([{"key": "q", "value": 2}]));
    assert_eq!(
        shown["annotations"],
        json!([{"key": "b", "value": 2}, {"key": "c", "value": 3}, {"key": "exec", "value": "nodejs:20"}])
    );
    assert_eq!(shown["limits"], json!({"timeout": 1000, "memory": 512, "logs": 10, "concurrency": 1}));
    assert_eq!((shown["version"].as_str(), shown["publish"].as_bool()), (Some("2.0.0"), Some(true)));
}

#[test]
fn sequences_and_actions_turn_into_each_other() {
    let body = json!({"exec": {"kind": "nodejs:20", "code": "1"}, "parameters": [{"key": "p", "value": 1}], "annotations": [{"key": "x", "value": 1}]});
    let plain = Put::new().body(&body).unwrap();
    let mut body = sequence(&["/_/b", "/other/pkg/c"]);
    body["delAnnotations"] = json!(["x"]);
    body["parameters"] = json!([{"key": "mine", "value": 1}]);
    let sequence = Put::over(&plain).body(&body).unwrap();
    assert_eq!(
        sequence.annotations.get("x"),
        Some(&json!(1)),
        "delAnnotations has no effect beside a sequence"
    );
    assert_eq!(sequence.annotations.get("exec"), Some(&json!("sequence")));
    let components = json!([{"key": "_actions", "value": ["/guest/b", "/other/pkg/c"]}]);
    assert_eq!(serde_json::to_value(&sequence.parameters).unwrap(), components);
    let same = Put::over(&sequence).body(&json!({"parameters": [{"key": "mine", "value": 1}]})).unwrap();
    assert_eq!(same.parameters, sequence.parameters);
    let plain = Put::over(&sequence).body(&node()).unwrap();
    assert!(plain.parameters.is_empty());
}

#[test]
fn narrow_namespaces() {
    let narrow = LimitBounds { memory: Bounds { min: 128, max: 192 }, ..LimitBounds::default() };
    let created = Put { bounds: narrow, ..Put::new() }.body(&node()).unwrap();
    assert_eq!(created.limits.memory, 192, "the default moves into the bounds");
    let wide = Put::new().body(&node()).unwrap();
    let kept = Put { bounds: narrow, ..Put::over(&wide) }.body(&json!({})).unwrap();
    assert_eq!(kept.limits.memory, 256, "limits from before stay");
    let asked = Put { bounds: narrow, ..Put::over(&wide) }.body(&json!({"limits": {"memory": 256}}));
    assert_eq!(refused(asked).1, "memory size 256 MB exceeds allowed threshold of 192 MB");
}

fn put_package(
    existing: Option<&Package>,
    body: &Value,
    overwrite: bool,
    target: BindingTarget<'_>,
) -> Result<Package, Invalid> {
    let name = name("guest/p");
    let put = PackagePut::from_json(body.as_object().unwrap(), name.namespace()).unwrap();
    package(&name, existing, put, overwrite, 7, target)
}

#[test]
fn packages() {
    use BindingTarget::{Found, Missing, NotAPackage, NotAsked};
    let plain = put_package(None, &json!({}), false, NotAsked).unwrap();
    let to = |name: &str| json!({"binding": {"namespace": "_", "name": name}, "annotations": [{"key": "binding", "value": 1}, {"key": "a", "value": 1}]});
    let bound = put_package(None, &to("q"), false, Found(&plain)).unwrap();
    assert_eq!(
        serde_json::to_value(&bound.annotations).unwrap(),
        json!([{"key": "a", "value": 1}, {"key": "binding", "value": {"namespace": "guest", "name": "q"}}])
    );
    let again =
        put_package(Some(&bound), &json!({"binding": {}, "annotations": []}), true, NotAsked).unwrap();
    assert_eq!(again.binding, bound.binding, "a binding stays one");
    assert!(again.annotations.get("binding").is_some() && again.annotations.get("a").is_none());
    assert_eq!(again.version.to_string(), "0.0.2");
    let elsewhere = put_package(Some(&bound), &to("r"), true, Found(&plain)).unwrap();
    assert_eq!(elsewhere.binding.unwrap().name.as_str(), "r");
    for (existing, body, overwrite, target, fault, text) in [
        (Some(&plain), json!({}), false, NotAsked, Fault::Conflict, "resource already exists"),
        (
            None,
            to("q"),
            false,
            Missing,
            Fault::BadRequest,
            "Binding references a package that does not exist.",
        ),
        (
            None,
            to("q"),
            false,
            NotAPackage,
            Fault::Conflict,
            "Cannot bind to a resource that is not a package.",
        ),
        (None, to("q"), false, Found(&bound), Fault::BadRequest, "Cannot bind to another package binding."),
        (
            None,
            to("p"),
            false,
            Missing,
            Fault::Unprocessable,
            "Package binding 'guest/p' contains a circular reference.",
        ),
        (
            Some(&plain),
            to("q"),
            true,
            Found(&plain),
            Fault::Conflict,
            "Resource is a package and cannot be converted into a binding.",
        ),
    ] {
        assert_eq!(refused(put_package(existing, &body, overwrite, target)), (fault, text.to_owned()));
    }
    let reserved = package(&name("guest/default"), None, PackagePut::default(), true, 7, NotAsked);
    assert_eq!(refused(reserved), (Fault::BadRequest, "Package name 'default' is reserved.".to_owned()));
}

#[test]
fn package_deletion() {
    let name = name("guest/p");
    assert_eq!(package_delete(&name, 0, false), Ok(()));
    assert_eq!(package_delete(&name, 9, true), Ok(()));
    for (contents, word) in [(1, "1 entity"), (2, "2 entities")] {
        let text =
            format!("Package not empty (contains {word}). Set force param or delete package contents.");
        assert_eq!(refused(package_delete(&name, contents, false)), (Fault::Conflict, text));
    }
}

#[test]
fn triggers() {
    let put = |existing: Option<&Trigger>, body: Value, overwrite| {
        trigger(
            &name("guest/t"),
            existing,
            TriggerPut::from_json(body.as_object().unwrap()).unwrap(),
            overwrite,
            7,
        )
    };
    let feed = |feed: Value| json!({"annotations": [{"key": "feed", "value": feed}]});
    let old = put(None, json!({"parameters": [{"key": "a", "value": 1}]}), false).unwrap();
    let old = Trigger { rules: Some(Default::default()), ..old };
    assert_eq!(
        put(Some(&old), json!({}), true),
        Ok(Trigger { version: old.version.bumped(), ..old.clone() })
    );
    assert_eq!(put(Some(&old), json!({}), false), Err(Invalid::Exists));
    for good in ["name", "pkg/name", "/ns/pkg/name"] {
        assert!(put(None, feed(json!(good)), false).is_ok(), "{good}");
    }
    for bad in [json!("a//b"), json!("a b "), json!(""), json!(1)] {
        let (fault, text) = refused(put(None, feed(bad), false));
        assert_eq!((fault, text.as_str()), (Fault::BadRequest, "Feed name is not valid"));
    }
    assert!(put(Some(&old), feed(json!("a//b")), true).is_ok(), "the name is looked at on create only");
}

fn put_rule(
    existing: Option<&Rule>,
    body: &Value,
    overwrite: bool,
    exist: (bool, bool),
) -> Result<Rule, Invalid> {
    let name = name("guest/r");
    let put = RulePut::from_json(body.as_object().unwrap(), name.namespace()).unwrap();
    rule(&name, existing, put, overwrite, 7, exist.0, exist.1)
}

#[test]
fn rules() {
    let both = json!({"trigger": "/_/t", "action": "/_/p/a"});
    let old = put_rule(None, &both, false, (true, true)).unwrap();
    assert_eq!(old.status, RuleStatus::Active);
    let old = Rule { status: RuleStatus::Inactive, ..old };
    let moved = put_rule(Some(&old), &json!({"trigger": "/_/u"}), true, (true, true)).unwrap();
    assert_eq!(
        (moved.trigger.to_string(), moved.action.to_string()),
        ("guest/u".to_owned(), "guest/p/a".to_owned())
    );
    assert_eq!(moved.status, RuleStatus::Inactive, "an update keeps the state");
    for (existing, body, overwrite, exist, fault, text) in [
        (Some(&old), both.clone(), false, (true, true), Fault::Conflict, "resource already exists"),
        (
            None,
            json!({"trigger": "/_/t"}),
            false,
            (true, true),
            Fault::BadRequest,
            "rule requires a valid trigger and a valid action",
        ),
        (
            None,
            json!({"action": "/_/a"}),
            true,
            (true, true),
            Fault::BadRequest,
            "rule requires a valid trigger and a valid action",
        ),
        (None, both.clone(), false, (false, false), Fault::BadRequest, "trigger /guest/t does not exist"),
        (None, both.clone(), false, (true, false), Fault::BadRequest, "action /guest/p/a does not exist"),
        (Some(&old), json!({}), true, (false, true), Fault::BadRequest, "trigger /guest/t does not exist"),
    ] {
        assert_eq!(refused(put_rule(existing, &body, overwrite, exist)), (fault, text.to_owned()));
    }
}

#[test]
fn rule_states() {
    let both = json!({"trigger": "/_/t", "action": "/_/a"});
    let active = put_rule(None, &both, false, (true, true)).unwrap();
    assert_eq!(rule_state(&active, RuleStatus::Active, true), Ok(None));
    let inactive = rule_state(&active, RuleStatus::Inactive, true).unwrap().unwrap();
    assert_eq!(inactive.status, RuleStatus::Inactive);
    let (fault, text) = refused(rule_state(&active, RuleStatus::Active, false));
    assert_eq!(
        (fault, text.as_str()),
        (Fault::NotFound, "Only rules with existing triggers can be activated")
    );
}

#[test]
fn other_texts() {
    for (error, fault, text) in [
        (
            Invalid::OtherCollection,
            Fault::Conflict,
            "Resource by this name exists but is not in this collection.",
        ),
        (Invalid::ConcurrentModification, Fault::Conflict, "Concurrent modification to resource detected."),
        (Invalid::SequenceComponentMissing, Fault::BadRequest, "Sequence component does not exist."),
        (Invalid::ThroughBinding, Fault::BadRequest, "Operation not permitted on package binding."),
    ] {
        assert_eq!((error.fault(), error.to_string().as_str()), (fault, text));
    }
}

#[test]
fn payloads() {
    assert_eq!(payload_size(1_048_576), Ok(()));
    let text = "Request larger than allowed: 1048577 > 1048576 bytes.".to_owned();
    assert_eq!(refused(payload_size(1_048_577)), (Fault::TooLarge, text));
}
