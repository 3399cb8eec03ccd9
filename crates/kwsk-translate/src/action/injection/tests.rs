use kwsk_model::action::Exec;
use serde_json::json;

use super::*;
use crate::capabilities::{Features, Program, ShimOffer};

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A default installation of Knative that offers an image of the shim.
fn plain() -> Capabilities {
    Capabilities {
        features: Features::default(),
        kubernetes: KubernetesVersion::parse("v1.36.0"),
        shim: ShimOffer { image: Some(["shim.example/kwsk-shim@sha256:", DIGEST].concat()), program: None },
        append_to: None,
    }
}

/// Everything is possible.
fn rich() -> Capabilities {
    let mut all = plain();
    all.features.init_containers = Flag::Enabled;
    all.features.volumes_image = Flag::Enabled;
    all.shim.program = Some(Program { sha256: DIGEST.to_owned(), bytes: MAX_CONFIG_MAP });
    all.append_to = Some("registry.example/kwsk".to_owned());
    all
}

fn with(base: Capabilities, edit: impl FnOnce(&mut Capabilities)) -> Capabilities {
    let mut it = base;
    edit(&mut it);
    it
}

fn action(exec: &serde_json::Value, shim: Option<serde_json::Value>) -> Action {
    let mut it = Action::from_json(&json!({
        "namespace": "guest", "name": "a", "version": "0.0.1", "publish": false, "exec": exec, "parameters": [],
        "annotations": [], "limits": {"timeout": 60000, "memory": 256, "logs": 10, "concurrency": 1}, "updated": 0,
    }))
    .unwrap();
    if let Some(shim) = shim {
        it.annotations.set(keys::SHIM, shim);
    }
    it
}

fn blackbox(shim: Option<&str>) -> Action {
    action(&json!({"kind": "blackbox", "image": "team/act:1"}), shim.map(Into::into))
}

fn node() -> Action {
    action(&json!({"kind": "nodejs:20", "code": "x"}), None)
}

