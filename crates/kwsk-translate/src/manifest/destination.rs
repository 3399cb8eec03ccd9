//! Where events go: references, destinations and addresses (`knative.dev/pkg/apis/duck/v1`).

use serde::{Deserialize, Serialize};

use crate::document::{Key, ResourceKind};

/// A reference to an object that has an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KReference {
    /// `group/version`.
    #[serde(default)]
    pub api_version: String,
    /// The kind.
    #[serde(default)]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its namespace, when it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl KReference {
    /// A reference to `key` from an object in `from`.
    #[must_use]
    pub fn to_key(key: &Key, from: &str) -> Self {
        Self {
            api_version: key.kind.api_version().to_owned(),
            kind: key.kind.kind().to_owned(),
            name: key.name.clone(),
            namespace: (key.namespace != from).then(|| key.namespace.clone()),
        }
    }

    /// The key of what is referred to by an object in `from`; `None` for kinds kwsk does not know.
    #[must_use]
    pub fn key(&self, from: &str) -> Option<Key> {
        let kind = ResourceKind::of(&self.api_version, &self.kind)?;
        Some(Key::new(kind, self.namespace.as_deref().unwrap_or(from), self.name.clone()))
    }
}

/// A reference, or an absolute URI, or a reference with a URI relative to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Resolved to its address.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub ref_: Option<KReference>,
    /// Absolute without a reference; relative with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// PEM, when the address is https with a private authority.
    #[serde(rename = "CACerts", default, skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
    /// OIDC audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

impl Destination {
    /// A reference without a path.
    #[must_use]
    pub fn to(reference: KReference) -> Self {
        Self { ref_: Some(reference), ..Self::default() }
    }

    /// The same destination with `path` (which starts with a slash) in place of its own.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        let uri = match (&self.ref_, &self.uri) {
            (None, Some(base)) => {
                let mut uri = origin(base).to_owned();
                uri.push_str(path);
                uri
            }
            _ => path.to_owned(),
        };
        Self { uri: Some(uri), ..self.clone() }
    }

    /// True when both lead to the same server, whatever the path.
    #[must_use]
    pub fn is_same_server(&self, other: &Self) -> bool {
        match (&self.ref_, &other.ref_) {
            (Some(one), Some(two)) => one == two,
            (None, None) => {
                let start = |d: &Self| d.uri.as_deref().map(|uri| origin(uri).to_owned());
                start(self) == start(other)
            }
            _ => false,
        }
    }

    /// The path of the URI, with its slash.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        let uri = self.uri.as_deref()?;
        Some(&uri[origin(uri).len()..])
    }
}

/// `scheme://host[:port]` of an absolute URI, nothing of a relative one.
fn origin(uri: &str) -> &str {
    let Some(scheme) = uri.find("://") else {
        return "";
    };
    let host = scheme + "://".len();
    let length = uri[host..].find('/').map_or(uri.len(), |slash| host + slash);
    &uri[..length]
}

/// `status.address`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressable {
    /// `http` or `https`, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// To be used as it is, never built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// PEM.
    #[serde(rename = "CACerts", default, skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
    /// OIDC audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_replace_paths() {
        let url = Destination { uri: Some("http://h:1/old".to_owned()), ..Destination::default() };
        assert_eq!(url.at("/new").uri.as_deref(), Some("http://h:1/new"));
        assert_eq!(url.at("/new").path(), Some("/new"));
        assert!(url.is_same_server(&url.at("/new")));
        let by_ref = Destination::to(KReference { name: "x".to_owned(), ..KReference::default() });
        assert_eq!(by_ref.at("/a/b").uri.as_deref(), Some("/a/b"));
        assert_eq!(by_ref.at("/a/b").path(), Some("/a/b"));
        assert!(!by_ref.is_same_server(&url));
    }
}
