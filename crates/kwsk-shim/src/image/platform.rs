//! What an image or a binary runs on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system and processor, in the words of Go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ….
    pub architecture: String,
    /// `v7`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on this processor.
    #[must_use]
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Reads `arm64`, `linux/arm64` or `linux/arm/v7`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        if !parts.iter().all(is_word) {
            return None;
        }
        match parts.as_slice() {
            [architecture] => Some(Self::linux(architecture)),
            [os, architecture] => Some(Self { os: (*os).to_owned(), ..Self::linux(architecture) }),
            [os, architecture, variant] => Some(Self {
                os: (*os).to_owned(),
                variant: Some((*variant).to_owned()),
                ..Self::linux(architecture)
            }),
            _ => None,
        }
    }

    /// True when this is what `wanted` asks for; a variant that is not asked for does not matter.
    pub(crate) fn is(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || self.variant == wanted.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// What the ELF header of a program says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elf {
    pub(crate) architecture: &'static str,
    /// It needs nothing of the image it is put into.
    pub(crate) is_static: bool,
}

impl Elf {
    /// Reads the header of an executable.
    ///
    /// # Errors
    /// What is wrong with it, to follow "cannot be used: ".
    pub(crate) fn read(program: &[u8]) -> Result<Self, String> {
        const INTERPRETER: u32 = 3;
        if program.get(..4) != Some(b"\x7fELF") {
            return Err("it is not a Linux program; give the file that the shim's build made".to_owned());
        }
        let is_64 = program.get(4) == Some(&2);
        let is_little = program.get(5) == Some(&1);
        let number = |at: usize, bytes: usize| -> Result<u64, String> {
            let field = program.get(at..at.saturating_add(bytes)).ok_or("it is cut off; build it again")?;
            let fold = |number, byte: &u8| number << 8 | u64::from(*byte);
            Ok(if is_little { field.iter().rev().fold(0, fold) } else { field.iter().fold(0, fold) })
        };
        let architecture = match (number(18, 2)?, is_64, is_little) {
            (62, true, true) => "amd64",
            (183, true, true) => "arm64",
            (40, false, true) => "arm",
            (3, false, true) => "386",
            (243, true, true) => "riscv64",
            (21, true, true) => "ppc64le",
            (22, true, false) => "s390x",
            (258, true, true) => "loong64",
            (machine, ..) => {
                return Err(format!("it is for a processor (ELF machine {machine}) that no image names"));
            }
        };
        let (table, size, count) = match is_64 {
            true => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
            false => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
        };
        let mut is_static = true;
        for index in 0..count {
            let at = table.saturating_add(index * size);
            let kind = number(usize::try_from(at).unwrap_or(usize::MAX), 4)?;
            is_static &= kind != u64::from(INTERPRETER);
        }
        Ok(Self { architecture, is_static })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_and_printed() {
        assert_eq!(Platform::parse("arm64").unwrap().to_string(), "linux/arm64");
        assert_eq!(Platform::parse("linux/arm/v7").unwrap().to_string(), "linux/arm/v7");
        for bad in ["", "linux/", "a/b/c/d", "lin ux/amd64"] {
            assert!(Platform::parse(bad).is_none(), "{bad}");
        }
        let v7 = Platform::parse("linux/arm/v7").unwrap();
        assert!(v7.is(&Platform::linux("arm")) && !Platform::linux("arm").is(&v7));
    }

    #[test]
    fn elf_headers_of_this_test() {
        let itself = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = Elf::read(&itself).unwrap();
        assert_eq!((elf.architecture == "amd64"), cfg!(target_arch = "x86_64"));
        assert!(Elf::read(b"#!/bin/sh").unwrap_err().contains("not a Linux program"));
        for cut in [4, 19, 40, 70] {
            assert!(Elf::read(&itself[..cut]).is_err(), "{cut}");
        }
    }
}
