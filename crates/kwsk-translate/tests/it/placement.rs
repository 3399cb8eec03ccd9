//! `cases/placement/*.json` → the document for each way the shim gets next to a runtime, valid by Knative's schemas and by
//! what its webhook checks beyond them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use kwsk_translate::action::{self, ImageEntry, ImageFacts, Injection};
use kwsk_translate::capabilities::{
    Capabilities, Features, Flag, KubernetesVersion, MAX_CONFIG_MAP, Program, ShimOffer,
};
use kwsk_translate::document::Resource;
use kwsk_translate::keys;
use kwsk_translate::platform::Platform;
use serde_json::Value;

use crate::golden::{check_as, kept};
use crate::manifest::{action_of, platform};

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A cluster and an installation that can do everything.
fn capabilities() -> Capabilities {
    Capabilities {
        features: Features {
            init_containers: Flag::Enabled,
            volumes_image: Flag::Enabled,
            ..Features::default()
        },
        kubernetes: KubernetesVersion::parse("v1.36.1"),
        shim: ShimOffer {
            image: Some(["registry.example/kwsk/shim@sha256:", DIGEST].concat()),
            program: Some(Program { sha256: DIGEST.to_owned(), bytes: MAX_CONFIG_MAP }),
        },
        append_to: Some("registry.example/kwsk".to_owned()),
    }
}

fn platform_of(case: &Value) -> Platform {
    let mut platform = platform();
    platform.code_url = Some("http://kwsk.kwsk-system.svc.cluster.local/code".to_owned());
    platform.run_as_non_root = case["run_as_non_root"].as_bool();
    platform.images.extend(
        serde_json::from_value::<Option<BTreeMap<_, _>>>(case["images"].clone()).unwrap().unwrap_or_default(),
    );
    if let Some(most) = case["max_mounted_code"].as_u64() {
        platform.max_mounted_code = most;
    }
    platform
}

fn facts_of(case: &Value) -> ImageFacts {
    let list = |key: &str| serde_json::from_value(case["image"][key].clone()).unwrap();
    ImageFacts {
        entry: case["image"]
            .is_object()
            .then(|| ImageEntry { entrypoint: list("entrypoint"), cmd: list("cmd") }),
        appended: case["appended"].as_str().map(str::to_owned),
    }
}

#[test]
fn placements() {
    insta::glob!("cases/placement/*.json", |path| {
        let case: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let (platform, capabilities) = (platform_of(&case), capabilities());
        let it = action_of(&platform, case["action"].as_object().unwrap()).unwrap();
        let injection = action::choose(&capabilities, &platform, &it).unwrap();
        let placement = injection.place(&capabilities, &platform.image(&it.exec), facts_of(&case)).unwrap();
        let service = action::to_kservice_with(&platform, &it, &placement);
        let document = check_as("placement", &service.to_document());
        assert_eq!(action::from_kservice(&platform, &document).unwrap(), kept(it.clone()));
        assert_eq!(action::Runtime::from_document(&document).unwrap(), action::Runtime::of(&it));
        let annotations = service.spec.template.metadata.annotations.unwrap();
        let noted = annotations.get(keys::SHIM).map_or("wrapped", String::as_str);
        assert_eq!(noted, injection.as_str());
        admitted(&service.spec.template.spec.pod, injection);
    });
}

