//! Namespaces, entity names and paths: the only place that knows their grammar.
//!
//! Upstream's pattern (`EntityPath.scala`, `EntityName.REGEX`) is
//! `\A([\w]|[\w][\w@ .&-]{0,254}[\w@.&-])\z` with an ASCII `\w`, per segment.

use std::fmt;
use std::str::FromStr;

/// Longest segment, in characters (OpenWhisk `EntityName.ENTITY_NAME_MAX_LENGTH`).
pub const NAME_MAX_LENGTH: usize = 256;

/// Why a text is not a name. `Display` is what OpenWhisk answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A namespace with characters outside the grammar.
    #[error("The namespace contains illegal characters.")]
    NamespaceIllegal,
    /// A namespace longer than [`NAME_MAX_LENGTH`].
    #[error("Namespace longer than allowed: {0} > {NAME_MAX_LENGTH}.")]
    NamespaceTooLong(usize),
    /// An entity name with characters outside the grammar.
    #[error("The name of the entity contains illegal characters.")]
    EntityIllegal,
    /// An entity name longer than [`NAME_MAX_LENGTH`]; the typo is upstream's.
    #[error("Name segement longer than allowed: {0} > {NAME_MAX_LENGTH}.")]
    EntityTooLong(usize),
    /// A qualified name of fewer than two segments.
    #[error(
        "The fully qualified name of the entity must contain at least the namespace and the name of the entity."
    )]
    NotQualified,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The segment grammar, without the length.
fn is_segment(text: &str) -> bool {
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return false;
    };
    let inner = |c: char| is_word(c) || matches!(c, '@' | '.' | '&' | '-');
    match chars.next_back() {
        None => is_word(first),
        Some(last) => is_word(first) && inner(last) && chars.all(|c| inner(c) || c == ' '),
    }
}

/// One segment: the name of an action, package, trigger or rule. Case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityName(String);

impl EntityName {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`NameError::EntityTooLong`] or [`NameError::EntityIllegal`].
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let length = text.chars().count();
        if length > NAME_MAX_LENGTH {
            Err(NameError::EntityTooLong(length))
        } else if is_segment(&text) {
            Ok(Self(text))
        } else {
            Err(NameError::EntityIllegal)
        }
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A namespace: the same grammar as an entity name, other refusals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(String);

impl Namespace {
    /// The path segment that stands for the caller's own namespace.
    pub const DEFAULT: &'static str = "_";

    /// Checks length and characters.
    ///
    /// # Errors
    /// [`NameError::NamespaceTooLong`] or [`NameError::NamespaceIllegal`].
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let length = text.chars().count();
        if length > NAME_MAX_LENGTH {
            Err(NameError::NamespaceTooLong(length))
        } else if is_segment(&text) {
            Ok(Self(text))
        } else {
            Err(NameError::NamespaceIllegal)
        }
    }

    /// The text of the namespace.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `_`, which every request resolves to the caller's namespace.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }

    /// `own` when this is `_`, itself otherwise.
    #[must_use]
    pub fn resolve(&self, own: &Self) -> Self {
        if self.is_default() { own.clone() } else { self.clone() }
    }
}

/// Where an entity lives: a namespace, or a package in a namespace. Prints `ns` or `ns/pkg`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityPath {
    /// The namespace that owns the entity.
    pub namespace: Namespace,
    /// The package, for packaged actions.
    pub package: Option<EntityName>,
}

impl EntityPath {
    /// The name of the package itself, when there is one.
    #[must_use]
    pub fn package_name(&self) -> Option<FullyQualifiedEntityName> {
        let package = self.package.clone()?;
        Some(FullyQualifiedEntityName::new(self.namespace.clone(), package))
    }

    /// The same path with `_` replaced by `own`.
    #[must_use]
    pub fn resolve(&self, own: &Namespace) -> Self {
        Self { namespace: self.namespace.resolve(own), package: self.package.clone() }
    }
}

impl From<Namespace> for EntityPath {
    fn from(namespace: Namespace) -> Self {
        Self { namespace, package: None }
    }
}

/// An entity's full name. Prints `ns/name` or `ns/pkg/name`, without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FullyQualifiedEntityName {
    /// Namespace and, for packaged actions, package.
    pub path: EntityPath,
    /// The entity's own name.
    pub name: EntityName,
}

impl FullyQualifiedEntityName {
    /// An unpackaged entity.
    #[must_use]
    pub fn new(namespace: Namespace, name: EntityName) -> Self {
        Self { path: namespace.into(), name }
    }

