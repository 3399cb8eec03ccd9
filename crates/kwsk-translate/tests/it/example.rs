//! `examples/manifest.rs`, both ways.

use crate::manifest::convert;

const ACTION: &str =
    r#"{"namespace":"guest","name":"hello","exec":{"kind":"nodejs:default","code":"function main(){}"}}"#;

#[test]
fn there_and_back() {
    let yaml = convert(ACTION).unwrap();
    assert!(yaml.starts_with("apiVersion: serving.knative.dev/v1\nkind: Service\n"), "{yaml}");
    let json = convert(&yaml).unwrap();
    assert!(json.contains(r#""kind": "nodejs:20""#), "{json}");
    assert!(convert(&json).is_ok_and(|again| again == yaml));
}

#[test]
fn complaints() {
    for (text, complaint) in [
        ("{", "it is neither JSON nor YAML"),
        ("[]", "it is not an object"),
        ("{}", "it has no 'namespace'"),
        (r#"{"namespace":"guest"}"#, "it has no 'name'"),
        (r#"{"namespace":"guest","name":"a"}"#, "exec undefined"),
        (r#"{"namespace":"guest","name":"a b "}"#, "The name of the entity contains illegal characters."),
        ("{apiVersion: v1, kind: Pod}", "kwsk does not know"),
        ("{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {}}", "it is not a Service"),
    ] {
        let error = format!("{:#}", convert(text).unwrap_err());
        assert!(error.contains(complaint), "{text}: {error}");
    }
}
