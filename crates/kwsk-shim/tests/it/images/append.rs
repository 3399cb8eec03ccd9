//! Images that are appended to come back as they should.

use kwsk_shim::image::{AppendRequest, Blobs, Digest, Platform};
use serde_json::{Value, json};

use super::registry::{
    Bench, DOCKER, DOCKER_LIST, OCI, OCI_INDEX, Registry, described, elf, login, request, sha256, unpacked,
};

fn run() -> Value {
    json!({"Entrypoint": ["node", "/server.js"], "Cmd": ["x"], "Env": ["A=1"], "User": "7", "WorkingDir": "/w"})
}

const WRAPPED: [&str; 5] = ["/kwsk/bin/shim", "exec", "--", "node", "/server.js"];

#[tokio::test]
async fn an_image_gets_a_layer_and_a_command() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    for types in [OCI, DOCKER] {
        let repository = if types == OCI { "base/oci" } else { "base/docker" };
        let base = registry.put_image(repository, "1", types, "amd64", &run()).await;
        let before = registry.document(repository, "1", types[0]).await;
        let to = registry.reference(&format!("{repository}-kwsk:t"));
        let appended =
            bench.append(registry.reference(&format!("{repository}:1")), to.clone()).await.unwrap();

        let digest = appended.reference.digest().unwrap().to_string();
        assert_eq!(appended.reference.to_string(), format!("{}/{repository}-kwsk@{digest}", registry.host));
        let after = registry.document(to.repository(), &digest, types[0]).await;
        assert_eq!(registry.document(to.repository(), "t", types[0]).await, after);
        let layers = after["layers"].as_array().unwrap();
        assert_eq!(layers[..2], before["layers"].as_array().unwrap()[..]);
        assert_eq!(layers[2]["mediaType"], types[2]);
        for layer in &layers[..2] {
            registry.blob(to.repository(), layer).await;
        }
        let files = unpacked(&registry.blob(to.repository(), &layers[2]).await);
        let shim = elf("amd64", b"shim");
        assert_eq!(files[2], ("kwsk/bin/shim".to_owned(), 0o755, shim.clone()));

        let config = registry.blob(to.repository(), &after["config"]).await;
        let config: Value = serde_json::from_slice(&config).unwrap();
        let mut expected = run();
        expected["Entrypoint"] = json!(WRAPPED);
        assert_eq!(config["config"], expected);
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
        let by = config["history"][2]["created_by"].as_str().unwrap();
        assert_eq!(by, format!("kwsk-shim append {}", sha256(&shim)));
        assert_ne!(base["digest"].as_str().unwrap(), digest);
    }
}

#[tokio::test]
async fn layers_are_mounted_within_a_registry_and_copied_between_two() {
    let (registry, other, bench) = (Registry::start().await, Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "amd64", &run()).await;
    let before = registry.count("PUT /v2/new/blobs/uploads/", 201);
    let appended = bench.append(registry.reference("base:1"), registry.reference("new")).await.unwrap();
    assert_eq!(appended.blobs, Blobs { uploaded: 2, mounted: 2, there: 0 });
    assert_eq!(registry.count("POST /v2/new/blobs/uploads/?mount=sha256:", 201), 2);
    // Shim, configuration, and what is attached: an empty configuration and two documents.
    assert_eq!(registry.count("PUT /v2/new/blobs/uploads/", 201) - before, 5);
    assert_eq!(registry.count("GET /v2/base/blobs/", 200), 1, "only the configuration is read");

    let copied = bench.append(registry.reference("base:1"), other.reference("new")).await.unwrap();
    assert_eq!(copied.blobs, Blobs { uploaded: 4, mounted: 0, there: 0 });
    assert_eq!(copied.reference.digest(), appended.reference.digest());
    let document = other.document("new", copied.reference.digest().unwrap().as_str(), OCI[0]).await;
    for layer in document["layers"].as_array().unwrap() {
        other.blob("new", layer).await;
    }
    // Another tag of the same base: everything is there, and only looked for.
    registry.put_image("base", "2", OCI, "amd64", &json!({"Cmd": ["y"]})).await;
    let second = bench.append(registry.reference("base:2"), other.reference("new")).await.unwrap();
    assert_eq!(second.blobs, Blobs { uploaded: 1, mounted: 0, there: 3 });
}

