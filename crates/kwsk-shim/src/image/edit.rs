//! An image with the shim in it, from an image without: documents in, documents out.

use serde_json::value::RawValue;

use super::digest::Digest;
use super::document::{Descriptor, Fields, Stored, raw};
use super::error::ImageError;
use super::media::{self, LayerKind};
use super::platform::Platform;
use super::shim_layer::{CREATED_BY, SHIM_PATH, ShimLayer};

/// An image of one platform as it is to be pushed.
#[derive(Debug)]
pub(crate) struct Edited {
    pub(crate) manifest: Stored,
    pub(crate) config: Vec<u8>,
    pub(crate) config_descriptor: Descriptor,
    /// All layers, the shim's among them.
    pub(crate) layers: Vec<Descriptor>,
    /// False when the very same shim was there already.
    pub(crate) changed: bool,
}

/// What is read of a manifest before its configuration is fetched.
#[derive(Debug)]
pub(crate) struct Manifest {
    fields: Fields,
    pub(crate) config: Descriptor,
    layers: Vec<(Descriptor, Box<RawValue>)>,
}

impl Manifest {
    pub(crate) fn read(stored: &Stored, image: &str) -> Result<Self, ImageError> {
        let what = format!("the manifest of {image}");
        let fields = Fields::parse(&stored.bytes, &what)?;
        let missing =
            |key: &str| ImageError::malformed(what.clone(), format_args!("it has no field '{key}'"));
        let config: Descriptor = fields.get("config", &what)?.ok_or_else(|| missing("config"))?;
        media::check_config(&config.media_type, image)?;
        let raws: Vec<Box<RawValue>> = fields.get("layers", &what)?.ok_or_else(|| missing("layers"))?;
        let mut layers = Vec::new();
        for raw in raws {
            let layer: Descriptor = serde_json::from_str(raw.get()).map_err(|error| {
                ImageError::malformed(what.clone(), format_args!("one of its layers is none ({error})"))
            })?;
            LayerKind::of(&layer.media_type, image)?;
            layers.push((layer, raw));
        }
        Ok(Self { fields, config, layers })
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().map(|(layer, _)| layer)
    }
}

/// The platform a configuration names.
pub(crate) fn platform(config: &[u8], image: &str) -> Result<Platform, ImageError> {
    let what = format!("the configuration of {image}");
    let fields = Fields::parse(config, &what)?;
    let text = |key: &str| fields.get::<String>(key, &what);
    // Images that were made before there was a choice do not say.
    let or =
        |value: Option<String>, default: &str| value.filter(|v| !v.is_empty()).unwrap_or(default.to_owned());
    Ok(Platform {
        os: or(text("os")?, "linux"),
        architecture: or(text("architecture")?, "amd64"),
        variant: text("variant")?.filter(|v| !v.is_empty()),
    })
}

/// Adds the shim's layer to an image, or replaces an older one, and puts the shim before its command.
///
/// `command` takes the place of the image's Entrypoint and Cmd.
pub(crate) fn append(
    stored: &Stored,
    mut manifest: Manifest,
    config: &[u8],
    shim: &ShimLayer,
    command: Option<&[String]>,
    image: &str,
) -> Result<Edited, ImageError> {
    let before = config;
    let mut config = Config::read(before, image)?;
    if config.diff_ids.len() != manifest.layers.len() {
        let why = format!(
            "it lists {} layers and the manifest {}; build or push the image again",
            config.diff_ids.len(),
            manifest.layers.len()
        );
        return Err(ImageError::malformed(config.what, why));
    }
    let wrapped = config.wrap(command, image)?;
    let placed = config.place(shim);
    if let Some(index) = placed {
        let descriptor =
            Descriptor::new(stored.kind.layer_media_type(), shim.digest.clone(), shim.bytes.len() as u64);
        let layer = (descriptor.clone(), raw(&descriptor));
        match manifest.layers.get_mut(index) {
            Some(older) => *older = layer,
            None => manifest.layers.push(layer),
        }
    }
    if !wrapped && placed.is_none() {
        return Ok(Edited {
            layers: manifest.layers().cloned().collect(),
            manifest: stored.clone(),
            config: before.to_vec(),
            config_descriptor: manifest.config,
            changed: false,
        });
    }
    let config = config.to_bytes();
    let config_descriptor =
        Descriptor { media_type: manifest.config.media_type.clone(), ..Descriptor::of("", &config) };
    let mut of_config: Fields =
        manifest.fields.get("config", &format!("the manifest of {image}"))?.unwrap_or_default();
    of_config.set("digest", &config_descriptor.digest);
    of_config.set("size", &config_descriptor.size);
    // A copy of the former configuration.
    of_config.remove("data");
    manifest.fields.set("config", &of_config);
    let layers: Vec<&RawValue> = manifest.layers.iter().map(|(_, raw)| &**raw).collect();
    manifest.fields.set("layers", &layers);
    let bytes = manifest.fields.to_bytes();
    Ok(Edited {
        layers: manifest.layers().cloned().collect(),
        manifest: Stored { kind: stored.kind, digest: Digest::of(&bytes), bytes },
        config,
        config_descriptor,
        changed: true,
    })
}

