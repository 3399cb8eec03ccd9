//! The pod of an action's instances, for each way the shim gets next to the runtime.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, PodSpec, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kwsk_model::action::Action;
use kwsk_model::limits::MB;

use super::files::{self, Mounted};
use super::{ImageEntry, Placement, Runtime};
use crate::platform::Platform;

/// The port the shim listens on. The runtime keeps upstream's 8080.
pub const PORT: i32 = 8090;
/// The container of the runtime.
const ACTION: &str = "action";
/// The container of the shim, where it has one.
const SHIM: &str = "shim";
/// The user of containers in which nothing but the shim runs.
const NOBODY: i64 = 65532;

pub(super) fn of(
    platform: &Platform,
    action: &Action,
    runtime: &Runtime,
    object_name: &str,
    placement: &Placement,
) -> PodSpec {
    let is_large = runtime.code.as_ref().is_some_and(|code| code.bytes > platform.max_mounted_code);
    let code_url = platform.code_url.as_deref().filter(|_| is_large);
    let mut mounted = vec![files::action(platform, runtime, object_name)];
    mounted.extend(code_url.map(|_| files::token()));
    mounted.extend(shim_file(placement));
    let (volumes, mounts) = mounted.into_iter().map(|it| (it.volume, it.mount)).unzip();
    let mut env = vec![variable("KWSK_ACTION", object_name)];
    env.extend(code_url.map(|url| variable("KWSK_CODE_URL", url)));
    let serving = Container {
        ports: Some(vec![ContainerPort { container_port: PORT, ..ContainerPort::default() }]),
        env: Some(env),
        readiness_probe: Some(is_ready()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodSpec {
        automount_service_account_token: Some(false),
        init_containers: installer(platform, placement).map(|it| vec![it]),
        containers: containers(platform, action, runtime, placement, serving),
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// The shim, unless it is in the image already.
fn shim_file(placement: &Placement) -> Option<Mounted> {
    match placement {
        Placement::ConfigMap { sha256, .. } => Some(files::shim_from_config_map(sha256)),
        Placement::InitContainer { .. } => Some(files::shim_installed()),
        Placement::ImageVolume { shim_image, .. } => Some(files::shim_from_image(shim_image)),
        Placement::Wrapped | Placement::Appended { .. } | Placement::Sidecar { .. } => None,
    }
}

fn installer(platform: &Platform, placement: &Placement) -> Option<Container> {
    let Placement::InitContainer { shim_image, .. } = placement else {
        return None;
    };
    let volume = files::shim_installed().volume.name;
    let mut security = own_security();
    security.read_only_root_filesystem = Some(true);
    Some(Container {
        name: "install-shim".to_owned(),
        image: Some(shim_image.clone()),
        command: Some(vec![files::shim(), "install".to_owned(), files::INSTALLATION.to_owned()]),
        resources: Some(memory(platform.shim_memory)),
        security_context: Some(security),
        volume_mounts: Some(vec![files::mount(&volume, files::INSTALLATION, false)]),
        ..Container::default()
    })
}

/// `serving` has what the shim needs in every container; the rest depends on whether the runtime is in it too.
fn containers(
    platform: &Platform,
    action: &Action,
    runtime: &Runtime,
    placement: &Placement,
    serving: Container,
) -> Vec<Container> {
    let image = platform.image(&action.exec);
    let around = |image: String, entry: Option<&ImageEntry>| Container {
        name: ACTION.to_owned(),
        image: Some(image),
        command: entry.map(command),
        args: entry.filter(|entry| !entry.cmd.is_empty()).map(|entry| literals(&entry.cmd).collect()),
        resources: Some(memory(action.limits.memory + platform.shim_memory)),
        security_context: Some(foreign_security(platform)),
        ..serving.clone()
    };
    match placement {
        Placement::Wrapped => vec![around(image, None)],
        Placement::Appended { image } => vec![around(image.clone(), None)],
        Placement::ConfigMap { entry, .. }
        | Placement::InitContainer { entry, .. }
        | Placement::ImageVolume { entry, .. } => vec![around(image, Some(entry))],
        Placement::Sidecar { shim_image } => {
            let shim = Container {
                name: SHIM.to_owned(),
                image: Some(shim_image.clone()),
                command: Some(vec![files::shim(), "attach".to_owned()]),
                resources: Some(memory(platform.shim_memory + memory_for_code(runtime))),
                security_context: Some(own_security()),
                ..serving
            };
            let runtime = Container {
                name: ACTION.to_owned(),
                image: Some(image),
                resources: Some(memory(action.limits.memory)),
                security_context: Some(foreign_security(platform)),
                ..Container::default()
            };
            vec![shim, runtime]
        }
    }
}

/// MiB. A shim that cannot use the action's memory holds the code twice: as text, and as the body of `/init`.
fn memory_for_code(runtime: &Runtime) -> u64 {
    2 * runtime.code.as_ref().map_or(0, |code| code.bytes.div_ceil(MB))
}

/// The same argv as in an image with the shim appended: the shim before the entry point, the arguments as they were.
fn command(entry: &ImageEntry) -> Vec<String> {
    let shim = [files::shim(), "exec".to_owned(), "--".to_owned()];
    shim.into_iter().chain(literals(&entry.entrypoint)).collect()
}

/// Kubernetes replaces `$(NAME)` in commands and arguments, container runtimes do not; `$$` is a dollar sign.
fn literals(argv: &[String]) -> impl Iterator<Item = String> {
    argv.iter().map(|argument| argument.replace('$', "$$"))
}

/// Asked by Knative's queue-proxy over loopback.
fn is_ready() -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/kwsk/ready".to_owned()),
            // The type has no way to leave it out, and 0 is no port.
            port: IntOrString::Int(PORT),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}

fn memory(mib: u64) -> ResourceRequirements {
    let mut quantity = mib.to_string();
    quantity.push_str("Mi");
    let memory = BTreeMap::from([("memory".to_owned(), Quantity(quantity))]);
    ResourceRequirements {
        limits: Some(memory.clone()),
        requests: Some(memory),
        ..ResourceRequirements::default()
    }
}

/// Pod Security "restricted" but for `runAsNonRoot`: most OpenWhisk images run as root.
fn foreign_security(platform: &Platform) -> SecurityContext {
    SecurityContext { run_as_non_root: platform.run_as_non_root, ..bounded() }
}

/// Pod Security "restricted".
fn own_security() -> SecurityContext {
    SecurityContext { run_as_non_root: Some(true), run_as_user: Some(NOBODY), ..bounded() }
}

fn bounded() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}
