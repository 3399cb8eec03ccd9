//! Images from nothing, or on top of another: files, packages of Debian and a configuration become an image layout.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::attest::{Part, Story};
use super::client::{Client, EMPTY};
use super::digest::{Digest, Hasher};
use super::document::{Descriptor, Fields, Stored, to_bytes};
use super::edit::Manifest;
use super::error::ImageError;
use super::layout::Layout;
use super::media::{LayerKind, ManifestKind, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};
use super::platform::Platform;
use super::reference::Reference;
use super::shim_layer::{CREATED_BY, Shims, gzip};
use super::tree::Tree;

/// A time of our own would make every image another one.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// How an image is made. The same recipe and the same files make the same image, whenever and wherever.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// A directory with an image layout, or a reference.
    pub base: Option<String>,
    /// What it runs on.
    pub platform: Option<Platform>,
    /// From the bottom up.
    pub layers: Vec<LayerRecipe>,
    /// The shim, in a layer of its own on top.
    pub shims: Shims,
    /// What to start; the base's when absent.
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments; the base's when absent.
    pub cmd: Option<Vec<String>>,
    /// Names and values; those of the base stay unless named again.
    pub env: Vec<(String, String)>,
    /// User and group.
    pub user: Option<String>,
    /// The working directory.
    pub workdir: Option<String>,
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// How the layout and its documents name the image.
    pub name: Option<String>,
}

/// One layer.
#[derive(Debug, Clone, Default)]
pub struct LayerRecipe {
    /// In this order; later ones win.
    pub steps: Vec<Step>,
    /// Without manuals, translations and the like; licences stay.
    pub slim: bool,
}

/// What goes into a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A file, or a directory with all that is in it.
    Add {
        /// On this machine.
        from: PathBuf,
        /// In the image.
        to: String,
        /// Other permissions than 0755 or 0644.
        mode: Option<u32>,
    },
    /// A directory.
    Directory {
        /// In the image.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// In the image.
        path: String,
        /// What it leads to.
        target: String,
    },
    /// The files of all Debian packages in a directory, without their maintainer scripts.
    Debs(PathBuf),
}

/// The image below a new one.
struct Base {
    name: String,
    digest: Digest,
    layers: Vec<Descriptor>,
    config: Vec<u8>,
}

/// A layer that is in the layout.
struct Layer {
    descriptor: Descriptor,
    diff_id: Digest,
    created_by: String,
}