    /// An action in a package.
    #[must_use]
    pub fn packaged(namespace: Namespace, package: EntityName, name: EntityName) -> Self {
        Self { path: EntityPath { namespace, package: Some(package) }, name }
    }

    /// The owner's namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.path.namespace
    }

    /// The name within the namespace: `name` or `pkg/name`. This is what all kinds of entity share as a key.
    #[must_use]
    pub fn local_name(&self) -> String {
        match &self.path.package {
            Some(package) => format!("{package}/{}", self.name),
            None => self.name.as_str().to_owned(),
        }
    }

    /// The inverse of [`Self::local_name`].
    ///
    /// # Errors
    /// A [`NameError`] when a segment is outside the grammar.
    pub fn from_local_name(namespace: Namespace, local: &str) -> Result<Self, NameError> {
        Ok(match local.split_once('/') {
            Some((package, name)) => {
                Self::packaged(namespace, EntityName::new(package)?, EntityName::new(name)?)
            }
            None => Self::new(namespace, EntityName::new(local)?),
        })
    }

    /// `/ns/[pkg/]name`, as runtimes and sequence components spell it.
    #[must_use]
    pub fn with_slash(&self) -> String {
        format!("/{self}")
    }

    /// The same name with `_` replaced by `own`.
    #[must_use]
    pub fn resolve(&self, own: &Namespace) -> Self {
        Self { path: self.path.resolve(own), name: self.name.clone() }
    }
}

impl FromStr for FullyQualifiedEntityName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut segments = text.strip_prefix('/').unwrap_or(text).split('/');
        let (first, second, third) = (segments.next(), segments.next(), segments.next());
        let (Some(namespace), Some(second)) = (first, second) else {
            return Err(NameError::NotQualified);
        };
        if segments.next().is_some() {
            return Err(NameError::EntityIllegal);
        }
        let namespace = Namespace::new(namespace)?;
        let second = EntityName::new(second)?;
        Ok(match third {
            None => Self::new(namespace, second),
            Some(name) => Self::packaged(namespace, second, EntityName::new(name)?),
        })
    }
}

impl FromStr for EntityPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.strip_prefix('/').unwrap_or(text);
        Ok(match text.split_once('/') {
            None => Namespace::new(text)?.into(),
            Some((namespace, package)) => {
                Self { namespace: Namespace::new(namespace)?, package: Some(EntityName::new(package)?) }
            }
        })
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EntityPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.package {
            None => self.namespace.fmt(f),
            Some(package) => write!(f, "{}/{package}", self.namespace),
        }
    }
}

impl fmt::Display for FullyQualifiedEntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.path, self.name)
    }
}

macro_rules! text_serde {
    ($type:ty, $parse:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                $parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_serde;

text_serde!(EntityName, |t: &str| Self::new(t));
text_serde!(Namespace, |t: &str| Self::new(t));
text_serde!(EntityPath, EntityPath::from_str);
text_serde!(FullyQualifiedEntityName, FullyQualifiedEntityName::from_str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        for good in ["a", "_", "9", "hello world", "a.b", "a@", "x&y", "A-b_c.", "TWICE"] {
            assert!(EntityName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "hi+there",
            "$hola",
            "dora?",
            "|dora|dora?",
            " a",
            "a ",
            "-a",
            ".a",
            "@a",
            "é",
            "a/b",
            "a\n",
        ] {
            assert_eq!(EntityName::new(bad), Err(NameError::EntityIllegal), "{bad:?}");
        }
        assert!(EntityName::new("x".repeat(256)).is_ok());
        assert_eq!(
            EntityName::new("x".repeat(257)).unwrap_err().to_string(),
            "Name segement longer than allowed: 257 > 256."
        );
        assert_eq!(
            Namespace::new("x".repeat(300)).unwrap_err().to_string(),
            "Namespace longer than allowed: 300 > 256."
        );
    }

    #[test]
    fn qualified() {
        let parse = |t: &str| t.parse::<FullyQualifiedEntityName>();
        assert_eq!(parse("/ns/a").unwrap().to_string(), "ns/a");
        assert_eq!(parse("ns/pkg/a").unwrap().with_slash(), "/ns/pkg/a");
        assert_eq!(parse("/_/a").unwrap().resolve(&Namespace::new("me").unwrap()).to_string(), "me/a");
        assert_eq!(parse("a"), Err(NameError::NotQualified));
        assert_eq!(parse("/a"), Err(NameError::NotQualified));
        assert_eq!(parse("/a/b/c/d"), Err(NameError::EntityIllegal));
        assert_eq!(parse("//b"), Err(NameError::NamespaceIllegal));
    }
}
