//! What is said about an image that was made: what is in it, and how it came about.

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Attachment;
use super::digest::Digest;
use super::document::to_bytes;
use super::media::{IN_TOTO, SPDX};
use super::shim_layer::ShimLayer;

/// The packages of `Cargo.lock` that a shim is made of, as the build script saw them.
const CRATES: &str = include_str!(concat!(env!("OUT_DIR"), "/crates.json"));
/// A time of our own would make every document another one.
const CREATED: &str = "1970-01-01T00:00:00Z";
const TOOL: &str = concat!("kwsk-shim-", env!("CARGO_PKG_VERSION"));

/// A package of any kind that is in an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SHA-256 of the archive it was made from.
    #[serde(default)]
    pub(crate) checksum: Option<String>,
    /// Its package URL.
    pub(crate) purl: String,
}

impl Part {
    fn package(&self, id: &str) -> Value {
        package(id, &self.name, &self.version, self.checksum.as_deref(), Some(&self.purl))
    }
}

fn crates() -> Vec<Part> {
    serde_json::from_str(CRATES).unwrap_or_default()
}

/// What an image was made of.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    /// The new image: name and digest.
    pub(crate) name: String,
    pub(crate) digest: &'a Digest,
    /// The image below it: name and digest.
    pub(crate) base: Option<(String, &'a Digest)>,
    pub(crate) shims: Vec<&'a ShimLayer>,
    /// What came from elsewhere, such as packages of a distribution.
    pub(crate) parts: Vec<Part>,
    /// What was asked for, for the provenance.
    pub(crate) parameters: Value,
    pub(crate) build_type: &'static str,
}

impl Story<'_> {
    pub(crate) fn attachments(&self) -> [Attachment; 2] {
        [
            Attachment { media_type: SPDX, content: to_bytes(&self.sbom()).into() },
            Attachment { media_type: IN_TOTO, content: to_bytes(&self.provenance()).into() },
        ]
    }

    /// SPDX 2.3.
    fn sbom(&self) -> Value {
        let mut packages =
            vec![package("image", &self.name, self.digest.as_str(), Some(self.digest.hex()), None)];
        let mut relationships = vec![related("SPDXRef-DOCUMENT", "DESCRIBES", "image")];
        if let Some((name, digest)) = &self.base {
            packages.push(package("base", name, digest.as_str(), Some(digest.hex()), None));
            relationships.push(related("SPDXRef-image", "DESCENDANT_OF", "base"));
        }
        for shim in &self.shims {
            let id = format!("shim-{}", shim.architecture);
            packages.push(package(&id, "kwsk-shim", env!("CARGO_PKG_VERSION"), Some(shim.shim.hex()), None));
            relationships.push(related("SPDXRef-image", "CONTAINS", &id));
        }
        let crates = if self.shims.is_empty() { Vec::new() } else { crates() };
        for (number, part) in crates.iter().enumerate() {
            let id = format!("crate-{number}");
            packages.push(part.package(&id));
            for shim in &self.shims {
                relationships.push(related(&format!("SPDXRef-shim-{}", shim.architecture), "CONTAINS", &id));
            }
        }
        for (number, part) in self.parts.iter().enumerate() {
            let id = format!("package-{number}");
            packages.push(part.package(&id));
            relationships.push(related("SPDXRef-image", "CONTAINS", &id));
        }
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": self.name,
            "documentNamespace": format!("urn:kwsk:sbom:{}", self.digest),
            "creationInfo": {"created": CREATED, "creators": [format!("Tool: {TOOL}")]},
            "packages": packages,
            "relationships": relationships,
        })
    }

    /// An in-toto statement v1 with SLSA's provenance v1.
    fn provenance(&self) -> Value {
        let digest_set = |digest: &Digest| json!({digest.algorithm(): digest.hex()});
        let base = self.base.iter().map(|(name, digest)| {
            json!({"uri": format!("oci://{name}"), "digest": digest_set(digest), "name": "base"})
        });
        let shims = self.shims.iter().map(|shim| {
            let uri = format!("pkg:cargo/kwsk-shim@{}?arch={}", env!("CARGO_PKG_VERSION"), shim.architecture);
            json!({"uri": uri, "digest": digest_set(&shim.shim), "name": "shim"})
        });
        let parts = self.parts.iter().map(|part| {
            let digest = part.checksum.as_ref().map_or(json!({}), |sum| json!({"sha256": sum}));
            json!({"uri": part.purl, "digest": digest, "name": part.name})
        });
        let dependencies: Vec<Value> = base.chain(shims).chain(parts).collect();
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": self.name, "digest": digest_set(self.digest)}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": self.build_type,
                    "externalParameters": self.parameters,
                    "resolvedDependencies": dependencies,
                },
                "runDetails": {
                    "builder": {"id": "urn:kwsk:kwsk-shim", "version": {"kwsk-shim": env!("CARGO_PKG_VERSION")}},
                },
            },
        })
    }
}

fn package(id: &str, name: &str, version: &str, sha256: Option<&str>, purl: Option<&str>) -> Value {
    let mut package = json!({
        "SPDXID": format!("SPDXRef-{id}"),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
    });
    if let Some(sum) = sha256.filter(|sum| sum.len() == 64) {
        package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sum}]);
    }
    if let Some(purl) = purl {
        let reference = json!({"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl});
        package["externalRefs"] = json!([reference]);
    }
    package
}

fn related(from: &str, how: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": how, "relatedSpdxElement": format!("SPDXRef-{to}")})
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::shim_layer::tests::layer;
    use super::*;

    #[test]
    fn the_lock_file_was_read() {
        let crates = crates();
        let has = |name: &str| crates.iter().any(|part| part.name == name);
        assert!(has("tokio") && has("kwsk-model") && has("hyper"), "{crates:?}");
        // Of the features and the tests that a shim in a container is without.
        assert!(!has("ring") && !has("proptest") && !has("wiremock"));
        assert!(crates.iter().filter(|part| part.checksum.is_some()).count() > 10);
    }

    #[test]
    fn documents_name_what_went_in() {
        let (shim, digest, base) = (layer(b"shim"), Digest::of(b"image"), Digest::of(b"base"));
        let story = Story {
            name: "r.example/x".to_owned(),
            digest: &digest,
            base: Some(("r.example/base".to_owned(), &base)),
            shims: vec![&shim],
            parts: Vec::new(),
            parameters: json!({"image": "r.example/base"}),
            build_type: "urn:kwsk:append:v1",
        };
        let sbom = story.sbom();
        let packages = sbom["packages"].as_array().unwrap();
        let ids: HashSet<&str> = packages.iter().filter_map(|package| package["SPDXID"].as_str()).collect();
        assert_eq!(ids.len(), packages.len());
        for relationship in sbom["relationships"].as_array().unwrap() {
            assert!(ids.contains(relationship["relatedSpdxElement"].as_str().unwrap()), "{relationship}");
        }
        assert!(packages.iter().any(|p| p["name"] == "r.example/base" && p["versionInfo"] == base.as_str()));
        let provenance = story.provenance();
        assert_eq!(provenance["subject"][0]["digest"]["sha256"], digest.hex());
        let materials = &provenance["predicate"]["buildDefinition"]["resolvedDependencies"];
        assert_eq!(materials[0]["digest"]["sha256"], base.hex());
        assert_eq!(materials[1]["digest"]["sha256"], shim.shim.hex());
        assert_eq!(story.attachments()[0].content, story.attachments()[0].content);
    }
}
