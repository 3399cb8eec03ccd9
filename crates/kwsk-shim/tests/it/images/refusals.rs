//! Registries that are down, forbid or lie, and images that cannot be used: one line that says what to do.

use kwsk_shim::image::{Client, Credentials, LayerRecipe, Layout, Progress, Recipe, Reference, Step};
use serde_json::{Value, json};
use wiremock::matchers::{header, method, path, path_regex, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::registry::{Bench, OCI, Registry, described, login, request, sha256};

fn run() -> Value {
    json!({"Cmd": ["x"]})
}

/// A registry of scripted answers with one image `base:1`, whose only layer is `layer`.
struct Liar {
    server: MockServer,
    layer: Vec<u8>,
}

impl Liar {
    async fn start() -> Self {
        let liar = Self { server: MockServer::start().await, layer: b"layer".to_vec() };
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": run(),
            "rootfs": {"type": "layers", "diff_ids": [sha256(b"layer before compression")]},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI[0],
            "config": described(OCI[1], &config), "layers": [described(OCI[2], &liar.layer)],
        });
        liar.serve_manifest(&serde_json::to_vec(&manifest).unwrap(), OCI[0]).await;
        liar.serve_blob(&sha256(&config), ResponseTemplate::new(200).set_body_bytes(config)).await;
        liar
    }

    async fn serve_manifest(&self, bytes: &[u8], media_type: &str) {
        let answer = ResponseTemplate::new(200)
            .set_body_raw(bytes, media_type)
            .insert_header("docker-content-digest", sha256(bytes));
        for selector in ["1".to_owned(), sha256(bytes)] {
            let at = path(format!("/v2/base/manifests/{selector}"));
            Mock::given(at).respond_with(answer.clone()).with_priority(4).mount(&self.server).await;
        }
    }

    async fn serve_blob(&self, digest: &str, answer: ResponseTemplate) {
        Mock::given(path(format!("/v2/base/blobs/{digest}"))).respond_with(answer).mount(&self.server).await;
    }

    fn image(&self) -> Reference {
        format!("{}/base:1", self.server.address()).parse().unwrap()
    }
}

/// Refused with one line that has all `parts`.
fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, String>, parts: &[&str]) {
    let error = outcome.unwrap_err();
    assert!(!error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[tokio::test]
async fn a_registry_that_is_down() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "amd64", &run()).await;
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let gone: Reference = format!("{nowhere}/x:1").parse().unwrap();
    let outcome = bench.append(gone.clone(), registry.reference("new")).await;
    assert_refused(outcome, &["cannot reach", &nowhere, "x:1", "refused"]);
    assert_refused(
        bench.append(registry.reference("base:1"), gone).await,
        &["cannot reach", &nowhere, "blob"],
    );
}

#[tokio::test]
async fn an_image_that_is_not_there() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "amd64", &run()).await;
    for image in ["base:2", "other:1"] {
        let outcome = bench.append(registry.reference(image), registry.reference("new")).await;
        assert_refused(outcome, &["has no image", image, &registry.host]);
    }
}

#[tokio::test]
async fn an_image_without_a_command() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "amd64", &json!({"Env": ["A=1"]})).await;
    let asked = request(registry.reference("base:1"), registry.reference("new"));
    assert_refused(bench.ask(&asked).await, &["base:1", "neither Entrypoint nor Cmd", "--entrypoint"]);
    assert_eq!(registry.log().matches("/v2/new/").count(), 0);
    let command = Some(vec!["/start".to_owned()]);
    bench.ask(&kwsk_shim::image::AppendRequest { command, ..asked }).await.unwrap();
}

#[tokio::test]
async fn an_image_for_another_processor() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "arm64", &run()).await;
    let outcome = bench.append(registry.reference("base:1"), registry.reference("new")).await;
    assert_refused(outcome, &["linux/arm64", "linux/amd64", "--shim"]);
}