impl Recipe {
    /// Makes the image in `dir`; returns its digest.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn build(&self, client: &Client, dir: &Path) -> Result<Digest, ImageError> {
        let layout = Layout::create(dir)?;
        let platform = self.platform.clone().unwrap_or_else(|| Platform::linux(host_architecture()));
        let base = match &self.base {
            Some(base) => Some(self.bring(client, &layout, base, &platform).await?),
            None => None,
        };
        let (mut layers, mut parts) = (Vec::new(), Vec::new());
        for recipe in &self.layers {
            layers.push(recipe.write(&layout, &mut parts)?);
        }
        let shim = self.shims.on(&platform);
        if let Some(shim) = shim {
            layout.put(&shim.bytes)?;
            layers.push(Layer {
                descriptor: Descriptor::new(OCI_LAYER_GZIP, shim.digest.clone(), shim.bytes.len() as u64),
                diff_id: shim.diff_id.clone(),
                created_by: format!("{CREATED_BY}{}", shim.shim),
            });
        } else if self.shims.iter().next().is_some() {
            let image = self.name.clone().unwrap_or_else(|| "the image".to_owned());
            return Err(ImageError::NoShim {
                image,
                has: platform.to_string(),
                given: self.shims.platforms(),
            });
        }
        let config = self.config(base.as_ref(), &layers, &platform)?;
        let stored = manifest(base.as_ref(), &layers, &config);
        layout.put(&config)?;
        layout.put(&stored.bytes)?;
        let story = Story {
            name: self.name.clone().unwrap_or_else(|| "image".to_owned()),
            digest: &stored.digest,
            base: base.as_ref().map(|base| (base.name.clone(), &base.digest)),
            shims: shim.map(|shim| &**shim).into_iter().collect(),
            parts,
            parameters: json!({"platform": platform.to_string(), "entrypoint": self.entrypoint, "cmd": self.cmd}),
            build_type: "urn:kwsk:build:v1",
        };
        layout.put(EMPTY)?;
        let mut attached = Vec::new();
        for attachment in story.attachments() {
            layout.put(&attachment.content)?;
            let manifest = attachment.manifest(&stored.descriptor());
            layout.put(&manifest.bytes)?;
            let artifact_type = Some(attachment.media_type.to_owned());
            attached.push(Descriptor { artifact_type, ..manifest.descriptor() });
        }
        let image = Descriptor { platform: Some(platform), ..stored.descriptor() };
        layout.finish(image, self.name.as_deref(), attached)?;
        Ok(stored.digest)
    }

    /// The base's layers in the layout.
    async fn bring(
        &self,
        client: &Client,
        layout: &Layout,
        base: &str,
        platform: &Platform,
    ) -> Result<Base, ImageError> {
        let path = Path::new(base);
        if path.is_dir() {
            let from = Layout::open(path)?;
            let entries = from.entries()?;
            let entry = entries.first().ok_or_else(|| ImageError::malformed(base, "it is empty"))?;
            let stored = from.stored(entry)?;
            let manifest = Manifest::read(&stored, base)?;
            let config = from.read(&manifest.config)?;
            let layers: Vec<Descriptor> = manifest.layers().cloned().collect();
            for layer in &layers {
                layout.adopt(&from, layer)?;
            }
            return Ok(Base { name: base.to_owned(), digest: stored.digest, layers, config });
        }
        let reference: Reference = base.parse()?;
        let mut stored = client.manifest(&reference).await?;
        let digest = stored.digest.clone();
        if stored.kind.is_index() {
            let what = format!("the index of {base}");
            let entries: Vec<Descriptor> =
                Fields::parse(&stored.bytes, &what)?.get("manifests", &what)?.unwrap_or_default();
            let fitting = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.is(platform));
            let entry = entries.iter().find(fitting);
            let entry = entry
                .ok_or_else(|| ImageError::malformed(base, format_args!("it has no image for {platform}")))?;
            stored = client.manifest(&reference.at(&entry.digest)).await?;
        }
        let manifest = Manifest::read(&stored, base)?;
        let config = client.small_blob(&reference, &manifest.config).await?.to_vec();
        let layers: Vec<Descriptor> = manifest.layers().cloned().collect();
        for layer in &layers {
            if LayerKind::of(&layer.media_type, base)? == LayerKind::Distributable {
                layout.pull_blob(client, &reference, layer).await?;
            }
        }
        Ok(Base { name: reference.to_string(), digest, layers, config })
    }

    fn config(
        &self,
        base: Option<&Base>,
        layers: &[Layer],
        platform: &Platform,
    ) -> Result<Vec<u8>, ImageError> {
        let what = base.map(|base| format!("the configuration of {}", base.name)).unwrap_or_default();
        let mut config: Value = match base {
            Some(base) => serde_json::from_slice(&base.config)
                .map_err(|error| ImageError::malformed(what.clone(), error))?,
            None => json!({}),
        };
        let count = config.pointer("/rootfs/diff_ids").and_then(Value::as_array).map_or(0, Vec::len);
        if !config.is_object() || count != base.map_or(0, |base| base.layers.len()) {
            return Err(ImageError::malformed(what, "it does not list the layers that the manifest has"));
        }
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut run = config["config"].take();
        if !run.is_object() {
            run = json!({});
        }
        if let Some(entrypoint) = &self.entrypoint {
            run["Entrypoint"] = json!(entrypoint);
            // As in a Dockerfile: the former arguments belonged to the former program.
            run["Cmd"] = Value::Null;
        }
        if let Some(cmd) = &self.cmd {
            run["Cmd"] = json!(cmd);
        }
        let mut env = list(&run["Env"]);
        for (name, value) in &self.env {
            let prefix = format!("{name}=");
            env.retain(|entry| !entry.as_str().is_some_and(|entry| entry.starts_with(&prefix)));
            env.push(json!(format!("{prefix}{value}")));
        }
        run["Env"] = env.into();
        for (key, value) in [("User", &self.user), ("WorkingDir", &self.workdir)] {
            if let Some(value) = value {
                run[key] = json!(value);
            }
        }
        for (name, value) in &self.labels {
            run["Labels"][name] = json!(value);
        }
        let mut diff_ids = list(&config["rootfs"]["diff_ids"]);
        diff_ids.extend(layers.iter().map(|layer| json!(layer.diff_id)));
        let mut history = list(&config["history"]);
        history
            .extend(layers.iter().map(|layer| json!({"created": CREATED, "created_by": layer.created_by})));
        config["created"] = json!(CREATED);
        config["architecture"] = json!(platform.architecture);
        config["os"] = json!(platform.os);
        config["config"] = run;
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        config["history"] = history.into();
        Ok(to_bytes(&config))
    }
}