#[tokio::test]
async fn what_was_made_before_is_not_made_again() {
    let (registry, mut bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "amd64", &run()).await;
    let asked = request(registry.reference("base:1"), registry.reference("new:a"));
    let first = bench.ask(&asked).await.unwrap();
    assert!(!first.cached);
    let writes = |registry: &Registry| {
        registry.count("PUT ", 201) + registry.count("POST ", 202) + registry.count("POST ", 201)
    };
    let before = writes(&registry);
    let second = bench.ask(&asked).await.unwrap();
    assert!(second.cached && second.reference == first.reference);
    assert_eq!(writes(&registry), before);
    // A new tag is set without another upload of blobs.
    let tagged =
        bench.ask(&AppendRequest { to: registry.reference("new:b"), ..asked.clone() }).await.unwrap();
    assert!(tagged.cached);
    assert_eq!(writes(&registry), before + 1);
    registry.document("new", "b", OCI[0]).await;
    // A registry that lost it counts more than the cache; so does another shim.
    let elsewhere = Registry::start().await;
    let there = AppendRequest { to: elsewhere.reference("new"), ..asked.clone() };
    assert!(!bench.ask(&there).await.unwrap().cached);
    bench.shim("amd64", b"newer");
    let newer = bench.ask(&asked).await.unwrap();
    assert!(!newer.cached && newer.reference != first.reference);
}

#[tokio::test]
async fn appending_twice_is_appending_once() {
    let (registry, mut bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", DOCKER, "amd64", &run()).await;
    let first = bench.append(registry.reference("base:1"), registry.reference("new:1")).await.unwrap();
    let again = bench.append(registry.reference("new:1"), registry.reference("again")).await.unwrap();
    assert_eq!(first.reference.digest(), again.reference.digest());
    bench.shim("amd64", b"newer");
    let newer = bench.append(registry.reference("new:1"), registry.reference("again")).await.unwrap();
    let document = registry.document("again", newer.reference.digest().unwrap().as_str(), DOCKER[0]).await;
    assert_eq!(document["layers"].as_array().unwrap().len(), 3);
    let direct = bench.append(registry.reference("base:1"), registry.reference("new:2")).await.unwrap();
    assert_eq!(direct.reference.digest(), newer.reference.digest());
}

#[tokio::test]
async fn equal_requests_at_the_same_time_are_one_piece_of_work() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "amd64", &run()).await;
    let asked = request(registry.reference("base:1"), registry.reference("new"));
    let appender = bench.appender();
    let all = futures::future::join_all((0..20).map(|_| appender.append(&asked))).await;
    assert!(all.iter().all(|one| one.as_ref().unwrap().reference == all[0].as_ref().unwrap().reference));
    assert_eq!(registry.count("POST /v2/new/blobs/uploads/?mount=", 201), 2);
    assert_eq!(registry.count("PUT /v2/new/manifests/", 201), 4, "the image, two documents and their list");
}

#[tokio::test]
async fn indexes_keep_the_platforms_that_have_a_shim() {
    let (registry, mut bench) = (Registry::start().await, Bench::new());
    for (types, index, repository) in [(OCI, OCI_INDEX, "oci"), (DOCKER, DOCKER_LIST, "docker")] {
        let mut entries = Vec::new();
        for architecture in ["amd64", "arm64", "s390x"] {
            let mut entry = registry.put_image(repository, architecture, types, architecture, &run()).await;
            entry["platform"] = json!({"os": "linux", "architecture": architecture, "x-own": 1});
            entries.push(entry);
        }
        let mut attestation = registry.put_image(repository, "attestation", types, "amd64", &json!({})).await;
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        entries.push(attestation);
        let document =
            json!({"schemaVersion": 2, "mediaType": index, "manifests": entries, "annotations": {"a": "b"}});
        registry.put_manifest(repository, "all", &document).await;

        let image = registry.reference(&format!("{repository}:all"));
        let ask = request(image, registry.reference(&format!("{repository}-new:all")));
        let new = format!("{repository}-new");
        let platforms = async |bench: &Bench, ask: &AppendRequest| {
            let digest = bench.ask(ask).await.unwrap().reference.digest().unwrap().to_string();
            let document = registry.document(&new, &digest, index).await;
            assert_eq!(document["annotations"], json!({"a": "b"}));
            document["manifests"].as_array().unwrap().clone()
        };
        bench.shim("amd64", b"shim");
        bench.shim("arm64", b"shim");
        let both = platforms(&bench, &ask).await;
        let names: Vec<_> = both.iter().map(|entry| entry["platform"]["architecture"].clone()).collect();
        assert_eq!(names, ["amd64", "arm64"]);
        for entry in &both {
            assert_eq!(entry["platform"]["x-own"], 1);
            let image = registry.document(&new, entry["digest"].as_str().unwrap(), types[0]).await;
            let config: Value = serde_json::from_slice(&registry.blob(&new, &image["config"]).await).unwrap();
            assert_eq!(config["config"]["Entrypoint"], json!(WRAPPED));
            let files = unpacked(&registry.blob(&new, &image["layers"][2]).await);
            let architecture = entry["platform"]["architecture"].as_str().unwrap();
            assert_eq!(files[2].2, elf(architecture, b"shim"));
        }
        let only = AppendRequest { platforms: vec![Platform::parse("linux/arm64").unwrap()], ..ask.clone() };
        assert_eq!(platforms(&bench, &only).await, both[1..]);
        let none = AppendRequest { platforms: vec![Platform::parse("s390x").unwrap()], ..ask.clone() };
        let refused = bench.ask(&none).await.unwrap_err();
        assert!(refused.contains("linux/s390x") && refused.contains("--shim"), "{refused}");
    }
}

