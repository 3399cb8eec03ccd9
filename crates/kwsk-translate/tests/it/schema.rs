//! Knative's own CRDs, read from the Go module cache, as the judge of what this crate writes.

use std::collections::HashMap;
use std::process::Command;
use std::sync::OnceLock;

use jsonschema::Validator;
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_translate::document::{Document, Resource, ResourceKind};
use serde::Deserialize;
use serde_json::{Value, json};

/// Module, version and file of each kind's definition; kwsk's own kinds have none there.
const DEFINITIONS: [(ResourceKind, &str, &str); 4] = [
    (ResourceKind::KService, "knative.dev/serving@v0.50.0", "config/core/300-resources/service.yaml"),
    (ResourceKind::Channel, "knative.dev/eventing@v0.50.0", "config/core/resources/channel.yaml"),
    (ResourceKind::Subscription, "knative.dev/eventing@v0.50.0", "config/core/resources/subscription.yaml"),
    (ResourceKind::PingSource, "knative.dev/eventing@v0.50.0", "config/core/resources/pingsource.yaml"),
];

/// Fails with everything the API server would refuse, or silently drop.
pub(crate) fn assert_valid(document: &Document) {
    let wrong = problems(document.kind, &document.to_json());
    assert!(wrong.is_empty(), "{}:\n{}", document.key(), wrong.join("\n"));
}

fn problems(kind: ResourceKind, object: &Value) -> Vec<String> {
    static SCHEMAS: OnceLock<HashMap<ResourceKind, (Value, Validator)>> = OnceLock::new();
    let Some((schema, validator)) = SCHEMAS.get_or_init(load).get(&kind) else {
        return Vec::new();
    };
    let refused = validator.iter_errors(object).map(|error| format!("{}: {error}", error.instance_path()));
    let mut all: Vec<String> = refused.collect();
    unknown_fields(schema, object, "", &mut all);
    all
}

fn load() -> HashMap<ResourceKind, (Value, Validator)> {
    let mut roots = HashMap::new();
    let of = |(kind, module, file): (ResourceKind, &'static str, &str)| {
        let root: &String = roots.entry(module).or_insert_with(|| module_directory(module));
        let text = std::fs::read_to_string(format!("{root}/{file}")).unwrap();
        let schema = schema_of(&text, kind);
        let validator = jsonschema::validator_for(&schema).unwrap();
        (kind, (schema, validator))
    };
    DEFINITIONS.into_iter().map(of).collect()
}

/// Offline when the module is cached, through the proxy otherwise.
fn module_directory(module: &str) -> String {
    let output = Command::new("go").args(["mod", "download", "-json", module]).output();
    let output = output.expect("Knative's schemas are read from Go modules: `go` has to be on PATH");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let directory = answer["Dir"].as_str();
    directory.unwrap_or_else(|| panic!("{module} cannot be had: {answer}")).to_owned()
}

fn schema_of(text: &str, kind: ResourceKind) -> Value {
    let mut documents = serde_norway::Deserializer::from_str(text);
    let definition = documents.find_map(|d| Value::deserialize(d).ok().filter(|v| v.is_object())).unwrap();
    assert_eq!(definition["spec"]["names"]["kind"], kind.kind());
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let version = kind.api_version().rsplit('/').next().unwrap();
    let found = versions.iter().find(|v| v["name"] == version).unwrap();
    found["schema"]["openAPIV3Schema"].clone()
}

/// What structural pruning would drop without a word.
fn unknown_fields(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let known = &schema["properties"];
            let others = &schema["additionalProperties"];
            let kept = schema["x-kubernetes-preserve-unknown-fields"] == true || *others == true;
            for (name, value) in fields {
                // The API server validates these three itself.
                if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
                    continue;
                }
                let path = format!("{path}/{name}");
                match (known.get(name), others.is_object()) {
                    (Some(schema), _) => unknown_fields(schema, value, &path, found),
                    (None, true) => unknown_fields(others, value, &path, found),
                    (None, false) if !kept => {
                        found.push(format!("{path}: unknown field, it would be dropped"))
                    }
                    (None, false) => {}
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                unknown_fields(&schema["items"], item, &format!("{path}/{index}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn sample() -> Value {
    let it = json!({"namespace": "guest", "name": "a", "exec": {"kind": "nodejs:20", "code": ""}});
    let platform = crate::manifest::platform();
    let it = crate::manifest::action_of(&platform, it.as_object().unwrap()).unwrap();
    kwsk_translate::action::to_kservice(&platform, &it).to_document().to_json()
}

#[test]
fn the_judge_accepts_and_refuses() {
    let of = |pointer: &str, value: Value| {
        let mut object = sample();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        problems(ResourceKind::KService, &object)
    };
    assert_eq!(of("/spec/template/spec/timeoutSeconds", json!(61)), Vec::<String>::new());
    for (pointer, value) in [
        ("/spec/template/spec/timeoutSeconds", json!("61")),
        ("/spec/template/spec/containers", json!({})),
        ("/spec/template/spec/restartPolicy", json!("Never")),
        ("/spec/template/spec/containers/0/lifecycle", json!({})),
        ("/spec/template/spec/containers/0/resources/limits", json!("1Gi")),
        ("/spec/templat", json!({})),
    ] {
        let wrong = of(pointer, value);
        assert_eq!(wrong.len(), 1, "{pointer}: {wrong:?}");
    }
}

#[test]
fn the_judge_knows_every_kind_of_knatives() {
    let trigger: FullyQualifiedEntityName = "guest/t".parse().unwrap();
    let alarm = kwsk_translate::alarm::Alarm { cron: "* * * * *".to_owned(), timezone: None, payload: None };
    let mut object = kwsk_translate::alarm::to_pingsource(&trigger, &alarm).to_document().to_json();
    assert!(problems(ResourceKind::PingSource, &object).is_empty());
    object["spec"]["cron"] = json!("* * * * *");
    assert_eq!(problems(ResourceKind::PingSource, &object).len(), 1);
    for kind in [ResourceKind::Channel, ResourceKind::Subscription] {
        let object =
            json!({"apiVersion": kind.api_version(), "kind": kind.kind(), "metadata": {}, "spec": {"x": 1}});
        assert_eq!(problems(kind, &object).len(), 1, "{kind:?}");
    }
}
