//! [`SemVer`]: the version every entity carries, and how it is bumped.

use std::fmt;
use std::str::FromStr;

/// `major.minor.patch`, at least `0.0.1`. Upstream: `SemVer.scala`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SemVer {
    major: u32,
    minor: u32,
    patch: u32,
}

/// The text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("semantic version malformed")]
pub struct VersionMalformed;

impl SemVer {
    /// A version from its parts.
    ///
    /// # Errors
    /// [`VersionMalformed`] for `0.0.0`.
    pub fn new(major: u32, minor: u32, patch: u32) -> Result<Self, VersionMalformed> {
        if (major, minor, patch) == (0, 0, 0) {
            return Err(VersionMalformed);
        }
        Ok(Self { major, minor, patch })
    }

    /// The version an update gets unless it names one: patch level plus one.
    #[must_use]
    pub fn bumped(self) -> Self {
        Self { patch: self.patch.saturating_add(1), ..self }
    }
}

impl Default for SemVer {
    fn default() -> Self {
        Self { major: 0, minor: 0, patch: 1 }
    }
}

impl FromStr for SemVer {
    type Err = VersionMalformed;

    /// Fewer than three parts are tolerated, missing ones are 0.
    fn from_str(text: &str) -> Result<Self, VersionMalformed> {
        let mut parts = text.split('.').map(|part| {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(VersionMalformed);
            }
            part.parse::<u32>().map_err(|_| VersionMalformed)
        });
        let mut next = || parts.next().unwrap_or(Ok(0));
        let (major, minor, patch) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(VersionMalformed);
        }
        Self::new(major, minor, patch)
    }
}

impl fmt::Display for SemVer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

crate::name::text_serde!(SemVer, SemVer::from_str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_bump() {
        for (text, shown) in [("0.0.1", "0.0.1"), ("1", "1.0.0"), ("2.3", "2.3.0"), ("0.1", "0.1.0")] {
            assert_eq!(text.parse::<SemVer>().unwrap().to_string(), shown);
        }
        for bad in ["", "0.0.0", "0", "a", "1.x", "1.2.3.4", "1..2", "-1", "+1", "1.2.3-rc", "99999999999"] {
            assert_eq!(bad.parse::<SemVer>(), Err(VersionMalformed), "{bad}");
        }
        assert_eq!(SemVer::default().bumped().to_string(), "0.0.2");
    }
}