#[tokio::test]
async fn documents_are_found_by_the_tag_scheme() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    let base = registry.put_image("base", "1", OCI, "amd64", &run()).await;
    let asked = request(registry.reference("base:1"), registry.reference("new"));
    let digest = bench.ask(&asked).await.unwrap().reference.digest().unwrap().clone();
    let list = registry.document("new", &format!("sha256-{}", digest.hex()), OCI_INDEX).await;
    let list = list["manifests"].as_array().unwrap().clone();
    let types: Vec<_> = list.iter().map(|entry| entry["artifactType"].clone()).collect();
    assert_eq!(types, ["application/spdx+json", "application/vnd.in-toto+json"]);
    let mut documents = Vec::new();
    for entry in &list {
        let manifest = registry.document("new", entry["digest"].as_str().unwrap(), OCI[0]).await;
        assert_eq!(manifest["subject"]["digest"], digest.as_str());
        assert_eq!(manifest["artifactType"], entry["artifactType"]);
        let document = registry.blob("new", &manifest["layers"][0]).await;
        documents.push(serde_json::from_slice::<Value>(&document).unwrap());
    }
    let packages = documents[0]["packages"].as_array().unwrap();
    let has = |name: &str| packages.iter().any(|package| package["name"] == name);
    assert!(has("kwsk-shim") && has("tokio") && has(&format!("{}/base", registry.host)));
    let materials = &documents[1]["predicate"]["buildDefinition"]["resolvedDependencies"];
    let base = base["digest"].as_str().unwrap().trim_start_matches("sha256:");
    assert_eq!(materials[0]["digest"]["sha256"], base);
    assert_eq!(materials[1]["digest"]["sha256"], Digest::of(&elf("amd64", b"shim")).hex());
    assert_eq!(documents[1]["subject"][0]["digest"]["sha256"], digest.hex());
}

#[tokio::test]
async fn foreign_layers_stay_where_they_are() {
    let (registry, other, bench) = (Registry::start().await, Registry::start().await, Bench::new());
    registry.put_image("base", "1", DOCKER, "amd64", &run()).await;
    let mut document = registry.document("base", "1", DOCKER[0]).await;
    let mut foreign = described("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"elsewhere");
    foreign["urls"] = json!(["https://layers.example/elsewhere"]);
    document["layers"][0] = foreign.clone();
    registry.put_manifest("base", "2", &document).await;
    let appended = bench.append(registry.reference("base:2"), other.reference("new")).await.unwrap();
    assert_eq!(appended.blobs, Blobs { uploaded: 3, mounted: 0, there: 0 });
    let after = other.document("new", appended.reference.digest().unwrap().as_str(), DOCKER[0]).await;
    assert_eq!(after["layers"][0], foreign);
    // Nobody even looked for its bytes.
    let digest = foreign["digest"].as_str().unwrap();
    assert!(!registry.log().contains(&format!("blobs/{digest}")) && !other.log().contains(digest));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "amd64", &run()).await;
    let asked = request(registry.reference("base:1"), registry.reference("new:t"));
    let dry = bench.ask(&AppendRequest { dry_run: true, ..asked.clone() }).await.unwrap();
    assert_eq!(registry.log().matches("/v2/new/").count(), 0);
    assert_eq!(bench.ask(&asked).await.unwrap().reference, dry.reference);
}

#[tokio::test]
async fn a_locked_registry_opens_to_the_right_login() {
    let (registry, bench) = (Registry::start_locked().await, Bench::new());
    let open = Registry::start().await;
    open.put_image("base", "1", OCI, "amd64", &run()).await;
    let asked = request(open.reference("base:1"), registry.reference("new:t"));
    let right = login(bench.dir.path(), &registry.host, "user:correct");
    let appended = bench.appender_with(&right).append(&asked).await.unwrap();
    assert_eq!(appended.blobs.uploaded, 4);

    let wrong = login(bench.dir.path(), &registry.host, "user:wrong");
    let refused = bench.appender_with(&wrong).append(&asked).await.unwrap_err().to_string();
    for part in ["401", &registry.host, "config.json", "docker login"] {
        assert!(refused.contains(part), "{refused}");
    }
    let refused = bench.append(asked.image.clone(), asked.to.clone()).await.unwrap_err();
    assert!(refused.contains("no login for it was found") && refused.contains("docker login"), "{refused}");
}
