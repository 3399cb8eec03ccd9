//! The template of an action's service: everything whose change must restart the instances.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, DownwardAPIProjection, DownwardAPIVolumeFile, EnvVar, HTTPGetAction,
    ObjectFieldSelector, PodSpec, Probe, ProjectedVolumeSource, ResourceRequirements, SecretProjection,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kwsk_model::action::Action;
use kwsk_model::limits::Limits;

use super::Runtime;
use crate::keys;
use crate::manifest::kservice::{RevisionSpec, RevisionTemplate};
use crate::names;
use crate::platform::Platform;

/// The port the shim listens on. The runtime keeps upstream's 8080.
pub const PORT: i32 = 8090;
/// Where the shim finds what belongs to the action.
const MOUNT: &str = "/kwsk/action";
/// Shortest request timeout, in seconds: a pod drains for 30 s, and the timeout is also its grace period.
const MIN_TIMEOUT_SECONDS: u64 = 60;
/// How long a revision may take to become ready, before the image is reported as broken.
const PROGRESS_DEADLINE: &str = "120s";

pub(super) fn of(platform: &Platform, action: &Action, object_name: &str) -> RevisionTemplate {
    let runtime = Runtime::of(action);
    let timeout = timeout_seconds(platform, &action.limits);
    RevisionTemplate {
        metadata: ObjectMeta {
            annotations: Some(annotations(platform, action, &runtime)),
            ..ObjectMeta::default()
        },
        spec: RevisionSpec {
            pod: PodSpec {
                automount_service_account_token: Some(false),
                containers: vec![container(platform, action, object_name)],
                volumes: Some(vec![volume(platform, &runtime, object_name)]),
                ..PodSpec::default()
            },
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

fn annotations(platform: &Platform, action: &Action, runtime: &Runtime) -> BTreeMap<String, String> {
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

fn container(platform: &Platform, action: &Action, object_name: &str) -> Container {
    let mut memory = (action.limits.memory + platform.shim_memory).to_string();
    memory.push_str("Mi");
    let memory = BTreeMap::from([("memory".to_owned(), Quantity(memory))]);
    Container {
        name: "action".to_owned(),
        image: Some(platform.image(&action.exec)),
        ports: Some(vec![ContainerPort { container_port: PORT, ..ContainerPort::default() }]),
        env: Some(vec![EnvVar {
            name: "KWSK_ACTION".to_owned(),
            value: Some(object_name.to_owned()),
            ..EnvVar::default()
        }]),
        readiness_probe: Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/kwsk/ready".to_owned()),
                // The type has no way to leave it out, and 0 is no port.
                port: IntOrString::Int(PORT),
                ..HTTPGetAction::default()
            }),
            ..Probe::default()
        }),
        resources: Some(ResourceRequirements {
            limits: Some(memory.clone()),
            requests: Some(memory),
            ..ResourceRequirements::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: "action".to_owned(),
            mount_path: MOUNT.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// `runtime` from the pod's own annotation, `code` when it fits a Secret, and the bound parameters when there are any.
fn volume(platform: &Platform, runtime: &Runtime, object_name: &str) -> Volume {
    let mut sources = vec![VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![own_annotation(keys::RUNTIME, "runtime")]),
        }),
        ..VolumeProjection::default()
    }];
    if let Some(code) = runtime.code.as_ref().filter(|code| code.bytes <= platform.max_mounted_code) {
        sources.push(secret(names::code_secret(&code.sha256), false));
    }
    sources.push(secret(names::parameters_secret(object_name), true));
    Volume {
        name: "action".to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), ..ProjectedVolumeSource::default() }),
        ..Volume::default()
    }
}

fn own_annotation(key: &str, path: &str) -> DownwardAPIVolumeFile {
    let field_path = ["metadata.annotations['", key, "']"].concat();
    DownwardAPIVolumeFile {
        field_ref: Some(ObjectFieldSelector { field_path, ..ObjectFieldSelector::default() }),
        path: path.to_owned(),
        ..DownwardAPIVolumeFile::default()
    }
}

fn secret(name: String, optional: bool) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name,
            optional: optional.then_some(true),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    }
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
