//! What a shim reports to kwsk. Input: JSON.
#![no_main]

use kwsk_shim::Report;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(report) = serde_json::from_slice::<Report>(data) else { return };
    let written = serde_json::to_vec(&report).expect("what was read can be written");
    let again: Report = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, report);
});
