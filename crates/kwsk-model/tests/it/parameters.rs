//! The merge laws of parameters, and what reaches a run.

use kwsk_model::json::RawJson;
use kwsk_model::params::{Annotations, FinalOverride, Parameters};
use proptest::prelude::*;
use serde_json::Value;

use crate::strategies as any_;

fn run(bound: &Parameters, payload: &Value, locked: bool) -> Result<Value, FinalOverride> {
    bound.arguments(&RawJson::from(payload), locked).map(|arguments| arguments.to_value())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_associative(a in any_::parameters(), b in any_::parameters(), c in any_::parameters()) {
        prop_assert_eq!(a.merged(&b).merged(&c), a.merged(&b.merged(&c)));
    }

    #[test]
    fn nothing_is_the_identity(a in any_::parameters()) {
        prop_assert_eq!(a.merged(&Parameters::new()), a.clone());
        prop_assert_eq!(Parameters::new().merged(&a), a.clone());
        prop_assert_eq!(a.merged(&a), a);
    }

    #[test]
    fn the_later_one_wins(a in any_::parameters(), b in any_::parameters()) {
        let merged = a.merged(&b);
        for parameter in merged.iter() {
            let expected = b.get(&parameter.key).or_else(|| a.get(&parameter.key));
            prop_assert_eq!(Some(&parameter.value), expected);
        }
        let keys = |p: &Parameters| p.iter().map(|p| p.key.clone()).collect::<std::collections::HashSet<_>>();
        prop_assert_eq!(keys(&merged), keys(&a).union(&keys(&b)).cloned().collect());
    }

    #[test]
    fn the_payload_wins_and_init_stays_out(bound in any_::parameters(), payload in any_::object()) {
        let arguments = run(&bound, &payload, false).unwrap();
        let (arguments, payload) = (arguments.as_object().unwrap(), payload.as_object().unwrap());
        for (key, value) in arguments {
            prop_assert_eq!(Some(value), payload.get(key).or_else(|| bound.get(key)));
        }
        for parameter in bound.iter() {
            let there = arguments.contains_key(&parameter.key);
            prop_assert_eq!(there, !parameter.init || payload.contains_key(&parameter.key));
        }
        prop_assert!(payload.keys().all(|key| arguments.contains_key(key)));
    }

    #[test]
    fn arrays_pass_untouched(bound in any_::parameters(), items in proptest::collection::vec(any_::json(), 0..4)) {
        let payload = Value::from(items);
        prop_assert_eq!(run(&bound, &payload, true), Ok(payload));
    }

    #[test]
    fn final_locks_exactly_what_is_defined(bound in any_::parameters(), payload in any_::object()) {
        let defined = |key: &str| {
            bound.get(key).is_some_and(|value| !value.is_null() && value.as_str() != Some(""))
        };
        let collides = payload.as_object().unwrap().keys().any(|key| defined(key));
        prop_assert_eq!(run(&bound, &payload, true).is_err(), collides);
        prop_assert!(run(&bound, &payload, false).is_ok());
    }

    #[test]
    fn init_parameters_are_the_environment(bound in any_::parameters()) {
        let environment = bound.init_environment();
        prop_assert_eq!(environment.len(), bound.iter().filter(|p| p.init).count());
    }

    #[test]
    fn updated_annotations(old in any_::annotations(), new in any_::annotations(), deleted in proptest::collection::vec("[a-e]{1,2}", 0..4)) {
        let updated = old.updated(&new, &deleted);
        for (key, value) in updated.iter() {
            let kept = old.get(key).filter(|_| !deleted.iter().any(|d| d == key));
            prop_assert_eq!(Some(value), new.get(key).or(kept));
        }
        prop_assert_eq!(old.updated(&Annotations::new(), &[]), old);
    }
}
