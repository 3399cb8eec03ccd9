//! The actions a runtime is given.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One action, by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// The arguments.
    Echo,
    /// Another entry point.
    Entry,
    /// The environment.
    Env,
    /// Output.
    Logs,
    /// A long result.
    Large,
    /// A module variable.
    State,
    /// An `error` field.
    Error,
    /// An exception.
    Throws,
    /// No result.
    Nothing,
    /// A null result.
    Null,
    /// A text as result.
    Scalar,
    /// No action at all.
    Broken,
    /// No end.
    Hang,
    /// The end of the process.
    Exit,
    /// Several activations at a time.
    Together,
}

/// All of them.
pub const SAMPLES: &[Sample] = &[
    Sample::Echo,
    Sample::Entry,
    Sample::Env,
    Sample::Logs,
    Sample::Large,
    Sample::State,
    Sample::Error,
    Sample::Throws,
    Sample::Nothing,
    Sample::Null,
    Sample::Scalar,
    Sample::Broken,
    Sample::Hang,
    Sample::Exit,
    Sample::Together,
];

impl Sample {
    /// The name of its file, without an extension.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Entry => "entry",
            Self::Env => "env",
            Self::Logs => "logs",
            Self::Large => "large",
            Self::State => "state",
            Self::Error => "error",
            Self::Throws => "throws",
            Self::Nothing => "nothing",
            Self::Null => "null",
            Self::Scalar => "scalar",
            Self::Broken => "broken",
            Self::Hang => "hang",
            Self::Exit => "exit",
            Self::Together => "together",
        }
    }

    /// What the action has to do.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Echo => "returns its arguments, an object or an array",
            Self::Entry => "is called `other` instead of `main` and returns {\"other\": true}",
            Self::Env => "returns its environment as one object of strings",
            Self::Logs => {
                "prints the argument `text` on stdout and on stderr, a line each, and returns it as `text`"
            }
            Self::Large => "returns {\"text\": …} with as many `a` as the argument `size` says",
            Self::State => "returns {\"count\": n}, n being how often this process has run it",
            Self::Error => "returns {\"error\": \"refused\"}",
            Self::Throws => "throws an exception with the text `thrown`",
            Self::Nothing => "returns nothing at all (JavaScript's undefined)",
            Self::Null => "returns null",
            Self::Scalar => "returns the string `text`",
            Self::Broken => "is no program",
            Self::Hang => "never returns",
            Self::Exit => "ends its process with code 1 if the argument `exit` is true, else returns {}",
            Self::Together => {
                "returns {\"together\": n} once the n runs that the argument `together` names are in it at a time"
            }
        }
    }

    /// Its entry point.
    pub(super) fn main(self) -> &'static str {
        if self == Self::Entry { "other" } else { "main" }
    }
}

/// What the built-in samples are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// JavaScript with CommonJS.
    Nodejs,
    /// Python 3.
    Python,
    /// The image brings its own action and is given no code.
    None,
}

/// The names of the languages.
pub const LANGUAGES: &[(&str, Language)] =
    &[("nodejs", Language::Nodejs), ("python", Language::Python), ("none", Language::None)];

impl std::str::FromStr for Language {
    type Err = SamplesError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = LANGUAGES.iter().find(|(known, _)| *known == name);
        known.map(|(_, language)| *language).ok_or_else(|| SamplesError::Language(name.to_owned()))
    }
}

/// Where the actions come from: the directory first, then what is built in.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Built-in ones.
    pub language: Option<Language>,
    /// The author's own, each in a file with the sample's name and any extension.
    pub directory: Option<PathBuf>,
}

/// Why there are no actions.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// An unknown language.
    #[error(
        "there are no samples in '{0}': take nodejs, python or none, or bring your own with --samples DIR"
    )]
    Language(String),
    /// Neither a language nor a directory.
    #[error("the runtime needs actions: name --language nodejs, python or none, or --samples DIR")]
    Nothing,
    /// The directory or a file in it cannot be read.
    #[error("the samples in {path} cannot be read")]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The directory has none of the names.
    #[error("no file in {0} has the name of a sample, such as echo.js")]
    Empty(PathBuf),
}

/// An action's code as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) text: String,
    pub(super) binary: bool,
}

impl Code {
    /// Text as it is, anything else as base64.
    fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Self { text, binary: false },
            Ok(text) => Self { text: STANDARD.encode(text), binary: true },
            Err(error) => Self { text: STANDARD.encode(error.as_bytes()), binary: true },
        }
    }
}