fn manifest(base: Option<&Base>, layers: &[Layer], config: &[u8]) -> Stored {
    let below = base.into_iter().flat_map(|base| &base.layers);
    let all: Vec<&Descriptor> = below.chain(layers.iter().map(|layer| &layer.descriptor)).collect();
    let document = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor::of(OCI_CONFIG, config),
        "layers": all,
    });
    let bytes = to_bytes(&document);
    Stored { kind: ManifestKind::OciManifest, digest: Digest::of(&bytes), bytes }
}

impl LayerRecipe {
    fn write(&self, layout: &Layout, parts: &mut Vec<Part>) -> Result<Layer, ImageError> {
        let mut tree = Tree::new(self.slim)?;
        for step in &self.steps {
            match step {
                Step::Add { from, to, mode } => tree.add(from, to, *mode)?,
                Step::Directory { path, mode } => tree.directory(path, *mode)?,
                Step::Symlink { path, target } => tree.symlink(path, target)?,
                Step::Debs(dir) => parts.extend(unpack(dir, &mut tree)?),
            }
        }
        let file = layout.unnamed()?;
        let failed = || ImageError::file("write a layer");
        let compressed = Hashed::new(BufWriter::new(file));
        let mut plain = Hashed::new(gzip(compressed));
        tree.write(&mut plain).map_err(failed())?;
        let (gzip, diff_id, _) = plain.finish();
        let (file, digest, size) = gzip.finish().map_err(failed())?.finish();
        let file = file.into_inner().map_err(|error| failed()(error.into_error()))?;
        layout.name(file, &digest)?;
        Ok(Layer {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, digest, size),
            diff_id,
            created_by: "kwsk-shim build".to_owned(),
        })
    }
}

/// Unpacks all packages of a directory in the order of their names.
fn unpack(dir: &Path, tree: &mut Tree) -> Result<Vec<Part>, ImageError> {
    let failed = || ImageError::file(format!("list the packages in {}", dir.display()));
    let entries =
        std::fs::read_dir(dir).map_err(failed())?.collect::<io::Result<Vec<_>>>().map_err(failed())?;
    let mut debs: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    debs.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    debs.sort();
    if debs.is_empty() {
        return Err(ImageError::malformed(dir.display().to_string(), "there are no .deb files in it"));
    }
    let mut parts = Vec::new();
    for deb in debs {
        let control = dpkg_deb(&["--field"], &deb)?;
        let field = |name: &str| {
            let line = control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(ToOwned::to_owned).ok_or_else(|| {
                ImageError::malformed(deb.display().to_string(), format_args!("it has no field {name}"))
            })
        };
        let (name, version, architecture) = (field("Package")?, field("Version")?, field("Architecture")?);
        let mut child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&deb)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(ImageError::file("start dpkg-deb; install the package dpkg"))?;
        let unpacked = child.stdout.take().map_or(Ok(()), |mut stdout| {
            tree.archive(&deb.display().to_string(), &mut stdout)?;
            // What pads the archive, so that nobody's pipe breaks.
            io::copy(&mut stdout, &mut io::sink()).map(|_| ()).map_err(ImageError::file("read from dpkg-deb"))
        });
        let output = child.wait_with_output().map_err(ImageError::file("wait for dpkg-deb"))?;
        let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        if !output.status.success() && (unpacked.is_ok() || !why.is_empty()) {
            return Err(ImageError::Program {
                program: format!("dpkg-deb --fsys-tarfile {}", deb.display()),
                why,
            });
        }
        unpacked?;
        // Where scanners look for what is installed in images without a package manager.
        tree.file(&format!("var/lib/dpkg/status.d/{name}"), 0o644, &mut control.as_bytes())?;
        let purl = format!("pkg:deb/debian/{name}@{}?arch={architecture}", version.replace('+', "%2B"));
        parts.push(Part { name, version, checksum: Some(sum(&deb)?), purl });
    }
    Ok(parts)
}

fn dpkg_deb(arguments: &[&str], deb: &Path) -> Result<String, ImageError> {
    let output = Command::new("dpkg-deb").args(arguments).arg(deb).stdin(Stdio::null()).output();
    let output = output.map_err(ImageError::file("start dpkg-deb; install the package dpkg"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(ImageError::Program { program: format!("dpkg-deb {} {}", arguments.join(" "), deb.display()), why })
}

fn sum(path: &Path) -> Result<String, ImageError> {
    let failed = || ImageError::file(format!("read {}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(failed())?.read_to_end(&mut bytes).map_err(failed())?;
    Ok(Digest::of(&bytes).hex().to_owned())
}

/// Go's name for the processor of this machine.
#[must_use]
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// A writer that knows the digest and number of what passed.
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(), size: 0 }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
