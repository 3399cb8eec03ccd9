//! A real registry on a free port, and the images that are put into it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use kwsk_shim::image::{
    AppendRequest, Appended, Appender, Cache, Client, Credentials, Progress, Reference, Shims,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// `user` with the password `correct`, by bcrypt.
const HTPASSWD: &str = include_str!("htpasswd");
const READY_WAIT: Duration = Duration::from_secs(20);

pub(super) const OCI: [&str; 3] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
];
pub(super) const DOCKER: [&str; 3] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Ended when it is dropped.
pub(super) struct Registry {
    child: Child,
    pub(super) host: String,
    pub(super) dir: TempDir,
}

impl Registry {
    pub(super) async fn start() -> Self {
        Self::start_with("").await
    }

    /// One that wants `user` and `correct`.
    pub(super) async fn start_locked() -> Self {
        Self::start_with("auth:\n  htpasswd:\n    realm: kwsk\n    path: DIR/htpasswd\n").await
    }

    async fn start_with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let host = free.to_string();
        let root = dir.path().display().to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\nhttp:\n  addr: {host}\n\
             validation:\n  manifests:\n    urls:\n      allow:\n        - ^https://layers\\.example/\n{}",
            more.replace("DIR", &root)
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed by `cargo xtask setup`");
        let registry = Self { child, host, dir };
        let deadline = Instant::now() + READY_WAIT;
        while tokio::net::TcpStream::connect(&registry.host).await.is_err() {
            assert!(Instant::now() < deadline, "the registry does not start: {}", registry.log());
            tokio::task::yield_now().await;
        }
        registry
    }

    /// What it was asked, a request per line.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// How many requests began with these words, and were answered with `status`.
    pub(super) fn count(&self, start: &str, status: u16) -> usize {
        let (start, status) = (format!("\"{start}"), format!("\" {status} "));
        self.log().lines().filter(|line| line.contains(&start) && line.contains(&status)).count()
    }

    pub(super) fn reference(&self, path: &str) -> Reference {
        format!("{}/{path}", self.host).parse().unwrap()
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> (u16, http::HeaderMap, Bytes) {
        let http = Http::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let uri =
            if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", self.host) };
        let header = if method == "GET" { "accept" } else { "content-type" };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header, media_type)
            .body(Full::from(body))
            .unwrap();
        let response = http.request(request).await.unwrap();
        let (head, body) = response.into_parts();
        (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
    }

    /// A document by tag or digest.
    pub(super) async fn document(&self, repository: &str, selector: &str, media_type: &str) -> Value {
        let path = format!("/v2/{repository}/manifests/{selector}");
        let (status, headers, body) = self.send("GET", &path, media_type, Vec::new()).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, media_type), "{path}");
        serde_json::from_slice(&body).unwrap()
    }

    pub(super) async fn blob(&self, repository: &str, descriptor: &Value) -> Bytes {
        let digest = descriptor["digest"].as_str().unwrap();
        let (status, _, body) =
            self.send("GET", &format!("/v2/{repository}/blobs/{digest}"), "*/*", Vec::new()).await;
        assert_eq!(status, 200, "{digest}");
        assert_eq!((sha256(&body), json!(body.len())), (digest.to_owned(), descriptor["size"].clone()));
        body
    }

    pub(super) async fn put_blob(&self, repository: &str, bytes: &[u8]) {
        let (_, headers, _) =
            self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "x/y", Vec::new()).await;
        let url = format!("{}&digest={}", headers["location"].to_str().unwrap(), sha256(bytes));
        assert_eq!(self.send("PUT", &url, "application/octet-stream", bytes.to_vec()).await.0, 201);
    }

    pub(super) async fn put_manifest(&self, repository: &str, selector: &str, document: &Value) -> Value {
        let bytes = serde_json::to_vec_pretty(document).unwrap();
        let media_type = document["mediaType"].as_str().unwrap();
        let path = format!("/v2/{repository}/manifests/{selector}");
        let selector_is_digest = selector == "digest";
        let path = if selector_is_digest { path.replace("digest", &sha256(&bytes)) } else { path };
        let (status, _, body) = self.send("PUT", &path, media_type, bytes.clone()).await;
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        json!({"mediaType": media_type, "digest": sha256(&bytes), "size": bytes.len()})
    }

    /// An image of two layers for one processor; its descriptor.
    pub(super) async fn put_image(
        &self,
        repository: &str,
        tag: &str,
        types: [&str; 3],
        architecture: &str,
        run: &Value,
    ) -> Value {
        let [manifest_type, config_type, layer_type] = types;
        let tars = [format!("one for {architecture}"), "two".to_owned()];
        let layers: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar.as_bytes())).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar.as_bytes())).collect();
        let config = serde_json::to_vec(&json!({
            "created": "2024-01-02T03:04:05Z", "architecture": architecture, "os": "linux", "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": "one"}, {"created_by": "two"}],
        }))
        .unwrap();
        for blob in layers.iter().chain([&config]) {
            self.put_blob(repository, blob).await;
        }
        let document = json!({
            "schemaVersion": 2, "mediaType": manifest_type,
            "config": described(config_type, &config),
            "layers": layers.iter().map(|layer| described(layer_type, layer)).collect::<Vec<_>>(),
        });
        self.put_manifest(repository, tag, &document).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An appender with a cache of its own.
pub(super) struct Bench {
    pub(super) dir: TempDir,
    pub(super) shims: Shims,
}

impl Bench {
    pub(super) fn new() -> Self {
        let mut bench = Self { dir: tempfile::tempdir().unwrap(), shims: Shims::new() };
        bench.shim("amd64", b"shim");
        bench
    }

    /// A shim that no kernel would run, but that is as static as can be.
    pub(super) fn shim(&mut self, architecture: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(format!("shim-{architecture}"));
        std::fs::write(&path, elf(architecture, content)).unwrap();
        self.shims.add(&path, Some(architecture)).unwrap();
        path
    }

    pub(super) fn appender(&self) -> Appender {
        self.appender_with(&Credentials::of(Vec::new()))
    }

    pub(super) fn appender_with(&self, credentials: &Credentials) -> Appender {
        let client = Client::new(credentials.clone(), Progress::silent());
        Appender::new(client, self.shims.clone(), Some(Cache::new(self.dir.path().join("cache"))))
    }

    pub(super) async fn append(&self, image: Reference, to: Reference) -> Result<Appended, String> {
        self.ask(&request(image, to)).await
    }

    pub(super) async fn ask(&self, request: &AppendRequest) -> Result<Appended, String> {
        self.appender().append(request).await.map_err(|error| error.to_string())
    }
}

pub(super) fn request(image: Reference, to: Reference) -> AppendRequest {
    AppendRequest { image, to, command: None, platforms: Vec::new(), dry_run: false }
}

pub(super) fn elf(architecture: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..6].copy_from_slice(b"\x7fELF\x02\x01");
    header[18] = if architecture == "arm64" { 183 } else { 62 };
    header.extend(content);
    header
}

pub(super) fn described(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The files of a compressed layer: path, mode, content.
pub(super) fn unpacked(layer: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(layer));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mode = entry.header().mode().unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, mode, content)
    });
    entries.collect()
}

/// A config.json with a login for a registry.
pub(super) fn login(dir: &Path, host: &str, pair: &str) -> Credentials {
    use base64::Engine as _;
    let auth = base64::prelude::BASE64_STANDARD.encode(pair);
    let path = dir.join("config.json");
    std::fs::write(&path, json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
    Credentials::of(vec![path])
}