/// A configuration, taken apart as far as it is edited.
struct Config {
    what: String,
    fields: Fields,
    /// The field `config`: what the container is started with.
    run: Fields,
    rootfs: Fields,
    diff_ids: Vec<Digest>,
    history: Vec<Box<RawValue>>,
}

impl Config {
    fn read(bytes: &[u8], image: &str) -> Result<Self, ImageError> {
        let what = format!("the configuration of {image}");
        let fields = Fields::parse(bytes, &what)?;
        let run = fields.get("config", &what)?.unwrap_or_default();
        let rootfs: Fields = fields
            .get("rootfs", &what)?
            .ok_or_else(|| ImageError::malformed(what.clone(), "it has no field 'rootfs'"))?;
        let diff_ids = rootfs.get("diff_ids", &what)?.unwrap_or_default();
        let history = fields.get("history", &what)?.unwrap_or_default();
        Ok(Self { what, fields, run, rootfs, diff_ids, history })
    }

    /// Puts the shim before the command. False when it is there.
    fn wrap(&mut self, command: Option<&[String]>, image: &str) -> Result<bool, ImageError> {
        let own: Vec<String> = self.run.get("Entrypoint", &self.what)?.unwrap_or_default();
        let arguments: Vec<String> = self.run.get("Cmd", &self.what)?.unwrap_or_default();
        if command.is_none() {
            if own.first().is_some_and(|program| program == SHIM_PATH) {
                return Ok(false);
            }
            if own.is_empty() && arguments.is_empty() {
                return Err(ImageError::NoCommand { image: image.to_owned() });
            }
        }
        let inner = command.unwrap_or(&own);
        let outer = [SHIM_PATH, "exec", "--"].into_iter().chain(inner.iter().map(String::as_str));
        let entrypoint: Vec<&str> = outer.collect();
        if command.is_some() {
            if own == entrypoint && arguments.is_empty() {
                return Ok(false);
            }
            self.run.remove("Cmd");
        }
        self.run.set("Entrypoint", &entrypoint);
        Ok(true)
    }

    /// Which layer becomes the shim's; `None` when it is it already.
    fn place(&mut self, shim: &ShimLayer) -> Option<usize> {
        let created_by = format!("{CREATED_BY}{}", shim.shim);
        let found = self.former();
        let mut entry = Fields::default();
        // A time of our own would make every append another image.
        if let Ok(Some(created)) = self.fields.get::<String>("created", "") {
            entry.set("created", &created);
        }
        entry.set("created_by", &created_by);
        let entry = raw(&entry);
        match found {
            Some((index, _)) if self.diff_ids.get(index) == Some(&shim.diff_id) => None,
            Some((index, at)) => {
                if let (Some(diff_id), Some(former)) =
                    (self.diff_ids.get_mut(index), self.history.get_mut(at))
                {
                    *diff_id = shim.diff_id.clone();
                    *former = entry;
                }
                Some(index)
            }
            None if self.diff_ids.last() == Some(&shim.diff_id) => None,
            None => {
                // Where there is no history, one entry of it would be a wrong one.
                if !self.history.is_empty() || self.diff_ids.is_empty() {
                    self.history.push(entry);
                }
                self.diff_ids.push(shim.diff_id.clone());
                Some(self.diff_ids.len() - 1)
            }
        }
    }

    /// The layer of an earlier append, and its place in the history.
    fn former(&self) -> Option<(usize, usize)> {
        #[derive(serde::Deserialize)]
        struct Entry {
            #[serde(default)]
            created_by: Option<String>,
            #[serde(default)]
            empty_layer: Option<bool>,
        }
        let entries: Vec<Entry> = self
            .history
            .iter()
            .map(|entry| serde_json::from_str(entry.get()))
            .collect::<Result<_, _>>()
            .ok()?;
        let has_layer = |entry: &&Entry| entry.empty_layer != Some(true);
        if entries.iter().filter(has_layer).count() != self.diff_ids.len() {
            return None;
        }
        let ours = |entry: &Entry| entry.created_by.as_deref().is_some_and(|by| by.starts_with(CREATED_BY));
        let at = entries.iter().rposition(|entry| has_layer(&entry) && ours(entry))?;
        Some((entries.iter().take(at).filter(has_layer).count(), at))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        let mut rootfs = self.rootfs.clone();
        rootfs.set("diff_ids", &self.diff_ids);
        fields.set("config", &self.run);
        fields.set("rootfs", &rootfs);
        if !self.history.is_empty() {
            fields.set("history", &self.history);
        }
        fields.to_bytes()
    }
}

#[cfg(test)]
mod tests;
