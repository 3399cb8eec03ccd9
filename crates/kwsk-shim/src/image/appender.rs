//! Any image with the shim in it: read, edited, pushed by digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _, Shared};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use serde_json::value::RawValue;

use super::attest::Story;
use super::cache::{Cache, Key};
use super::client::{Blob, Client, Copied, short};
use super::digest::Digest;
use super::document::{Descriptor, Fields, Stored, raw};
use super::edit::{self, Edited, Manifest};
use super::error::ImageError;
use super::media::LayerKind;
use super::platform::Platform;
use super::progress::Progress;
use super::reference::Reference;
use super::shim_layer::{ShimLayer, Shims};

/// Blobs that are on their way at a time.
const COPIES: usize = 3;

/// Which image, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AppendRequest {
    /// The image as it is.
    pub image: Reference,
    /// The repository of the new image, and a tag for it if one is wanted.
    pub to: Reference,
    /// What to start instead of the image's own Entrypoint and Cmd.
    pub command: Option<Vec<String>>,
    /// Only these of an index; all for which there is a shim when empty.
    pub platforms: Vec<Platform>,
    /// Read everything and push nothing.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The new image, by digest.
    pub reference: Reference,
    /// True when it had been made before and is still there.
    pub cached: bool,
    /// How many blobs were sent, were shared within the registry, and had been there.
    pub blobs: Blobs,
}

/// How blobs came to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Blobs {
    /// Their bytes were sent.
    pub uploaded: usize,
    /// The registry took them over from another of its repositories.
    pub mounted: usize,
    /// The repository had them.
    pub there: usize,
}

impl Blobs {
    fn count(&mut self, copied: Copied) {
        match copied {
            Copied::Uploaded => self.uploaded += 1,
            Copied::Mounted => self.mounted += 1,
            Copied::WasThere => self.there += 1,
        }
    }
}

type Outcome = Result<Appended, Arc<ImageError>>;

/// Appends shims to images. Cheap to clone; all clones share the client, the cache and the work in progress.
#[derive(Debug, Clone)]
pub struct Appender(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    cache: Option<Cache>,
    shims: Shims,
    running: Mutex<HashMap<AppendRequest, Shared<BoxFuture<'static, Outcome>>>>,
}

impl Appender {
    /// An appender of `shims`, which remembers in `cache` what it made.
    #[must_use]
    pub fn new(client: Client, shims: Shims, cache: Option<Cache>) -> Self {
        Self(Arc::new(Inner { client, cache, shims, running: Mutex::default() }))
    }

    /// Does what is asked for. Equal requests at the same time are one piece of work, which goes on as long as any of
    /// those who asked is waiting.
    ///
    /// # Errors
    /// [`ImageError`], in one line that says what to do.
    pub async fn append(&self, request: &AppendRequest) -> Outcome {
        let work = {
            let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever was the last to wait for it may have left.
            running.retain(|_, work| work.peek().is_none() && work.strong_count() > Some(1));
            running.entry(request.clone()).or_insert_with(|| self.start(request.clone())).clone()
        };
        let outcome = work.await;
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, work| work.peek().is_none());
        outcome
    }

    fn start(&self, request: AppendRequest) -> Shared<BoxFuture<'static, Outcome>> {
        let inner = Arc::clone(&self.0);
        async move { inner.append(&request).await.map_err(Arc::new) }.boxed().shared()
    }
}

/// A new image, not pushed yet.
struct Plan {
    top: Stored,
    /// The images of an index, or the one.
    images: Vec<Planned>,
}

struct Planned {
    edited: Edited,
    shim: Arc<ShimLayer>,
}

impl Inner {
    async fn append(&self, request: &AppendRequest) -> Result<Appended, ImageError> {
        let AppendRequest { image, to, dry_run, .. } = request;
        let digest = match image.digest() {
            Some(digest) => digest.clone(),
            None => self.client.manifest_digest(image).await?.ok_or_else(|| missing(image))?,
        };
        let key = self.key(request, digest.clone());
        if let Some(appended) = self.remembered(request, &key).await? {
            return Ok(appended);
        }
        // By digest, lest a tag that moves now makes the key a lie.
        let base = self.client.manifest(&image.at(&digest)).await?;
        let plan = self.plan(request, &base).await?;
        let reference = to.at(&plan.top.digest);
        if *dry_run {
            self.describe(request, &plan);
            return Ok(Appended { reference, cached: false, blobs: Blobs::default() });
        }
        let blobs = self.push(request, &plan).await?;
        self.attach(request, &base, &plan).await?;
        if to.tag().is_some() {
            self.client.push_manifest(to, &plan.top).await?;
        }
        if let Some(cache) = &self.cache {
            cache.keep(key, plan.top.digest)?;
        }
        Ok(Appended { reference, cached: false, blobs })
    }