#[tokio::test]
async fn media_types_that_are_no_image() {
    let bench = Bench::new();
    let config = b"{}".as_slice();
    for (manifest, media_type, parts) in [
        (
            json!({"schemaVersion": 1, "name": "base", "fsLayers": []}),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            &["schema 1"] as &[&str],
        ),
        (
            json!({"schemaVersion": 2}),
            "application/vnd.example+json",
            &["application/vnd.example+json", "OCI manifest"],
        ),
        (
            json!({"schemaVersion": 2, "config": described("application/vnd.cncf.helm.config.v1+json", config), "layers": []}),
            OCI[0],
            &["an artifact", "helm"],
        ),
        (
            json!({"schemaVersion": 2, "config": described(OCI[1], config), "layers": [described("application/vnd.x+enc", b"l")]}),
            OCI[0],
            &["a layer", "application/vnd.x+enc"],
        ),
    ] {
        let liar = Liar { server: MockServer::start().await, layer: Vec::new() };
        liar.serve_manifest(&serde_json::to_vec(&manifest).unwrap(), media_type).await;
        assert_refused(bench.append(liar.image(), liar.image()).await, parts);
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_what_its_digest_says() {
    let (liar, registry, bench) = (Liar::start().await, Registry::start().await, Bench::new());
    let digest = sha256(b"another");
    let answer = ResponseTemplate::new(200).set_body_raw(r#"{"schemaVersion":2}"#, OCI[0]);
    let at = path(format!("/v2/base/manifests/{digest}"));
    Mock::given(at).respond_with(answer).mount(&liar.server).await;
    let image = format!("{}@{digest}", liar.image().name()).parse().unwrap();
    let outcome = bench.append(image, registry.reference("new")).await;
    assert_refused(outcome, &["is not what its digest says", &digest, &liar.server.address().to_string()]);
}

#[tokio::test]
async fn a_layer_that_is_not_what_its_digest_says() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    for (body, part) in [
        (&b"LAYER"[..], "is not what its digest says"),
        (b"lay", "has 3 of 5 bytes"),
        (b"layers", "has 6 of 5 bytes"),
    ] {
        let liar = Liar::start().await;
        liar.serve_blob(&sha256(&liar.layer), ResponseTemplate::new(200).set_body_bytes(body)).await;
        let outcome = bench.append(liar.image(), registry.reference("new")).await;
        let blob = sha256(&liar.layer);
        assert_refused(outcome, &[part, &blob, &liar.server.address().to_string(), "push the image again"]);
        let (status, ..) = registry.send("GET", &format!("/v2/new/blobs/{blob}"), "*/*", Vec::new()).await;
        assert_eq!(status, 404);
    }
}

#[tokio::test]
async fn a_layer_whose_connection_breaks() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (liar, registry, bench) = (Liar::start().await, Registry::start().await, Bench::new());
    // The registry sends its clients to a store for the layer, and that hangs up half way.
    let store = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/layer", store.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = store.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(!String::from_utf8_lossy(&request[..read]).to_lowercase().contains("authorization"));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nla").await.unwrap();
        }
    });
    liar.serve_blob(
        &sha256(&liar.layer),
        ResponseTemplate::new(307).insert_header("location", location.as_str()),
    )
    .await;
    let outcome = bench.append(liar.image(), registry.reference("new")).await;
    assert_refused(outcome, &["has 2 of 5 bytes", &sha256(&liar.layer)]);
    tasks.abort_all();
}

#[tokio::test]
async fn a_target_that_may_not_be_written() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    registry.put_image("base", "1", OCI, "amd64", &run()).await;
    let server = MockServer::start().await;
    Mock::given(method("HEAD")).respond_with(ResponseTemplate::new(404)).mount(&server).await;
    let denied = json!({"errors": [{"code": "DENIED", "message": "read only"}]});
    let answer = ResponseTemplate::new(403).set_body_json(denied);
    Mock::given(method("POST")).respond_with(answer).mount(&server).await;
    let to = format!("{}/new", server.address()).parse().unwrap();
    let outcome = bench.append(registry.reference("base:1"), to).await;
    assert_refused(outcome, &["403", "DENIED: read only", &server.address().to_string(), "docker login"]);
}

