//! An activation as it is stored, and what the API makes of it. Input: JSON.
#![no_main]

use kwsk_model::activation::Activation;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(activation) = serde_json::from_slice::<Activation>(data) else { return };
    let written = serde_json::to_vec(&activation).expect("what was read can be written");
    let again: Activation = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, activation);

    let record = |it: Vec<u8>| serde_json::from_slice::<Value>(&it).expect("a record is JSON");
    let full = record(serde_json::to_vec(&activation.record()).expect("a record can be written"));
    let bare =
        record(serde_json::to_vec(&activation.record_without_logs()).expect("a record can be written"));
    assert_eq!(full["activationId"], bare["activationId"]);
    assert_eq!(bare["logs"], Value::Array(Vec::new()));
    assert_eq!(activation.summary()["activationId"], full["activationId"]);
    assert!(activation.filter_name().ends_with(activation.name.as_str()));
});
