use serde_json::{Value, json};

use super::super::media::{
    DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST,
};
use super::super::shim_layer::tests::layer;
use super::*;

fn config(run: &Value) -> Value {
    json!({
        "created": "2024-01-02T03:04:05Z", "architecture": "amd64", "os": "linux", "x-own": {"kept": 1.50},
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"one")]},
        "history": [{"created_by": "ADD one"}, {"created_by": "ENV A=1", "empty_layer": true}],
    })
}

fn manifest(docker: bool) -> Stored {
    let (kind, of_config, of_layer) = match docker {
        true => (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER_GZIP),
        false => (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER_GZIP),
    };
    let document = json!({
        "schemaVersion": 2, "mediaType": kind, "annotations": {"a": "b"},
        "config": {"mediaType": of_config, "digest": Digest::of(b"config"), "size": 6, "data": "e30="},
        "layers": [{"mediaType": of_layer, "digest": Digest::of(b"one.gz"), "size": 6, "x-own": [1]}],
    });
    Stored::read(serde_json::to_vec(&document).unwrap(), "", "image").unwrap()
}

fn appended(
    stored: &Stored,
    config: &Value,
    shim: &[u8],
    command: Option<&[&str]>,
) -> Result<Edited, String> {
    let command: Option<Vec<String>> = command.map(|c| c.iter().map(ToString::to_string).collect());
    let config = serde_json::to_vec(config).unwrap();
    let manifest = Manifest::read(stored, "r.example/i:1").map_err(|error| error.to_string())?;
    append(stored, manifest, &config, &layer(shim), command.as_deref(), "r.example/i:1")
        .map_err(|error| error.to_string())
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn the_command_is_wrapped_and_all_else_is_kept() {
    for (run, entrypoint) in [
        (
            json!({"Entrypoint": ["node", "s.js"], "Cmd": ["x"], "Env": ["A=1"], "User": "7", "WorkingDir": "/w"}),
            json!(["node", "s.js"]),
        ),
        (json!({"Cmd": ["/start"], "Entrypoint": null}), json!([])),
    ] {
        for docker in [false, true] {
            let edited = appended(&manifest(docker), &config(&run), b"shim", None).unwrap();
            let after = json(&edited.config);
            let mut expected = config(&run);
            let mut outer = vec![json!("/kwsk/bin/shim"), json!("exec"), json!("--")];
            outer.extend(entrypoint.as_array().unwrap().clone());
            expected["config"]["Entrypoint"] = outer.into();
            let shim = layer(b"shim");
            expected["rootfs"]["diff_ids"] = json!([Digest::of(b"one"), shim.diff_id]);
            let by = format!("kwsk-shim append {}", Digest::of(b"shim"));
            let entry = json!({"created": "2024-01-02T03:04:05Z", "created_by": by});
            expected["history"].as_array_mut().unwrap().push(entry);
            assert_eq!(after, expected);

            let document = json(&edited.manifest.bytes);
            assert_eq!(document["annotations"], json!({"a": "b"}));
            assert_eq!(document["layers"][0], json(&manifest(docker).bytes)["layers"][0]);
            let media_type = if docker { DOCKER_LAYER_GZIP } else { OCI_LAYER_GZIP };
            let added = json!({"mediaType": media_type, "digest": shim.digest, "size": shim.bytes.len()});
            assert_eq!(document["layers"][1], added);
            assert_eq!(document["config"]["digest"], json!(Digest::of(&edited.config)));
            assert_eq!(document["config"]["size"], json!(edited.config.len()));
            assert_eq!(document["config"].get("data"), None);
            assert!(edited.changed && edited.manifest.digest.matches(&edited.manifest.bytes));
        }
    }
}

#[test]
fn the_same_shim_changes_nothing_and_another_takes_its_place() {
    let first = appended(&manifest(false), &config(&json!({"Cmd": ["a"]})), b"shim 1", None).unwrap();
    let again = appended(&first.manifest, &json(&first.config), b"shim 1", None).unwrap();
    assert!(!again.changed);
    assert_eq!((again.manifest.bytes, again.config), (first.manifest.bytes.clone(), first.config.clone()));
    let newer = appended(&first.manifest, &json(&first.config), b"shim 2", None).unwrap();
    let direct = appended(&manifest(false), &config(&json!({"Cmd": ["a"]})), b"shim 2", None).unwrap();
    assert_eq!(json(&newer.config), json(&direct.config));
    assert_eq!(json(&newer.manifest.bytes), json(&direct.manifest.bytes));
}

#[test]
fn a_shim_below_other_layers_is_replaced_where_it_is() {
    let first = appended(&manifest(false), &config(&json!({"Cmd": ["a"]})), b"shim 1", None).unwrap();
    let mut derived = json(&first.config);
    derived["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(Digest::of(b"top")));
    derived["history"].as_array_mut().unwrap().push(json!({"created_by": "COPY top"}));
    derived["config"]["Entrypoint"] = json!(["/own"]);
    let mut document = json(&first.manifest.bytes);
    let top = json!({"mediaType": OCI_LAYER_GZIP, "digest": Digest::of(b"top.gz"), "size": 6});
    document["layers"].as_array_mut().unwrap().push(top);
    let stored = Stored::read(serde_json::to_vec(&document).unwrap(), "", "image").unwrap();
    let edited = appended(&stored, &derived, b"shim 2", None).unwrap();
    let digests: Vec<_> = edited.layers.iter().map(|layer| layer.digest.clone()).collect();
    assert_eq!(digests, [Digest::of(b"one.gz"), layer(b"shim 2").digest, Digest::of(b"top.gz")]);
    let entrypoint = json!(["/kwsk/bin/shim", "exec", "--", "/own"]);
    assert_eq!(json(&edited.config)["config"]["Entrypoint"], entrypoint);
}

#[test]
fn without_a_history_the_layer_is_found_by_its_content() {
    let mut bare = config(&json!({"Cmd": ["a"]}));
    bare.as_object_mut().unwrap().shift_remove("history");
    let first = appended(&manifest(false), &bare, b"shim", None).unwrap();
    assert_eq!(json(&first.config).get("history"), None);
    assert!(!appended(&first.manifest, &json(&first.config), b"shim", None).unwrap().changed);
}

#[test]
fn a_command_given_takes_the_place_of_both() {
    let edited =
        appended(&manifest(false), &config(&json!({"Cmd": ["a"]})), b"shim", Some(&["/b", "c"])).unwrap();
    let run = json(&edited.config)["config"].clone();
    assert_eq!(run, json!({"Entrypoint": ["/kwsk/bin/shim", "exec", "--", "/b", "c"]}));
    let again = appended(&edited.manifest, &json(&edited.config), b"shim", Some(&["/b", "c"])).unwrap();
    assert!(!again.changed);
    assert!(appended(&manifest(false), &config(&json!({})), b"shim", Some(&["/b"])).is_ok());
}

#[test]
fn what_cannot_be_edited_is_refused_in_words() {
    let run = json!({"Cmd": ["a"]});
    let refused = |stored: &Stored, config: &Value| appended(stored, config, b"shim", None).unwrap_err();
    let error = refused(&manifest(false), &config(&json!({"Env": []})));
    assert!(error.contains("r.example/i:1 has neither") && error.contains("--entrypoint"), "{error}");
    assert_eq!(refused(&manifest(false), &config(&Value::Null)), error);
    let mut more = config(&run);
    more["rootfs"]["diff_ids"] = json!([]);
    assert!(refused(&manifest(false), &more).contains("lists 0 layers and the manifest 1"));
    let mut shell = config(&run);
    shell["config"]["Entrypoint"] = json!("sh -c x");
    assert!(refused(&manifest(false), &shell).contains("'Entrypoint'"));
    let mut rootless = config(&run);
    rootless.as_object_mut().unwrap().shift_remove("rootfs");
    assert!(refused(&manifest(false), &rootless).contains("'rootfs'"));
    for (pointer, value, part) in [
        ("/layers/0/mediaType", json!("application/vnd.cncf.helm.chart"), "helm.chart"),
        ("/config/mediaType", json!("application/vnd.oci.empty.v1+json"), "an artifact"),
        ("/layers/0/digest", json!("sha256:0"), "not a digest"),
        ("/layers", json!(null), "no field 'layers'"),
        ("/config", json!(7), "'config'"),
    ] {
        let mut document = json(&manifest(false).bytes);
        *document.pointer_mut(pointer).unwrap() = value;
        let stored = Stored::read(serde_json::to_vec(&document).unwrap(), "", "image").unwrap();
        let error = refused(&stored, &config(&run));
        assert!(error.contains(part) && error.contains("r.example/i:1"), "{error}");
    }
}

#[test]
fn platforms_of_configurations() {
    let of = |value: Value| platform(&serde_json::to_vec(&value).unwrap(), "i").unwrap().to_string();
    assert_eq!(of(json!({"os": "linux", "architecture": "arm", "variant": "v7"})), "linux/arm/v7");
    assert_eq!(of(json!({"os": "windows", "architecture": "amd64", "variant": ""})), "windows/amd64");
    assert_eq!(of(json!({})), "linux/amd64");
}
