//! JSON → type → JSON is the identity, for every entity.

use kwsk_model::action::{Action, Code, Exec, is_base64};
use kwsk_model::activation::{Activation, ActivationId};
use kwsk_model::identity::Subject;
use kwsk_model::json::RawJson;
use kwsk_model::limits::{LimitBounds, Limits, LimitsPut};
use kwsk_model::name::Namespace;
use kwsk_model::package::Package;
use kwsk_model::params::{Annotations, Parameters};
use kwsk_model::proxy::{RunBody, RunContext};
use kwsk_model::rule::Rule;
use kwsk_model::runtimes::RuntimesManifest;
use kwsk_model::trigger::Trigger;
use kwsk_model::version::SemVer;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::strategies as any_;

/// Through text, as a store does it.
fn stored<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

fn text(value: &Value) -> Value {
    serde_json::from_str(&value.to_string()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn actions(action in any_::action(any_::exec(any_::inline_code()))) {
        prop_assert_eq!(Action::from_json(&text(&action.to_json(true))).unwrap(), action);
    }

    #[test]
    fn actions_with_stored_code(action in any_::action(any_::exec(any_::stored_code()))) {
        prop_assert_eq!(Action::from_json(&text(&action.to_json(true))).unwrap(), action);
    }

    #[test]
    fn sequences(action in any_::action(any_::sequence())) {
        prop_assert_eq!(Action::from_json(&text(&action.to_json(true))).unwrap(), action);
    }

    #[test]
    fn code_is_hidden_on_demand(action in any_::action(any_::exec(any_::inline_code()))) {
        let mut shown = action.to_json(true);
        shown["exec"].as_object_mut().unwrap().shift_remove("code");
        prop_assert_eq!(shown, action.to_json(false));
    }

    #[test]
    fn packages(package in any_::package()) {
        prop_assert_eq!(Package::from_json(&text(&package.to_json())).unwrap(), package);
    }

    #[test]
    fn triggers(trigger in any_::trigger()) {
        prop_assert_eq!(Trigger::from_json(&text(&trigger.to_json())).unwrap(), trigger);
    }

    #[test]
    fn rules(rule in any_::rule()) {
        prop_assert_eq!(Rule::from_json(&text(&rule.to_json())).unwrap(), rule);
    }

    #[test]
    fn subjects(subject in any_::subject()) {
        prop_assert_eq!(stored::<Subject>(&subject), subject);
    }

    #[test]
    fn activations(activation in any_::activation()) {
        prop_assert_eq!(stored::<Activation>(&activation), activation);
    }

    #[test]
    fn records_and_summaries_tell_the_same(activation in any_::activation()) {
        let record = serde_json::to_value(activation.record()).unwrap();
        let summary = activation.summary();
        for key in ["namespace", "name", "version", "publish", "annotations", "activationId", "start", "end", "cause"] {
            prop_assert_eq!(record.get(key), summary.get(key), "{}", key);
        }
        prop_assert_eq!(summary.get("statusCode").is_some(), activation.end.is_some());
        prop_assert!(summary.get("logs").is_none() && summary.get("response").is_none());
    }

    #[test]
    fn parameter_lists(parameters in any_::parameters(), annotations in any_::annotations()) {
        prop_assert_eq!(stored::<Parameters>(&parameters), parameters.clone());
        prop_assert_eq!(stored::<Annotations>(&annotations), annotations);
        prop_assert_eq!(parameters.json_size() as usize, serde_json::to_string(&parameters).unwrap().len());
    }

    #[test]
    fn limits(limits in any_::limits()) {
        prop_assert_eq!(stored::<Limits>(&limits), limits);
        let put = LimitsPut::from_json(&serde_json::to_value(limits).unwrap()).unwrap();
        prop_assert_eq!(put.over(&Limits::default()), limits);
        prop_assert_eq!(LimitsPut::default().over(&limits), limits);
    }

    #[test]
    fn limits_within_bounds_pass(limits in any_::limits()) {
        let default = LimitBounds::default();
        let fits = limits.concurrency == 1 && limits.instances.is_none_or(|n| n <= default.instances);
        prop_assert_eq!(default.check(&limits).is_ok(), fits);
    }

    #[test]
    fn versions(version in any_::version()) {
        prop_assert_eq!(version.to_string().parse::<SemVer>().unwrap(), version);
        prop_assert!(version.bumped() > version);
    }

    #[test]
    fn activation_ids(id in any_::activation_id()) {
        prop_assert_eq!(id.as_str().parse::<ActivationId>().unwrap(), id.clone());
        let shouted = id.as_str().to_uppercase();
        prop_assert_eq!(shouted.parse::<ActivationId>().is_ok(), shouted == id.as_str());
    }

    #[test]
    fn run_bodies(
        value in prop_oneof![any_::object(), proptest::collection::vec(any_::json(), 0..3).prop_map(Value::from)],
        action in any_::fqn(),
        key in proptest::option::of("[a-z:]{3,9}"),
    ) {
        let body = RunBody {
            value: RawJson::from(value),
            context: RunContext {
                namespace: action.namespace().to_string(),
                action_name: action.with_slash(),
                action_version: "0.0.1".to_owned(),
                activation_id: "0".repeat(32),
                transaction_id: "t".to_owned(),
                deadline: "1".to_owned(),
                api_key: key,
            },
        };
        prop_assert_eq!(stored::<RunBody>(&body), body);
    }

    #[test]
    fn a_put_reads_what_a_get_shows(code in ".{0,40}|[A-Za-z0-9+/]{4}", main in proptest::option::of("[a-z]{1,4}")) {
        let manifest = r#"{"runtimes":{"nodejs":[{"kind":"nodejs:1","image":{"name":"n"}}]}}"#;
        let manifest = RuntimesManifest::parse(manifest).unwrap();
        let (own, binary) = (Namespace::new("me").unwrap(), is_base64(&code));
        let exec = Exec::Code { kind: "nodejs:1".to_owned(), code: Code::Inline(code), main, binary };
        prop_assert_eq!(Exec::from_json(&exec.to_json(true), &manifest, &own).unwrap(), exec);
    }
}