    fn key(&self, request: &AppendRequest, base: Digest) -> Key {
        let shims = self.shims.iter().map(|shim| shim.digest.clone()).collect();
        Key {
            command: request.command.clone(),
            platforms: request.platforms.iter().map(ToString::to_string).collect(),
            ..Key::new(base, shims, request.to.name())
        }
    }

    /// What the cache says, if the registry says the same.
    async fn remembered(&self, request: &AppendRequest, key: &Key) -> Result<Option<Appended>, ImageError> {
        let Some(digest) = self.cache.as_ref().and_then(|cache| cache.find(key)) else { return Ok(None) };
        let reference = request.to.at(&digest);
        if self.client.manifest_digest(&reference).await?.as_ref() != Some(&digest) {
            return Ok(None);
        }
        if request.to.tag().is_some() && !request.dry_run {
            let tagged = self.client.manifest_digest(&request.to).await?;
            if tagged.as_ref() != Some(&digest) {
                let stored = self.client.manifest(&reference).await?;
                self.client.push_manifest(&request.to, &stored).await?;
            }
        }
        Ok(Some(Appended { reference, cached: true, blobs: Blobs::default() }))
    }

    // === reading and editing ===

    async fn plan(&self, request: &AppendRequest, base: &Stored) -> Result<Plan, ImageError> {
        if base.kind.is_index() {
            return self.plan_index(request, base).await;
        }
        let planned = self.plan_image(request, base, &request.image).await?;
        Ok(Plan { top: planned.edited.manifest.clone(), images: vec![planned] })
    }

    async fn plan_image(
        &self,
        request: &AppendRequest,
        stored: &Stored,
        image: &Reference,
    ) -> Result<Planned, ImageError> {
        let name = image.to_string();
        let manifest = Manifest::read(stored, &name)?;
        let config = self.client.small_blob(image, &manifest.config).await?;
        let platform = edit::platform(&config, &name)?;
        let shim = self.shims.on(&platform).filter(|_| is_wanted(request, &platform));
        let shim = shim.ok_or_else(|| self.no_shim(request, platform.to_string()))?;
        let edited = edit::append(stored, manifest, &config, shim, request.command.as_deref(), &name)?;
        if !edited.changed {
            self.client.progress.say(&format!("{name} has this shim already"));
        }
        Ok(Planned { edited, shim: Arc::clone(shim) })
    }

    /// An index of the platforms for which there is a shim.
    async fn plan_index(&self, request: &AppendRequest, base: &Stored) -> Result<Plan, ImageError> {
        let what = format!("the index of {}", request.image);
        let mut fields = Fields::parse(&base.bytes, &what)?;
        let raws: Vec<Box<RawValue>> = fields.get("manifests", &what)?.unwrap_or_default();
        let (mut images, mut entries, mut platforms) = (Vec::new(), Vec::new(), Vec::new());
        for entry in raws {
            let descriptor: Descriptor = serde_json::from_str(entry.get()).map_err(|error| {
                ImageError::malformed(what.clone(), format_args!("one of its images is none ({error})"))
            })?;
            let platform = descriptor.platform.clone();
            let Some(platform) = platform.filter(|p| p.os != "unknown" && p.architecture != "unknown") else {
                self.client
                    .progress
                    .say(&format!("{} is not of an image to run and left out", short(&descriptor.digest)));
                continue;
            };
            platforms.push(platform.to_string());
            if self.shims.on(&platform).is_none() || !is_wanted(request, &platform) {
                self.client
                    .progress
                    .say(&format!("{platform} is left out: no shim for it is given, or it is not asked for"));
                continue;
            }
            let image = request.image.at(&descriptor.digest);
            let stored = self.client.manifest(&image).await?;
            let planned = self.plan_image(request, &stored, &image).await?;
            let mut entry = Fields::parse(entry.get().as_bytes(), &what)?;
            entry.set("digest", &planned.edited.manifest.digest);
            entry.set("size", &planned.edited.manifest.bytes.len());
            entry.remove("data");
            entries.push(raw(&entry));
            images.push(planned);
        }
        if images.is_empty() {
            return Err(self.no_shim(request, list(&platforms)));
        }
        fields.set("manifests", &entries);
        let bytes = fields.to_bytes();
        Ok(Plan { top: Stored { kind: base.kind, digest: Digest::of(&bytes), bytes }, images })
    }

