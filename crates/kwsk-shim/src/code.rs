//! Brings an action's code into its work directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;

use crate::archive::{self, ArchiveError};
use crate::protocol::Answer;
use crate::runtime::{Runtime, Style};
use crate::spec::{ActionSpec, CodeSource};

/// The program of archives and the name single files get.
const EXEC: &str = "exec";
const NO_BINARY: &str = "The action failed to generate or locate a binary. See logs for details.";

/// Code that is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// One file of source text, `exec`.
    Source,
    /// One executable, `exec`.
    Executable,
    /// An unpacked archive.
    Archive,
}

/// Writes or unpacks the code of `spec` into `directory`, or says what `/init` would answer.
pub(crate) async fn deliver(
    spec: &Arc<ActionSpec>,
    runtime: &Runtime,
    directory: PathBuf,
) -> Result<Delivered, Answer> {
    let (spec, style) = (Arc::clone(spec), runtime.style);
    let work = move || deliver_now(&spec, style, &directory);
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Answer::NotStarted))
}

fn deliver_now(spec: &ActionSpec, style: Style, directory: &Path) -> Result<Delivered, Answer> {
    let code = match &spec.code {
        Some(CodeSource::Inline(text)) if text.trim().is_empty() => None,
        code => code.as_ref(),
    };
    let (Some(code), false) = (code, spec.main().is_empty()) else {
        return Err(match style {
            Style::Native => Answer::error(502, NO_BINARY),
            Style::Launcher | Style::Loop | Style::Http | Style::Attached(_) => {
                Answer::error(403, "Missing main/no code to execute.")
            }
        });
    };
    let delivered = if spec.binary { unpack(code, style, directory) } else { write_source(code, directory) };
    let delivered = delivered.map_err(|error| {
        Answer::error(
            502,
            &format!("Initialization has failed due to: There was an error uncompressing the action archive. {error}"),
        )
    })?;
    let needs_exec = matches!(style, Style::Native | Style::Loop);
    if needs_exec && !directory.join(EXEC).is_file() {
        return Err(Answer::error(502, NO_BINARY));
    }
    Ok(delivered)
}

fn write_source(code: &CodeSource, directory: &Path) -> Result<Delivered, ArchiveError> {
    let mut file = create(directory)?;
    match code {
        CodeSource::Inline(text) => io::copy(&mut text.as_bytes(), &mut file)?,
        CodeSource::File(path) => io::copy(&mut File::open(path)?, &mut file)?,
    };
    Ok(Delivered::Source)
}

fn create(directory: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(directory.join(EXEC))
}

fn unpack(code: &CodeSource, style: Style, directory: &Path) -> Result<Delivered, ArchiveError> {
    let upload = directory.with_extension("upload");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&upload)?;
    match code {
        CodeSource::Inline(text) => decode(text.as_bytes(), &mut file)?,
        CodeSource::File(path) => decode(io::BufReader::new(File::open(path)?), &mut file)?,
    }
    let mut magic = [0; 4];
    io::Seek::rewind(&mut file)?;
    let read = file.read(&mut magic)?;
    io::Seek::rewind(&mut file)?;
    let delivered = match &magic[..read] {
        b"PK\x03\x04" | b"PK\x05\x06" => {
            archive::extract(file, directory)?;
            Delivered::Archive
        }
        _ if style == Style::Launcher => return Err(ArchiveError::Unsupported),
        _ => {
            io::copy(&mut file, &mut create(directory)?)?;
            Delivered::Executable
        }
    };
    fs::remove_file(upload)?;
    Ok(delivered)
}

fn decode(text: impl Read, into: &mut File) -> Result<(), ArchiveError> {
    let mut decoder = DecoderReader::new(Unwrapped(text), &STANDARD);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => io::Write::write_all(into, &buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(ArchiveError::Base64),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Base64 without the line breaks that command-line tools put into it.
struct Unwrapped<R>(R);

impl<R: Read> Read for Unwrapped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(buffer)?;
            let mut kept = 0;
            for index in 0..read {
                if !buffer[index].is_ascii_whitespace() {
                    buffer[kept] = buffer[index];
                    kept += 1;
                }
            }
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}

/// The code exactly as it was sent, for runtimes that get it in `/init`.
pub(crate) async fn text(code: &CodeSource) -> io::Result<String> {
    match code {
        CodeSource::Inline(text) => Ok(text.as_ref().to_owned()),
        CodeSource::File(path) => tokio::fs::read_to_string(path).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn delivered(
        code: Option<&str>,
        binary: bool,
        style: Style,
    ) -> (tempfile::TempDir, Result<Delivered, Value>) {
        let dir = tempfile::tempdir().unwrap();
        let code_dir = dir.path().join("code");
        fs::create_dir(&code_dir).unwrap();
        let mut spec = ActionSpec::new("a", "k", code.map(|c| CodeSource::Inline(c.into())));
        spec.binary = binary;
        let result = deliver_now(&spec, style, &code_dir).map_err(|answer| match answer {
            Answer::Body { body, .. } => serde_json::from_str(&body).unwrap(),
            other => json!(format!("{other:?}")),
        });
        (dir, result)
    }

    #[test]
    fn refusals() {
        let zip = "Initialization has failed due to: There was an error uncompressing the action archive.";
        for (code, binary, style, error) in [
            (None, false, Style::Launcher, "Missing main/no code to execute.".to_owned()),
            (Some(" \n"), false, Style::Launcher, "Missing main/no code to execute.".to_owned()),
            (None, false, Style::Native, NO_BINARY.to_owned()),
            (Some("aGVsbG8="), true, Style::Launcher, format!("{zip} The file type is unsupported")),
            (Some("%%%"), true, Style::Launcher, format!("{zip} The code is not valid base64.")),
            (Some("UEsDBA=="), true, Style::Native, format!("{zip} The archive is damaged.")),
        ] {
            assert_eq!(delivered(code, binary, style).1, Err(json!({ "error": error })), "{code:?}");
        }
    }

    #[test]
    fn files() {
        let (dir, result) = delivered(Some("x = 1"), false, Style::Launcher);
        assert_eq!(result, Ok(Delivered::Source));
        assert_eq!(fs::read_to_string(dir.path().join("code/exec")).unwrap(), "x = 1");
        let (dir, result) = delivered(Some("aGVs\nbG8=\n"), true, Style::Native);
        assert_eq!(result, Ok(Delivered::Executable));
        assert_eq!(fs::read_to_string(dir.path().join("code/exec")).unwrap(), "hello");
    }
}
