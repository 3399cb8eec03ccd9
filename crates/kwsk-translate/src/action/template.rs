//! The template of an action's service: everything whose change must restart the instances.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kwsk_model::action::Action;
use kwsk_model::limits::Limits;

use super::{Injection, Placement, Runtime, pod};
use crate::keys;
use crate::manifest::kservice::{RevisionSpec, RevisionTemplate};
use crate::platform::Platform;

/// Shortest request timeout, in seconds: a pod drains for 30 s, and the timeout is also its grace period.
const MIN_TIMEOUT_SECONDS: u64 = 60;
/// How long a revision may take to become ready, before the image is reported as broken.
const PROGRESS_DEADLINE: &str = "120s";

pub(super) fn of(
    platform: &Platform,
    action: &Action,
    object_name: &str,
    placement: &Placement,
) -> RevisionTemplate {
    let runtime = Runtime::of(action);
    let timeout = timeout_seconds(platform, &action.limits);
    RevisionTemplate {
        metadata: ObjectMeta {
            annotations: Some(annotations(platform, action, &runtime, placement.injection())),
            ..ObjectMeta::default()
        },
        spec: RevisionSpec {
            pod: pod::of(platform, action, &runtime, object_name, placement),
            container_concurrency: i64::try_from(action.limits.concurrency).ok(),
            timeout_seconds: timeout,
            // Knative fills in 300 where a longer timeout stands alone.
            response_start_timeout_seconds: timeout,
            idle_timeout_seconds: None,
        },
    }
}

/// Init and run each have the action's limit; a cold start comes on top. One number has to hold all of it.
fn timeout_seconds(platform: &Platform, limits: &Limits) -> Option<i64> {
    let longest = platform.max_timeout_seconds;
    let wanted = (2 * limits.timeout).div_ceil(1000) + platform.cold_start_seconds;
    i64::try_from(wanted.max(MIN_TIMEOUT_SECONDS).min(longest)).ok()
}

fn annotations(
    platform: &Platform,
    action: &Action,
    runtime: &Runtime,
    injection: Injection,
) -> BTreeMap<String, String> {
    let most = most_instances(platform, &action.limits);
    let mut all = BTreeMap::new();
    let mut set = |key: &str, value: String| {
        all.insert(key.to_owned(), value);
    };
    set(keys::TARGET_BURST_CAPACITY, "-1".to_owned());
    set(keys::TARGET_UTILIZATION, "100".to_owned());
    set(keys::MAX_SCALE, most.to_string());
    set(keys::PROGRESS_DEADLINE, PROGRESS_DEADLINE.to_owned());
    set(keys::RUNTIME, serde_json::to_string(runtime).unwrap_or_default());
    if injection != Injection::Wrapped {
        set(keys::SHIM, injection.to_string());
    }
    if let Some(code) = &runtime.code {
        set(keys::CODE_DIGEST, ["sha256:", &code.sha256].concat());
    }
    let given = |key: &str| action.annotations.get(key);
    if let Some(fewest) =
        given("kwsk.dev/min-scale").and_then(serde_json::Value::as_u64).filter(|n| *n <= most)
    {
        set(keys::MIN_SCALE, fewest.to_string());
    }
    for (from, to, least) in
        [("kwsk.dev/window", keys::WINDOW, 6), ("kwsk.dev/retention", keys::RETENTION, 0)]
    {
        if let Some(time) = given(from).and_then(|v| v.as_str()).filter(|t| is_duration(t, least)) {
            set(to, time.to_owned());
        }
    }
    all
}

/// The action's own limit, or as many instances as the namespace may run activations.
fn most_instances(platform: &Platform, limits: &Limits) -> u64 {
    let all = platform.limits.concurrent_invocations.div_ceil(limits.concurrency.max(1));
    limits.instances.unwrap_or(all).max(1)
}

/// Whole seconds, minutes or an hour, within what Knative's webhook takes.
fn is_duration(text: &str, least_seconds: u64) -> bool {
    let unit =
        |suffix, factor: u64| Some(text.strip_suffix(suffix)?.parse::<u64>().ok()?.saturating_mul(factor));
    let seconds = unit("s", 1).or_else(|| unit("m", 60)).or_else(|| unit("h", 3600));
    seconds.is_some_and(|s| (least_seconds..=3600).contains(&s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let seconds = |timeout| timeout_seconds(&Platform::local(), &Limits { timeout, ..Limits::default() });
        for (ms, s) in [(100, 61), (60_000, 180), (1_001, 63), (270_000, 600), (300_000, 600)] {
            assert_eq!(seconds(ms), Some(s), "{ms}");
        }
    }

    #[test]
    fn durations() {
        for good in ["6s", "90s", "5m", "1h", "3600s"] {
            assert!(is_duration(good, 6), "{good}");
        }
        for bad in ["5s", "1.5s", "2h", "3601s", "", "s", "-6s", "1d", "99999999999999999999s"] {
            assert!(!is_duration(bad, 6), "{bad}");
        }
    }
}