    fn no_shim(&self, request: &AppendRequest, has: String) -> ImageError {
        let given = match request.platforms.as_slice() {
            [] => self.shims.platforms(),
            wanted => {
                let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                format!("{} ({} asked for)", self.shims.platforms(), list(&wanted))
            }
        };
        ImageError::NoShim { image: request.image.to_string(), has, given }
    }

    fn describe(&self, request: &AppendRequest, plan: &Plan) {
        for Planned { edited, shim } in &plan.images {
            let line = format!(
                "would push {} to {}: {} layers, the shim for {} in {}",
                short(&edited.manifest.digest),
                request.to.name(),
                edited.layers.len(),
                shim.architecture,
                short(&shim.digest)
            );
            self.client.progress.say(&line);
        }
    }

    // === pushing ===

    async fn push(&self, request: &AppendRequest, plan: &Plan) -> Result<Blobs, ImageError> {
        let mut blobs: Vec<(Descriptor, Blob)> = Vec::new();
        for Planned { edited, shim } in &plan.images {
            for layer in &edited.layers {
                // Foreign layers stay where their URLs lead.
                if LayerKind::of(&layer.media_type, "")? == LayerKind::Distributable {
                    let ours = layer.digest == shim.digest;
                    let from = Blob::Registry(request.image.clone());
                    blobs.push((layer.clone(), if ours { Blob::Memory(shim.bytes.clone()) } else { from }));
                }
            }
            blobs.push((edited.config_descriptor.clone(), Blob::Memory(Bytes::from(edited.config.clone()))));
        }
        let mut seen = std::collections::HashSet::new();
        blobs.retain(|(descriptor, _)| seen.insert(descriptor.digest.clone()));
        let counts = push_all(&self.client, &request.to, blobs).await?;
        for Planned { edited, .. } in &plan.images {
            self.client.push_manifest(&request.to.at(&edited.manifest.digest), &edited.manifest).await?;
        }
        if plan.top.kind.is_index() {
            self.client.push_manifest(&request.to.at(&plan.top.digest), &plan.top).await?;
        }
        Ok(counts)
    }

    async fn attach(&self, request: &AppendRequest, base: &Stored, plan: &Plan) -> Result<(), ImageError> {
        let command = request.command.as_ref();
        let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
        let mut shims: Vec<&ShimLayer> = plan.images.iter().map(|planned| &*planned.shim).collect();
        shims.sort_by(|a, b| a.architecture.cmp(&b.architecture));
        shims.dedup_by(|a, b| a.architecture == b.architecture);
        let story = Story {
            name: request.to.name(),
            digest: &plan.top.digest,
            base: Some((request.image.name(), &base.digest)),
            shims,
            parts: Vec::new(),
            parameters: json!({
                "image": request.image.to_string(), "to": request.to.name(), "entrypoint": command, "platforms": platforms,
            }),
            build_type: "urn:kwsk:append:v1",
        };
        self.client.attach(&request.to, &plan.top.descriptor(), &story.attachments()).await
    }
}

/// Pushes blobs a few at a time.
pub(crate) async fn push_all(
    client: &Client,
    to: &Reference,
    blobs: Vec<(Descriptor, Blob)>,
) -> Result<Blobs, ImageError> {
    let pushes = stream::iter(blobs)
        .map(|(descriptor, blob)| async move { client.push_blob(to, &descriptor, &blob).await });
    let mut counts = Blobs::default();
    let mut pushes = std::pin::pin!(pushes.buffer_unordered(COPIES));
    while let Some(copied) = pushes.try_next().await? {
        counts.count(copied);
    }
    Ok(counts)
}

fn is_wanted(request: &AppendRequest, platform: &Platform) -> bool {
    request.platforms.is_empty() || request.platforms.iter().any(|wanted| platform.is(wanted))
}

fn list(platforms: &[String]) -> String {
    if platforms.is_empty() { "no platform".to_owned() } else { platforms.join(", ") }
}

fn missing(image: &Reference) -> ImageError {
    ImageError::NotFound { registry: image.registry().to_owned(), what: format!("image {image}") }
}

/// What an appender tells while it works.
#[must_use]
pub fn to_stderr() -> Progress {
    Progress::new(|line| {
        use std::io::Write as _;
        // Nobody can be told that stderr is closed.
        writeln!(std::io::stderr(), "{line}").ok();
    })
}
