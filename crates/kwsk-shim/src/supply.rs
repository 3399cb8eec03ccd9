//! Where an action's code comes from when it is not known beforehand: a mounted file, or a store that is asked for it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kwsk_model::action::StoredCode;
use kwsk_model::activation::hex;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::fetch::Store;
use crate::protocol::Answer;
use crate::spec::{ActionSpec, CodeSource};

/// What has to be done before an action's code can be given to its runtime.
#[derive(Debug, Default)]
pub(crate) enum Supply {
    /// Nothing: it is in the specification, or there is none.
    #[default]
    Given,
    /// The file in the specification has to have this digest.
    Mounted { path: PathBuf, expected: StoredCode },
    /// It is to be fetched.
    Stored { store: Store, expected: StoredCode },
    /// Nothing can be run, for this reason.
    Broken(String),
}

impl Supply {
    /// Why nothing can ever be run.
    pub(crate) fn refusal(&self) -> Option<Answer> {
        match self {
            Self::Broken(why) => Some(Answer::Unusable(why.clone())),
            Self::Given | Self::Mounted { .. } | Self::Stored { .. } => None,
        }
    }

    /// The specification with code that is what it should be. What is fetched is in memory for as long as that lives.
    pub(crate) async fn stock(
        &self,
        spec: &Arc<ActionSpec>,
        deadline: Instant,
    ) -> Result<Arc<ActionSpec>, Answer> {
        match self {
            Self::Given => Ok(Arc::clone(spec)),
            Self::Broken(why) => Err(Answer::Unusable(why.clone())),
            Self::Mounted { path, expected } => {
                let (path, expected) = (path.clone(), expected.clone());
                let check = tokio::task::spawn_blocking(move || verify(&path, &expected));
                let checked =
                    check.await.unwrap_or_else(|_| Err("The code's digest cannot be computed.".into()));
                checked.map(|()| Arc::clone(spec)).map_err(complain)
            }
            Self::Stored { store, expected } => {
                let text = store.fetch(expected, deadline).await.map_err(complain)?;
                let code = Some(CodeSource::Inline(text.into()));
                Ok(Arc::new(ActionSpec { code, ..spec.as_ref().clone() }))
            }
        }
    }
}

fn complain(why: String) -> Answer {
    tracing::error!("{why}");
    Answer::Unusable(why)
}

/// Compares a file with what it should be.
fn verify(path: &Path, expected: &StoredCode) -> Result<(), String> {
    let unreadable = |error| {
        format!(
            "The action's code at {} cannot be read ({error}); make the mounted file readable for the user of the \
             container.",
            path.display()
        )
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    let found = hex(&digest.finalize());
    if found == expected.sha256 {
        return Ok(());
    }
    Err(mismatch(&path.display().to_string(), &found, expected))
}

/// What to say of code from `place` that is not what it should be.
pub(crate) fn mismatch(place: &str, found: &str, expected: &StoredCode) -> String {
    format!(
        "The code at {place} is not the action's: its SHA-256 is {found} and should be {}; create the action anew.",
        expected.sha256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let expected = StoredCode { sha256: hello.into(), bytes: 5 };
        assert!(verify(&path, &expected).unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "hello").unwrap();
        assert_eq!(verify(&path, &expected), Ok(()));
        std::fs::write(&path, "hallo").unwrap();
        let error = verify(&path, &expected).unwrap_err();
        assert!(
            error.contains(hello)
                && error.contains("d3751d33f9cd5049c4af2b462735457e4d3baf130bcbb87f389e349fbaeb20b9"),
            "{error}"
        );
    }
}
