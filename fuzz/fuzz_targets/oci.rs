//! An image from a registry. Input: its reference, a line feed, its manifest, a byte 0, its configuration.
#![no_main]

use kwsk_shim::image::Reference;
use kwsk_shim::image::fuzzing::append;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (Some(reference), Some(documents)) = (parts.next(), parts.next()) else { return };
    if let Some(reference) =
        std::str::from_utf8(reference).ok().and_then(|text| text.parse::<Reference>().ok())
    {
        let again: Reference = reference.to_string().parse().expect("what is shown can be read");
        assert_eq!(again.to_string(), reference.to_string());
    }
    let mut parts = documents.splitn(2, |byte| *byte == 0);
    let (Some(manifest), Some(config)) = (parts.next(), parts.next()) else { return };
    let Some(first) = append(manifest, config) else { return };
    let second = append(&first.manifest, &first.config).expect("what was written can be read");
    assert!(!second.changed, "the same shim twice");
    assert_eq!((&second.manifest, &second.config), (&first.manifest, &first.config));

    let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    let count = |value: &Value| value.as_array().map_or(0, Vec::len);
    let layers = count(&parsed(&first.manifest)["layers"]);
    let (before, config) = (count(&parsed(manifest)["layers"]), parsed(&first.config));
    assert_eq!(layers, count(&config["rootfs"]["diff_ids"]), "a layer has a diff id");
    assert!(layers == before || layers == before + 1, "{before} layers become {layers}");
    assert_eq!(config["config"]["Entrypoint"][0], "/kwsk/bin/shim");
});