#[test]
fn the_first_possible_way() {
    let platform = Platform::local();
    let of = |capabilities: &Capabilities| choose(capabilities, &platform, &blackbox(None));
    let mut capabilities = rich();
    assert_eq!(of(&capabilities), Ok(Injection::Appended));
    capabilities.append_to = None;
    assert_eq!(of(&capabilities), Ok(Injection::ConfigMap));
    capabilities.shim.program = Some(Program { sha256: DIGEST.to_owned(), bytes: MAX_CONFIG_MAP + 1 });
    assert_eq!(of(&capabilities), Ok(Injection::InitContainer));
    capabilities.features.empty_dir = Flag::Disabled;
    assert_eq!(of(&capabilities), Ok(Injection::ImageVolume));
    capabilities.kubernetes = KubernetesVersion::parse("v1.34.9");
    assert_eq!(of(&capabilities), Ok(Injection::Sidecar));
    capabilities.features.multi_container = Flag::Allowed;
    let error = of(&capabilities).unwrap_err().to_string();
    for part in
        ["'team/act:1'", "repository", "1048577", "podspec-volumes-emptydir", "1.35", "multi-container"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn defaults_of_knative_leave_the_sidecar() {
    assert_eq!(choose(&plain(), &Platform::local(), &blackbox(None)), Ok(Injection::Sidecar));
}

#[test]
fn images_with_the_shim_need_nothing() {
    let mut platform = Platform::local();
    let nothing = Capabilities::default();
    assert!(matches!(choose(&nothing, &platform, &node()), Err(InjectionError::NoWay { .. })));
    platform.images.insert("nodejs:20".to_owned(), "own.example/node".to_owned());
    assert_eq!(choose(&nothing, &platform, &node()), Ok(Injection::Wrapped));
    assert_eq!(choose(&rich(), &platform, &node()), Ok(Injection::Wrapped));
    let mut tagged = blackbox(None);
    tagged.exec =
        Exec::Blackbox { image: "team/act:1-kwsk".to_owned(), code: None, main: None, binary: false };
    assert_eq!(choose(&nothing, &platform, &tagged), Ok(Injection::Wrapped));
}

#[test]
fn the_annotation_overrides() {
    let mut platform = Platform::local();
    platform.images.insert("nodejs:20".to_owned(), "own.example/node".to_owned());
    for asked in Injection::ALL {
        let mut stock = node();
        stock.annotations.set(keys::SHIM, asked.as_str());
        assert_eq!(choose(&rich(), &platform, &stock), Ok(asked));
        assert_eq!(choose(&rich(), &platform, &blackbox(Some(asked.as_str()))), Ok(asked));
    }
    // An operator who turned the gate on by hand can only be believed.
    let older = with(rich(), |it| it.kubernetes = KubernetesVersion::parse("v1.33.0"));
    assert_eq!(choose(&older, &platform, &blackbox(Some("image-volume"))), Ok(Injection::ImageVolume));
}

#[test]
fn what_the_cluster_cannot_do_is_refused() {
    let flag = |key, value| move |injection| InjectionError::FlagOff { injection, key, value };
    let old = |version: Option<&str>| {
        let version = version.and_then(KubernetesVersion::parse);
        move |_| InjectionError::OldKubernetes { version, needed: capabilities::IMAGE_VOLUMES }
    };
    type Expected = Box<dyn Fn(Injection) -> InjectionError>;
    let cases: [(&str, Capabilities, Expected, &str); 13] = [
        ("appended", plain(), Box::new(|_| InjectionError::NoRepository), "repository that kwsk may push"),
        ("configmap", plain(), Box::new(|_| InjectionError::NoProgram), "none to offer"),
        (
            "configmap",
            with(rich(), |it| it.shim.program.as_mut().unwrap().bytes = MAX_CONFIG_MAP + 1),
            Box::new(|_| InjectionError::TooLarge(MAX_CONFIG_MAP + 1)),
            "at most 1048576 bytes",
        ),
        (
            "init-container",
            plain(),
            Box::new(flag(capabilities::INIT_CONTAINERS, Flag::Disabled)),
            "'kubernetes.podspec-init-containers' to be 'enabled' in the ConfigMap 'config-features'; it is 'disabled'",
        ),
        (
            "init-container",
            with(rich(), |it| it.features.init_containers = Flag::Allowed),
            Box::new(flag(capabilities::INIT_CONTAINERS, Flag::Allowed)),
            "it is 'allowed'",
        ),
        (
            "init-container",
            with(rich(), |it| it.features.empty_dir = Flag::Disabled),
            Box::new(flag(capabilities::EMPTY_DIR, Flag::Disabled)),
            "kubernetes.podspec-volumes-emptydir",
        ),
        (
            "init-container",
            with(rich(), |it| it.shim.image = None),
            Box::new(InjectionError::NoShimImage),
            "an image of the shim",
        ),
        (
            "image-volume",
            plain(),
            Box::new(flag(capabilities::VOLUMES_IMAGE, Flag::Disabled)),
            "kubernetes.podspec-volumes-image",
        ),
        (
            "image-volume",
            with(rich(), |it| it.kubernetes = KubernetesVersion::parse("v1.32.1")),
            Box::new(old(Some("1.32"))),
            "needs Kubernetes 1.33; the cluster has 1.32",
        ),
        (
            "image-volume",
            with(rich(), |it| it.kubernetes = None),
            Box::new(old(None)),
            "the cluster's version is not known",
        ),
        (
            "image-volume",
            with(rich(), |it| it.shim.image = None),
            Box::new(InjectionError::NoShimImage),
            "'image-volume' needs an image",
        ),
        (
            "sidecar",
            with(rich(), |it| it.features.multi_container = Flag::Disabled),
            Box::new(flag(capabilities::MULTI_CONTAINER, Flag::Disabled)),
            "'multi-container'",
        ),
        (
            "sidecar",
            with(rich(), |it| it.shim.image = None),
            Box::new(InjectionError::NoShimImage),
            "'sidecar' needs an image",
        ),
    ];
    for (asked, capabilities, expected, words) in cases {
        let injection = Injection::ALL.into_iter().find(|i| i.as_str() == asked).unwrap();
        let error = choose(&capabilities, &Platform::local(), &blackbox(Some(asked))).unwrap_err();
        assert_eq!(error, expected(injection), "{asked}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.fault(), Fault::BadRequest);
        assert_eq!(injection.place(&capabilities, "i", ImageFacts::default()), Err(error));
    }
}

#[test]
fn unknown_annotations_are_refused() {
    for value in [json!("Sidecar"), json!("webhook"), json!(""), json!(true), json!(null), json!(["sidecar"])]
    {
        let it = action(&json!({"kind": "blackbox", "image": "i"}), Some(value.clone()));
        let error = choose(&rich(), &Platform::local(), &it).unwrap_err();
        assert_eq!(error, InjectionError::Unknown(value.to_string()));
        assert!(
            error
                .to_string()
                .ends_with("wrapped, appended, configmap, init-container, image-volume, sidecar")
        );
    }
}

#[test]
fn code_has_to_reach_the_action() {
    let mut platform = Platform { max_mounted_code: 3, ..Platform::local() };
    let of = |platform: &Platform, code: &str| {
        let it = action(&json!({"kind": "blackbox", "image": "i", "code": code}), None);
        choose(&plain(), platform, &it)
    };
    assert_eq!(of(&platform, "abc"), Ok(Injection::Sidecar));
    let error = of(&platform, "abcd").unwrap_err();
    assert_eq!(error, InjectionError::CodeOutOfReach { bytes: 4, most: 3 });
    assert_eq!(error.fault(), Fault::TooLarge);
    platform.code_url = Some("http://kwsk.example/code".to_owned());
    assert_eq!(of(&platform, "abcd"), Ok(Injection::Sidecar));
}

#[test]
fn places() {
    let entry = || ImageEntry { entrypoint: vec!["run".to_owned()], cmd: Vec::new() };
    let shim_image = || plain().shim.image.unwrap();
    let appended = ["registry.example/kwsk/act@sha256:", DIGEST].concat();
    let facts = ImageFacts { entry: Some(entry()), appended: Some(appended.clone()) };
    for (injection, placement) in [
        (Injection::Wrapped, Placement::Wrapped),
        (Injection::Appended, Placement::Appended { image: appended.clone() }),
        (Injection::ConfigMap, Placement::ConfigMap { sha256: DIGEST.to_owned(), entry: entry() }),
        (Injection::InitContainer, Placement::InitContainer { shim_image: shim_image(), entry: entry() }),
        (Injection::ImageVolume, Placement::ImageVolume { shim_image: shim_image(), entry: entry() }),
        (Injection::Sidecar, Placement::Sidecar { shim_image: shim_image() }),
    ] {
        assert_eq!(placement.injection(), injection);
        assert_eq!(injection.place(&rich(), "i", facts.clone()), Ok(placement));
    }
}

#[test]
fn places_need_facts() {
    let none = ImageFacts::default;
    let empty = || ImageFacts { entry: Some(ImageEntry::default()), ..none() };
    for injection in Injection::ALL.into_iter().filter(|it| it.needs_entry()) {
        let image = "team/act:1".to_owned();
        let unknown = InjectionError::EntryUnknown { injection, image: image.clone() };
        assert!(unknown.to_string().contains("'team/act:1'"), "{unknown}");
        assert_eq!(injection.place(&rich(), &image, none()), Err(unknown));
        let nothing = InjectionError::NoProgramInImage { injection, image: image.clone() };
        assert!(nothing.to_string().contains("'team/act:1'"), "{nothing}");
        assert_eq!(injection.place(&rich(), &image, empty()), Err(nothing));
    }
    let missing = InjectionError::NotAppended { image: "i".to_owned() };
    assert_eq!(Injection::Appended.place(&rich(), "i", none()), Err(missing));
    let tagged = ["registry.example/act:1", "act@sha256:00", "act@sha512:00", ""];
    for reference in tagged {
        let error = InjectionError::NotByDigest(reference.to_owned());
        let facts = ImageFacts { appended: Some(reference.to_owned()), ..none() };
        assert_eq!(Injection::Appended.place(&rich(), "i", facts), Err(error.clone()));
        assert_eq!(error.fault(), Fault::Internal);
        let moved = with(rich(), |it| it.shim.image = Some(reference.to_owned()));
        assert_eq!(Injection::Sidecar.place(&moved, "i", none()), Err(error));
    }
}