#[tokio::test]
async fn failures_that_pass() {
    let (liar, registry, bench) = (Liar::start().await, Registry::start().await, Bench::new());
    let blob = sha256(&liar.layer);
    for status in [503, 429] {
        let answer = ResponseTemplate::new(status);
        let at = path(format!("/v2/base/blobs/{blob}"));
        Mock::given(at).respond_with(answer).up_to_n_times(1).with_priority(1).mount(&liar.server).await;
    }
    liar.serve_blob(&blob, ResponseTemplate::new(200).set_body_bytes(liar.layer.clone())).await;
    bench.append(liar.image(), registry.reference("new")).await.unwrap();
    // And one that does not.
    let broken = MockServer::start().await;
    Mock::given(method("HEAD")).respond_with(ResponseTemplate::new(500)).expect(4..).mount(&broken).await;
    let to = format!("{}/new", broken.address()).parse().unwrap();
    assert_refused(bench.append(liar.image(), to).await, &["answers 500", &broken.address().to_string()]);
}

#[tokio::test]
async fn tokens_are_fetched_for_what_is_asked() {
    let (registry, bench) = (Registry::start().await, Bench::new());
    let server = MockServer::start().await;
    let host = server.address().to_string();
    let challenge = format!(r#"Bearer realm="http://{host}/token",service="s",scope="repository:base:pull""#);
    let locked = ResponseTemplate::new(401).insert_header("www-authenticate", challenge.as_str());
    Mock::given(path_regex("^/v2/")).respond_with(locked).with_priority(9).mount(&server).await;
    // user:correct in base64.
    Mock::given(path("/token"))
        .and(header("authorization", "Basic dXNlcjpjb3JyZWN0"))
        .and(query_param("service", "s"))
        .and(query_param("scope", "repository:base:pull"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"token": "t"})))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path("/token"))
        .respond_with(ResponseTemplate::new(401))
        .with_priority(9)
        .mount(&server)
        .await;
    let unusable = ResponseTemplate::new(200).set_body_raw(r#"{"schemaVersion":1}"#, OCI[0]);
    let unusable =
        unusable.insert_header("docker-content-digest", sha256(br#"{"schemaVersion":1}"#).as_str());
    Mock::given(path_regex("^/v2/base/manifests/"))
        .and(header("authorization", "Bearer t"))
        .respond_with(unusable)
        .with_priority(1)
        .expect(2)
        .mount(&server)
        .await;
    let asked = request(format!("{host}/base:1").parse().unwrap(), registry.reference("new"));
    let right = login(bench.dir.path(), &host, "user:correct");
    let refused = bench.appender_with(&right).append(&asked).await.unwrap_err().to_string();
    assert!(refused.contains("schema 1"), "{refused}");
    let wrong = login(bench.dir.path(), &host, "user:wrong");
    let refused = bench.appender_with(&wrong).append(&asked).await.map_err(|error| error.to_string());
    assert_refused(refused, &["401", "/token", "docker login"]);
}

#[tokio::test]
async fn a_layout_whose_blob_was_changed() {
    let registry = Registry::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    let add = Step::Add { from: dir.path().join("file"), to: "/file".to_owned(), mode: None };
    let recipe = Recipe { layers: vec![LayerRecipe { steps: vec![add], slim: false }], ..Recipe::default() };
    let client = Client::new(Credentials::of(Vec::new()), Progress::silent());
    let out = dir.path().join("layout");
    recipe.build(&client, &out).await.unwrap();
    for blob in std::fs::read_dir(out.join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            std::fs::write(&path, [&bytes[..bytes.len() - 1], b"x"].concat()).unwrap();
        }
    }
    let layout = Layout::open(&out).unwrap();
    let pushed = layout.push(&client, &registry.reference("new")).await.map_err(|error| error.to_string());
    assert_refused(pushed, &["is not what its digest says", "blobs/sha256"]);
}
