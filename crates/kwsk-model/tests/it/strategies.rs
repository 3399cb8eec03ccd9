//! Arbitrary entities. `kwsk-translate`'s tests include this file too.
#![allow(dead_code, reason = "each crate that includes this file uses a part of it")]

use kwsk_model::action::{Action, Code, Exec, StoredCode};
use kwsk_model::activation::{Activation, ActivationId, ActivationResponse, Outcome, hex};
use kwsk_model::identity::{NamespaceLimits, Subject, SubjectNamespace};
use kwsk_model::limits::Limits;
use kwsk_model::name::{EntityName, EntityPath, FullyQualifiedEntityName, Namespace};
use kwsk_model::package::{Binding, Package};
use kwsk_model::params::{Annotations, Parameter, Parameters};
use kwsk_model::rule::{ActionLink, Rule, RuleStatus};
use kwsk_model::trigger::{LinkedRule, LinkedRules, Trigger};
use kwsk_model::version::SemVer;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

/// Names of the grammar: short ones, ones that differ in case or separators only, ones that are nearly Kubernetes names.
pub(crate) fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z0-9_]([A-Za-z0-9_@ .&-]{0,20}[A-Za-z0-9_@.&-])?",
        2 => "[aA]([-_ .bB]{0,2}[bB])?",
        2 => "[a-z][a-z0-9-]{0,45}[a-z0-9](-00001|-private|-kn-channel|-deployment|-[a-z2-7]{10})?",
        1 => "[A-Za-z0-9_][A-Za-z0-9_@ .&-]{200,254}[A-Za-z0-9_@.&-]",
    ]
}

pub(crate) fn namespace() -> impl Strategy<Value = Namespace> {
    segment().prop_map(|text| Namespace::new(text).unwrap())
}

pub(crate) fn entity_name() -> impl Strategy<Value = EntityName> {
    segment().prop_map(|text| EntityName::new(text).unwrap())
}

pub(crate) fn path() -> impl Strategy<Value = EntityPath> {
    (namespace(), option::of(entity_name()))
        .prop_map(|(namespace, package)| EntityPath { namespace, package })
}

pub(crate) fn fqn() -> impl Strategy<Value = FullyQualifiedEntityName> {
    (path(), entity_name()).prop_map(|(path, name)| FullyQualifiedEntityName { path, name })
}

pub(crate) fn unpackaged() -> impl Strategy<Value = FullyQualifiedEntityName> {
    (namespace(), entity_name()).prop_map(|(namespace, name)| FullyQualifiedEntityName::new(namespace, name))
}

pub(crate) fn version() -> impl Strategy<Value = SemVer> {
    (0..5_u32, 0..5_u32, 1..2_000_000_u32).prop_map(|(a, b, c)| SemVer::new(a, b, c).unwrap())
}

/// Any JSON whose numbers survive text.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i16>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((".{0,4}", inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