/// What Knative's webhook refuses although the schema allows it.
fn admitted(pod: &PodSpec, injection: Injection) {
    let volumes = pod.volumes.as_deref().unwrap_or_default();
    let others = pod.init_containers.as_deref().unwrap_or_default();
    let all: Vec<&Container> = pod.containers.iter().chain(others).collect();
    let serving: Vec<_> = pod.containers.iter().filter(|it| it.ports.is_some()).collect();
    assert_eq!(serving.len(), 1, "exactly one container serves");
    assert_eq!(serving[0].ports.as_ref().unwrap().len(), 1);
    assert_eq!(pod.containers.len() == 2, injection == Injection::Sidecar);
    assert_eq!(others.len() == 1, injection == Injection::InitContainer);
    for (index, container) in all.iter().enumerate() {
        assert!(container.name != "queue-proxy" && all[..index].iter().all(|it| it.name != container.name));
        assert!(container.lifecycle.is_none() && container.liveness_probe.is_none());
        assert!(container.ports.is_some() || container.readiness_probe.is_none(), "a probe without a port");
        for variable in container.env.iter().flatten() {
            assert!(
                !["PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"].contains(&variable.name.as_str())
            );
            assert!(variable.value_from.is_none(), "needs kubernetes.podspec-fieldref");
        }
        for mount in container.volume_mounts.iter().flatten() {
            let volume = volumes.iter().find(|it| it.name == mount.name).expect("a volume for each mount");
            assert!(mount.read_only == Some(true) || volume.empty_dir.is_some(), "{}", mount.mount_path);
            assert!(!["/", "/dev", "/dev/log"].contains(&mount.mount_path.as_str()));
        }
        let security = container.security_context.as_ref().unwrap();
        assert_eq!(security.allow_privilege_escalation, Some(false));
        assert_eq!(security.capabilities.as_ref().unwrap().add, None);
        assert!(security.seccomp_profile.is_some());
    }
    for volume in volumes {
        let is_mounted = |it: &&Container| it.volume_mounts.iter().flatten().any(|m| m.name == volume.name);
        assert!(all.iter().any(is_mounted), "'{}' is mounted nowhere", volume.name);
    }
}

/// The path that commands name is the path that mounts make, whichever way the shim comes.
#[test]
fn the_shim_is_where_the_command_says() {
    let capabilities = capabilities();
    for injection in Injection::ALL.into_iter().filter(|it| it.needs_entry()) {
        let entry = ImageEntry { entrypoint: vec!["/bin/act".to_owned()], cmd: Vec::new() };
        let placement =
            injection.place(&capabilities, "i", ImageFacts { entry: Some(entry), appended: None }).unwrap();
        let it = serde_json::json!({"namespace": "guest", "name": "a", "exec": {"kind": "blackbox", "image": "i"}});
        let it = action_of(&platform(), it.as_object().unwrap()).unwrap();
        let pod = action::to_kservice_with(&platform(), &it, &placement).spec.template.spec.pod;
        let container = &pod.containers[0];
        assert_eq!(container.command.as_ref().unwrap()[..3], ["/kwsk/bin/shim", "exec", "--"]);
        let mount = container.volume_mounts.iter().flatten().find(|it| it.name == "shim").unwrap();
        assert_eq!(mount.mount_path, "/kwsk/bin");
        let volume = pod.volumes.iter().flatten().find(|it| it.name == "shim").unwrap();
        // Of an image a directory is mounted; everything else is a directory with the file in it.
        assert_eq!(mount.sub_path.as_deref(), volume.image.is_some().then_some("kwsk/bin"));
        if let Some(source) = &volume.config_map {
            let items = source.items.as_ref().unwrap();
            assert!(items.len() == 1 && items[0].path == "shim" && items[0].mode == Some(0o555));
        }
        for installer in pod.init_containers.iter().flatten() {
            let target = installer.volume_mounts.iter().flatten().find(|it| it.name == "shim").unwrap();
            assert_ne!(
                target.mount_path, mount.mount_path,
                "the mount would hide the program that is to run"
            );
            assert_eq!(
                installer.command.as_ref().unwrap(),
                &["/kwsk/bin/shim", "install", target.mount_path.as_str()]
            );
        }
    }
}

#[test]
fn the_config_map_has_the_program_and_its_name() {
    let it = action::shim_config_map("guest", b"\x7fELF".to_vec()).unwrap();
    insta::assert_yaml_snapshot!(it);
    let most = usize::try_from(MAX_CONFIG_MAP).unwrap();
    assert!(action::shim_config_map("guest", vec![0; most]).is_ok());
    let error = action::shim_config_map("guest", vec![0; most + 1]).unwrap_err();
    assert_eq!(error.to_string(), "the shim has 1048577 bytes; a ConfigMap takes 1048576");
}