/// All that was found.
#[derive(Debug)]
pub(super) struct Shelf {
    codes: Vec<(Sample, Code)>,
    /// The runtime is given no code.
    pub(super) own: bool,
}

impl Shelf {
    pub(super) fn load(samples: &Samples) -> Result<Self, SamplesError> {
        let mut codes = match &samples.directory {
            Some(directory) => from_directory(directory)?,
            None if samples.language.is_none() => return Err(SamplesError::Nothing),
            None => Vec::new(),
        };
        for (sample, text) in built_in(samples.language) {
            if codes.iter().all(|(had, _)| had != sample) {
                codes.push((*sample, Code { text: (*text).to_owned(), binary: false }));
            }
        }
        Ok(Self { own: codes.is_empty(), codes })
    }

    pub(super) fn get(&self, sample: Sample) -> Option<&Code> {
        self.codes.iter().find(|(had, _)| *had == sample).map(|(_, code)| code)
    }
}

fn from_directory(directory: &Path) -> Result<Vec<(Sample, Code)>, SamplesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SamplesError::Read { path, source }
    };
    let mut codes = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let stem = path.file_stem().unwrap_or_default();
        if let Some(sample) = SAMPLES.iter().find(|sample| stem == sample.name()) {
            codes.push((*sample, Code::of(fs::read(&path).map_err(failed(&path))?)));
        }
    }
    if codes.is_empty() {
        return Err(SamplesError::Empty(directory.to_owned()));
    }
    Ok(codes)
}

macro_rules! built_in {
    ($directory:literal, $extension:literal: $($sample:ident $name:literal),+ $(,)?) => {
        &[$((Sample::$sample, include_str!(concat!("samples/", $directory, "/", $name, ".", $extension)))),+]
    };
}

fn built_in(language: Option<Language>) -> &'static [(Sample, &'static str)] {
    match language {
        Some(Language::Nodejs) => built_in!("nodejs", "js":
            Echo "echo", Entry "entry", Env "env", Logs "logs", Large "large", State "state", Error "error",
            Throws "throws", Nothing "nothing", Null "null", Scalar "scalar", Broken "broken", Hang "hang", Exit "exit",
            Together "together"),
        // Nothing and null are the same there, and its runtime takes one activation at a time.
        Some(Language::Python) => built_in!("python", "py":
            Echo "echo", Entry "entry", Env "env", Logs "logs", Large "large", State "state", Error "error",
            Throws "throws", Null "null", Scalar "scalar", Broken "broken", Hang "hang", Exit "exit"),
        Some(Language::None) | None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_go_before_what_is_built_in() {
        let dir = tempfile::tempdir().unwrap();
        let at = |directory: &Path| Samples { language: None, directory: Some(directory.to_owned()) };
        assert!(matches!(Shelf::load(&at(dir.path())), Err(SamplesError::Empty(_))));
        assert!(matches!(Shelf::load(&at(&dir.path().join("x"))), Err(SamplesError::Read { .. })));
        assert!(matches!(Shelf::load(&Samples::default()), Err(SamplesError::Nothing)));
        fs::write(dir.path().join("echo.rb"), "def main").unwrap();
        fs::write(dir.path().join("env.zip"), b"PK\x03\x04\x00").unwrap();
        fs::write(dir.path().join("README"), "x").unwrap();
        let shelf = Shelf::load(&at(dir.path())).unwrap();
        assert_eq!(shelf.get(Sample::Echo).unwrap().text, "def main");
        let zip = shelf.get(Sample::Env).unwrap();
        assert!(zip.binary && zip.text == "UEsDBAA=");
        assert!(shelf.get(Sample::Logs).is_none() && !shelf.own);
        let both = Samples { language: Some(Language::Python), ..at(dir.path()) };
        let shelf = Shelf::load(&both).unwrap();
        assert_eq!(shelf.get(Sample::Echo).unwrap().text, "def main");
        assert!(shelf.get(Sample::Logs).unwrap().text.contains("print"));
    }

    #[test]
    fn languages() {
        for (name, language) in LANGUAGES {
            assert_eq!(name.parse::<Language>().unwrap(), *language);
            let shelf = Shelf::load(&Samples { language: Some(*language), directory: None }).unwrap();
            assert_eq!(shelf.own, *language == Language::None);
            assert_eq!(shelf.get(Sample::Echo).is_some(), *language != Language::None);
        }
        assert!("cobol".parse::<Language>().unwrap_err().to_string().contains("'cobol'"));
    }
}
