//! OpenWhisk names to Kubernetes names: injective, DNS-1035, at most [`MAX_LENGTH`] characters. The only `format!` of names.
//!
//! A name that already is a clean short label stays as it is, so that `kubectl get ksvc hello` works. Every other name
//! becomes a readable slug plus ten base32 characters of its SHA-256. A verbatim name never has the shape of a hashed
//! one, nor the shape of what Knative derives from other names (`foo-00001`, `foo-kn-channel`, …).

use kwsk_model::name::{EntityName, FullyQualifiedEntityName, Namespace};
use sha2::{Digest, Sha256};

use crate::document::{Key, ResourceKind};

/// Longest name, in characters: Knative appends to it and the result must stay a label of 63.
pub const MAX_LENGTH: usize = 40;
/// Characters of the readable part of a hashed name.
const SLUG_LENGTH: usize = 28;
/// Characters of the hash, five bits each.
const HASH_LENGTH: usize = 10;
/// What Knative and Kubernetes append to a name to make other objects' names.
const DERIVED_SUFFIXES: [&str; 3] = ["-private", "-kn-channel", "-deployment"];
/// Beginnings of namespaces that belong to the cluster.
const CLUSTER_NAMESPACES: [&str; 3] = ["kube-", "knative-", "kwsk-"];

/// The namespace of kwsk's own objects (subjects) and of its server.
pub const SYSTEM_NAMESPACE: &str = "kwsk-system";

/// `metadata.name` of the entity whose name within its namespace is `name` or `pkg/name`.
#[must_use]
pub fn object_name(local_name: &str) -> String {
    if stays_verbatim(local_name) { local_name.to_owned() } else { hashed(local_name) }
}

/// The Kubernetes namespace of an OpenWhisk namespace. `default` and the cluster's own never come out verbatim.
#[must_use]
pub fn kubernetes_namespace(namespace: &Namespace) -> String {
    let text = namespace.as_str();
    let reserved = text == "default" || CLUSTER_NAMESPACES.iter().any(|prefix| text.starts_with(prefix));
    if !reserved && stays_verbatim(text) { text.to_owned() } else { hashed(text) }
}

/// Where the document of an entity is.
#[must_use]
pub fn key(kind: ResourceKind, fqn: &FullyQualifiedEntityName) -> Key {
    Key::new(kind, kubernetes_namespace(fqn.namespace()), object_name(&fqn.local_name()))
}

/// Where the document of a subject is.
#[must_use]
pub fn subject_key(subject: &str) -> Key {
    Key::new(ResourceKind::Subject, SYSTEM_NAMESPACE, object_name(subject))
}

/// The value of the label `kwsk.dev/package` on everything in `package`.
#[must_use]
pub fn package_label(package: &EntityName) -> String {
    object_name(package.as_str())
}

/// The immutable Secret that holds code by its SHA-256 in hex.
#[must_use]
pub fn code_secret(sha256: &str) -> String {
    let short: String = sha256.chars().take(32).collect();
    format!("kwsk-code-{short}")
}

/// The Secret that holds an action's bound parameters for events that reach the shim without kwsk.
#[must_use]
pub fn parameters_secret(object_name: &str) -> String {
    format!("{object_name}-kwsk-parameters")
}

/// The immutable ConfigMap that holds the shim's program by its SHA-256 in hex.
#[must_use]
pub fn shim_config_map(sha256: &str) -> String {
    let short: String = sha256.chars().take(12).collect();
    format!("kwsk-shim-{short}")
}

/// True for DNS-1035 labels: what Knative demands of a name.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|b| edge(b) || *b == b'-')
}

fn stays_verbatim(name: &str) -> bool {
    let after_dash = name.rsplit_once('-').map_or("", |(_, tail)| tail);
    let is_revision = after_dash.len() == 5 && after_dash.bytes().all(|b| b.is_ascii_digit());
    let is_hashed = after_dash.len() == HASH_LENGTH && after_dash.bytes().all(is_base32);
    let is_derived = DERIVED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    name.len() <= MAX_LENGTH && is_label(name) && !is_revision && !is_hashed && !is_derived
}

fn hashed(name: &str) -> String {
    format!("{}-{}", slug(name), short_hash(name))
}

/// Lower case, runs of everything else one dash, starting with a letter, at most [`SLUG_LENGTH`] characters.
fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(SLUG_LENGTH);
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if slug.len() == SLUG_LENGTH {
            break;
        }
        match c {
            'a'..='z' => slug.push(c),
            '0'..='9' if slug.is_empty() => slug.extend(['x', c]),
            '0'..='9' => slug.push(c),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "x".to_owned() } else { slug.to_owned() }
}

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn is_base32(byte: u8) -> bool {
    BASE32.contains(&byte)
}

fn short_hash(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let bits = digest.iter().take(8).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    let digit = |place: usize| {
        let index = (bits >> (64 - 5 * (place + 1))) & 31;
        char::from(BASE32[usize::try_from(index).unwrap_or_default()])
    };
    (0..HASH_LENGTH).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_names_stay() {
        for name in ["hello", "a", "every-minute", "v2", "hello-1", "a-123456"] {
            assert_eq!(object_name(name), name);
        }
    }

    #[test]
    fn others_are_hashed() {
        for (name, slug) in [
            ("Hello", "hello-"),
            ("he llo", "he-llo-"),
            ("pkg/name", "pkg-name-"),
            ("9lives", "x9lives-"),
            ("_", "x-"),
            ("foo-00001", "foo-00001-"),
            ("foo-private", "foo-private-"),
            ("foo-kn-channel", "foo-kn-channel-"),
            ("a--&b", "a-b-"),
        ] {
            let object = object_name(name);
            assert!(object.starts_with(slug) && object.len() == slug.len() + HASH_LENGTH, "{name}: {object}");
            assert!(is_label(&object) && object.len() <= MAX_LENGTH, "{object}");
            assert_ne!(object_name(&object), object, "a hashed name is never also a verbatim one");
        }
    }

    #[test]
    fn the_clusters_namespaces_are_out_of_reach() {
        for name in ["kube-system", "default", "knative-serving", "kwsk-system"] {
            assert_ne!(kubernetes_namespace(&Namespace::new(name).unwrap()), name);
        }
        assert_eq!(kubernetes_namespace(&Namespace::new("guest").unwrap()), "guest");
    }
}
