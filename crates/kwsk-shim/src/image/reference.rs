//! Names of images: `registry/repository:tag@digest`, with Docker's defaults.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::error::ImageError;

const DOCKER_HUB: &str = "docker.io";

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The host that clients name, with its port if it has one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The host that answers the API, which for Docker Hub is another one.
    #[must_use]
    pub fn api_host(&self) -> &str {
        if self.registry == DOCKER_HUB { "registry-1.docker.io" } else { &self.registry }
    }

    /// The path within the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to ask the registry for: the digest, else the tag, else `latest`.
    pub(crate) fn selector(&self) -> &str {
        self.digest.as_ref().map(Digest::as_str).or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The same repository by digest alone.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// The same repository by another tag.
    pub(crate) fn tagged(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// Registry and repository without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    fn from_str(given: &str) -> Result<Self, ImageError> {
        let refused = |why| ImageError::Reference { given: given.to_owned(), why };
        let (rest, digest) = match given.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (given, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            // A colon before the last slash belongs to a port.
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refused("its tag is not 1 to 128 letters, digits, '_', '.' and '-'"));
        }
        let (registry, path) = match rest.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path),
            _ => (DOCKER_HUB, rest),
        };
        let is_host_name = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        if !registry.bytes().all(is_host_name) {
            return Err(refused("its registry is not a host name and port"));
        }
        let hub = matches!(registry, DOCKER_HUB | "index.docker.io" | "registry-1.docker.io");
        let registry = if hub { DOCKER_HUB } else { registry };
        let repository = if hub && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if repository.len() > 255 || !path.split('/').all(is_component) {
            return Err(refused(
                "its path is not lower-case letters and digits, separated by '/', '.', '_' or '-'",
            ));
        }
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(ToOwned::to_owned), digest })
    }
}

fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (first, last) = (component.bytes().next(), component.bytes().last());
    first.is_some_and(is_word)
        && last.is_some_and(is_word)
        && component.bytes().all(|b| is_word(b) || b"._-".contains(&b))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b".-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_dockers() {
        let digest = Digest::of(b"");
        for (given, registry, repository, selector) in [
            ("debian", "docker.io", "library/debian", "latest"),
            ("debian:12", "docker.io", "library/debian", "12"),
            ("openwhisk/action-nodejs-v20:1", "docker.io", "openwhisk/action-nodejs-v20", "1"),
            ("docker.io/debian", "docker.io", "library/debian", "latest"),
            ("index.docker.io/a/b", "docker.io", "a/b", "latest"),
            ("localhost/a", "localhost", "a", "latest"),
            ("localhost:5000/a", "localhost:5000", "a", "latest"),
            ("127.0.0.1:5000/a/b/c:t", "127.0.0.1:5000", "a/b/c", "t"),
            ("[::1]:5000/a", "[::1]:5000", "a", "latest"),
            ("registry.example/a__b/c-d:T", "registry.example", "a__b/c-d", "T"),
            (&format!("registry.example/a:t@{digest}"), "registry.example", "a", digest.as_str()),
        ] {
            let read: Reference = given.parse().unwrap();
            assert_eq!(
                (read.registry(), read.repository(), read.selector()),
                (registry, repository, selector)
            );
        }
    }

    #[test]
    fn a_reference_prints_as_it_is_read() {
        for text in ["docker.io/library/debian:12", "localhost:5000/a", "r.example/a/b:t"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        assert_eq!("debian".parse::<Reference>().unwrap().api_host(), "registry-1.docker.io");
    }

    #[test]
    fn bad_references_say_what_is_wrong() {
        for (given, part) in [
            ("", "path"),
            ("a/UPPER", "path"),
            ("a//b", "path"),
            ("a/../b", "path"),
            ("-a", "path"),
            ("a:", "tag"),
            ("a:b c", "tag"),
            ("a@sha256:1", "not a digest"),
            ("host.example:5000/a b", "path"),
            ("ho st.example/a", "registry"),
            ("http://localhost:5000/a", "path"),
        ] {
            let error = given.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(part), "{given}: {error}");
        }
    }
}