pub(crate) fn object() -> impl Strategy<Value = Value> {
    vec(("[a-e]{1,2}|.{0,3}", json()), 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn parameter() -> impl Strategy<Value = Parameter> {
    let key = "[a-e]{1,2}|.{1,3}";
    (key, json(), prop::bool::weighted(0.2), option::weighted(0.05, Just("aes-128".to_owned())))
        .prop_map(|(key, value, init, encryption)| Parameter { key, value, init, encryption })
}

pub(crate) fn parameters() -> impl Strategy<Value = Parameters> {
    vec(parameter(), 0..5).prop_map(|all| all.into_iter().collect())
}

pub(crate) fn annotations() -> impl Strategy<Value = Annotations> {
    vec(("[a-e]{1,2}|web-export|final|kwsk.dev/min-scale", json()), 0..5)
        .prop_map(|all| all.into_iter().collect())
}

pub(crate) fn limits() -> impl Strategy<Value = Limits> {
    (100..=300_000_u64, 128..=512_u64, 0..=10_u64, 1..=200_u64, option::of(1..=1000_u64)).prop_map(
        |(timeout, memory, logs, concurrency, instances)| Limits {
            timeout,
            memory,
            logs,
            concurrency,
            instances,
        },
    )
}

pub(crate) fn stored_code() -> BoxedStrategy<Code> {
    (any::<[u8; 32]>(), 0..50_000_000_u64)
        .prop_map(|(digest, bytes)| Code::Stored(StoredCode { sha256: hex(&digest), bytes }))
        .boxed()
}

pub(crate) fn inline_code() -> BoxedStrategy<Code> {
    ".{0,40}".prop_map(Code::Inline).boxed()
}

fn entry_point() -> impl Strategy<Value = Option<String>> {
    option::of("[A-Za-z.]{1,8}")
}

/// What has code, with the code of this strategy.
pub(crate) fn exec(code: BoxedStrategy<Code>) -> impl Strategy<Value = Exec> {
    let kind = "(nodejs|python|cobol):[0-9]{1,2}";
    let image = "[a-z]{1,6}(/[a-z]{1,6})?(:[0-9]{1,3})?";
    prop_oneof![
        (kind, code.clone(), entry_point(), any::<bool>())
            .prop_map(|(kind, code, main, binary)| Exec::Code { kind, code, main, binary }),
        (image, option::of(code), entry_point(), any::<bool>())
            .prop_map(|(image, code, main, binary)| Exec::Blackbox { image, code, main, binary }),
    ]
}

pub(crate) fn sequence() -> impl Strategy<Value = Exec> {
    vec(fqn(), 1..5).prop_map(|components| Exec::Sequence { components })
}

pub(crate) fn action(exec: impl Strategy<Value = Exec>) -> impl Strategy<Value = Action> {
    (fqn(), version(), any::<bool>(), exec, parameters(), annotations(), limits(), updated()).prop_map(
        |(fqn, version, publish, exec, parameters, annotations, limits, updated)| Action {
            namespace: fqn.path,
            name: fqn.name,
            version,
            publish,
            exec,
            parameters,
            annotations,
            limits,
            updated,
        },
    )
}

fn updated() -> impl Strategy<Value = u64> {
    0..4_000_000_000_000_u64
}

pub(crate) fn package() -> impl Strategy<Value = Package> {
    let binding = (namespace(), entity_name()).prop_map(|(namespace, name)| Binding { namespace, name });
    (unpackaged(), version(), any::<bool>(), parameters(), annotations(), option::of(binding), updated())
        .prop_map(|(fqn, version, publish, parameters, annotations, binding, updated)| Package {
            namespace: fqn.path.namespace,
            name: fqn.name,
            version,
            publish,
            parameters,
            annotations,
            binding,
            updated,
        })
}

pub(crate) fn status() -> impl Strategy<Value = RuleStatus> {
    prop_oneof![Just(RuleStatus::Active), Just(RuleStatus::Inactive)]
}

pub(crate) fn linked_rules() -> impl Strategy<Value = LinkedRules> {
    let linked = (fqn(), status())
        .prop_map(|(action, status)| LinkedRule { action: ActionLink::from(&action), status });
    vec((unpackaged(), linked), 0..4).prop_map(|all| all.into_iter().collect())
}

pub(crate) fn trigger() -> impl Strategy<Value = Trigger> {
    let rules = option::of(linked_rules());
    (unpackaged(), version(), any::<bool>(), parameters(), annotations(), rules, updated()).prop_map(
        |(fqn, version, publish, parameters, annotations, rules, updated)| Trigger {
            namespace: fqn.path.namespace,
            name: fqn.name,
            version,
            publish,
            parameters,
            annotations,
            rules,
            updated,
        },
    )
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    (unpackaged(), version(), any::<bool>(), annotations(), unpackaged(), fqn(), status(), updated())
        .prop_map(|(fqn, version, publish, annotations, trigger, action, status, updated)| Rule {
            namespace: fqn.path.namespace,
            name: fqn.name,
            version,
            publish,
            annotations,
            trigger,
            action,
            status,
            updated,
        })
}

pub(crate) fn activation_id() -> impl Strategy<Value = ActivationId> {
    any::<[u8; 16]>().prop_map(ActivationId::from_bytes)
}

pub(crate) fn response() -> impl Strategy<Value = ActivationResponse> {
    (0..4_u8, option::of(object()), option::of(any::<u32>())).prop_map(|(code, result, size)| {
        ActivationResponse {
            outcome: Outcome::from_code(code).unwrap(),
            result: result.map(Into::into),
            size: size.map(u64::from),
        }
    })
}

pub(crate) fn activation() -> impl Strategy<Value = Activation> {
    let times = (updated(), option::of(updated()), option::of(updated()));
    let ids = (activation_id(), option::of(activation_id()));
    (unpackaged(), version(), ".{0,8}", ids, times, response(), vec(".{0,9}", 0..4), annotations()).prop_map(
        |(
            fqn,
            version,
            subject,
            (activation_id, cause),
            (start, end, duration),
            response,
            logs,
            annotations,
        )| {
            Activation {
                namespace: fqn.path.namespace,
                name: fqn.name,
                version,
                subject,
                activation_id,
                start,
                end,
                duration,
                cause,
                response,
                logs,
                annotations,
                publish: false,
            }
        },
    )
}

pub(crate) fn subject() -> impl Strategy<Value = Subject> {
    let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    let auth = (uuid, "[A-Za-z0-9]{64}").prop_map(|(uuid, key)| format!("{uuid}:{key}").parse().unwrap());
    let owned = (namespace(), auth).prop_map(|(name, auth)| SubjectNamespace { name, auth });
    let kinds = option::of(vec("[a-z]{1,4}:[0-9]", 0..3));
    let limits = (option::of(0..100_u64), option::of(0..9_u64), kinds, option::of(any::<bool>())).prop_map(
        |(invocations_per_minute, max_action_memory, allowed_kinds, store_activations)| NamespaceLimits {
            invocations_per_minute,
            max_action_memory,
            allowed_kinds,
            store_activations,
            ..NamespaceLimits::default()
        },
    );
    (".{5,12}", vec(owned, 0..3), any::<bool>(), limits)
        .prop_map(|(subject, namespaces, blocked, limits)| Subject { subject, namespaces, blocked, limits })
}
