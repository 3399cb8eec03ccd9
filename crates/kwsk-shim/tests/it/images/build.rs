//! Images from nothing: the same every time, and what they are said to be.

use std::path::{Path, PathBuf};
use std::process::Command;

use kwsk_shim::image::{Client, Credentials, Digest, LayerRecipe, Layout, Platform, Progress, Recipe, Step};
use serde_json::{Value, json};

use super::registry::{Bench, OCI, OCI_INDEX, Registry, unpacked};

fn client() -> Client {
    Client::new(Credentials::of(Vec::new()), Progress::silent())
}

/// A package with a file, a link and a manual, made by the tool that makes all packages.
fn deb(dir: &Path, name: &str) -> PathBuf {
    let root = dir.join(format!("{name}-root"));
    for (path, content) in [
        (
            "DEBIAN/control",
            format!(
                "Package: {name}\nVersion: 1.0+x\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: x\n"
            ),
        ),
        ("bin/tool", format!("#!/bin/sh\necho {name}\n")),
        ("usr/share/man/man1/tool.1", "manual".to_owned()),
        (&format!("usr/share/doc/{name}/copyright"), "licence".to_owned()),
    ] {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let out = dir.join("debs");
    std::fs::create_dir_all(&out).unwrap();
    let built = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(&root)
        .arg(&out)
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    out
}

/// The same content in another directory, with other times and another umask.
fn recipe(bench: &Bench, debs: &Path, seed: u32) -> (tempfile::TempDir, Recipe) {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("b")).unwrap();
    for name in if seed == 0 { ["b/x", "a", "z"] } else { ["z", "b/x", "a"] } {
        std::fs::write(tree.join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("a", tree.join("link")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(if seed == 0 { 0o644 } else { 0o600 });
    std::fs::set_permissions(tree.join("a"), mode).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000 + u64::from(seed));
    std::fs::File::open(tree.join("z")).unwrap().set_modified(time).unwrap();
    let steps = vec![
        Step::Symlink { path: "bin".to_owned(), target: "usr/bin".to_owned() },
        Step::Debs(debs.to_owned()),
        Step::Add { from: tree, to: "/srv".to_owned(), mode: None },
        Step::Directory { path: "/tmp".to_owned(), mode: 0o1777 },
    ];
    let recipe = Recipe {
        platform: Some(Platform::linux("amd64")),
        layers: vec![LayerRecipe { steps, slim: true }],
        shims: bench.shims.clone(),
        entrypoint: Some(vec![
            "/kwsk/bin/shim".to_owned(),
            "exec".to_owned(),
            "--".to_owned(),
            "tool".to_owned(),
        ]),
        env: vec![("PATH".to_owned(), "/usr/bin".to_owned())],
        user: Some("65532:65532".to_owned()),
        workdir: Some("/tmp".to_owned()),
        labels: vec![("a".to_owned(), "b".to_owned())],
        name: Some("kwsk/test".to_owned()),
        ..Recipe::default()
    };
    (dir, recipe)
}

fn listed(dir: &Path) -> Vec<(PathBuf, Digest)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(listed(&path)),
            false => found.push((path.clone(), Digest::of(&std::fs::read(&path).unwrap()))),
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_same_input_makes_the_same_image() {
    let (bench, work) = (Bench::new(), tempfile::tempdir().unwrap());
    deb(work.path(), "one");
    let debs = deb(work.path(), "two");
    let mut all = Vec::new();
    for seed in 0..2 {
        let (dir, recipe) = recipe(&bench, &debs, seed);
        let out = dir.path().join("out");
        let digest = recipe.build(&client(), &out).await.unwrap();
        let below: Vec<_> = listed(&out)
            .into_iter()
            .map(|(path, d)| (path.strip_prefix(&out).unwrap().to_owned(), d))
            .collect();
        all.push((digest, below));
    }
    assert_eq!(all[0], all[1]);
    let (dir, mut other) = recipe(&bench, &debs, 0);
    other.user = None;
    assert_ne!(other.build(&client(), &dir.path().join("out")).await.unwrap(), all[0].0);
}

#[tokio::test]
async fn a_built_image_is_pushed_with_its_documents_and_can_be_appended_to() {
    let (registry, bench, work) = (Registry::start().await, Bench::new(), tempfile::tempdir().unwrap());
    let debs = deb(work.path(), "one");
    let (dir, recipe) = recipe(&bench, &debs, 0);
    let out = dir.path().join("out");
    let digest = recipe.build(&client(), &out).await.unwrap();
    let layout = Layout::open(&out).unwrap();
    let pushed = layout.push(&client(), &registry.reference("kwsk/test:1")).await.unwrap();
    assert_eq!(pushed, registry.reference("kwsk/test").at(&digest));

    let document = registry.document("kwsk/test", "1", OCI[0]).await;
    let config: Value =
        serde_json::from_slice(&registry.blob("kwsk/test", &document["config"]).await).unwrap();
    assert_eq!(
        config["config"],
        json!({
            "Entrypoint": ["/kwsk/bin/shim", "exec", "--", "tool"], "Cmd": null, "Env": ["PATH=/usr/bin"],
            "User": "65532:65532", "WorkingDir": "/tmp", "Labels": {"a": "b"},
        })
    );
    let files = unpacked(&registry.blob("kwsk/test", &document["layers"][0]).await);
    let names: Vec<&str> = files.iter().map(|(path, ..)| path.as_str()).collect();
    for path in ["bin", "usr/bin/tool", "usr/share/doc/one/copyright", "srv/b/x", "var/lib/dpkg/status.d/one"]
    {
        assert!(names.contains(&path), "{path}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("man1")));
    assert_eq!(files.iter().find(|(path, ..)| path == "tmp/").unwrap().1, 0o1777);

    let list = registry.document("kwsk/test", &format!("sha256-{}", digest.hex()), OCI_INDEX).await;
    let sbom = registry.document("kwsk/test", list["manifests"][0]["digest"].as_str().unwrap(), OCI[0]).await;
    let sbom: Value = serde_json::from_slice(&registry.blob("kwsk/test", &sbom["layers"][0]).await).unwrap();
    let package =
        sbom["packages"].as_array().unwrap().iter().find(|package| package["name"] == "one").unwrap();
    assert_eq!(package["versionInfo"], "1.0+x");
    assert_eq!(package["externalRefs"][0]["referenceLocator"], "pkg:deb/debian/one@1.0%2Bx?arch=all");

    // The shim that it was built with is the one to be replaced.
    let same = bench.append(registry.reference("kwsk/test:1"), registry.reference("again")).await.unwrap();
    assert_eq!(same.reference.digest(), Some(&digest));
    let mut newer = Bench::new();
    newer.shim("amd64", b"newer");
    let appended =
        newer.append(registry.reference("kwsk/test:1"), registry.reference("again")).await.unwrap();
    let after = registry.document("again", appended.reference.digest().unwrap().as_str(), OCI[0]).await;
    assert_eq!(after["layers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_image_on_top_of_another() {
    let (registry, work) = (Registry::start().await, tempfile::tempdir().unwrap());
    registry
        .put_image(
            "base",
            "1",
            OCI,
            "amd64",
            &json!({"Entrypoint": ["/a"], "Cmd": ["b"], "Env": ["A=1", "B=2"]}),
        )
        .await;
    std::fs::write(work.path().join("file"), "content").unwrap();
    let add = Step::Add { from: work.path().join("file"), to: "/file".to_owned(), mode: Some(0o400) };
    let recipe = |base: String| Recipe {
        base: Some(base),
        platform: Some(Platform::linux("amd64")),
        layers: vec![LayerRecipe { steps: vec![add.clone()], slim: false }],
        env: vec![("A".to_owned(), "3".to_owned())],
        ..Recipe::default()
    };
    let first = work.path().join("first");
    recipe(registry.reference("base:1").to_string()).build(&client(), &first).await.unwrap();
    let second = work.path().join("second");
    recipe(first.display().to_string()).build(&client(), &second).await.unwrap();
    Layout::open(&second).unwrap().push(&client(), &registry.reference("new:1")).await.unwrap();
    let document = registry.document("new", "1", OCI[0]).await;
    assert_eq!(document["layers"].as_array().unwrap().len(), 4);
    let config: Value = serde_json::from_slice(&registry.blob("new", &document["config"]).await).unwrap();
    assert_eq!(config["config"]["Entrypoint"], json!(["/a"]));
    assert_eq!(config["config"]["Cmd"], json!(["b"]));
    assert_eq!(config["config"]["Env"], json!(["B=2", "A=3"]));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn what_cannot_be_built_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let build = async |step: Step| {
        let recipe =
            Recipe { layers: vec![LayerRecipe { steps: vec![step], slim: false }], ..Recipe::default() };
        recipe.build(&client(), &dir.path().join("out")).await.unwrap_err().to_string()
    };
    let add = |from: &str, to: &str| Step::Add { from: from.into(), to: to.to_owned(), mode: None };
    assert!(build(add("/no/such", "/x")).await.contains("/no/such"));
    assert!(build(add("/etc/hostname", "../x")).await.contains("leads out of the image"));
    let debs = dir.path().join("debs");
    std::fs::create_dir(&debs).unwrap();
    assert!(build(Step::Debs(debs.clone())).await.contains("no .deb files"));
    std::fs::write(debs.join("x.deb"), "no package").unwrap();
    let error = build(Step::Debs(debs)).await;
    assert!(error.contains("dpkg-deb") && error.contains("x.deb"), "{error}");
    std::fs::create_dir(dir.path().join("full")).unwrap();
    std::fs::write(dir.path().join("full/file"), "mine").unwrap();
    let error = Recipe::default().build(&client(), &dir.path().join("full")).await.unwrap_err().to_string();
    assert!(error.contains("other files") && dir.path().join("full/file").is_file(), "{error}");
}
