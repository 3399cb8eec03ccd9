//! From a KService document to how its instances are run here.

use std::sync::Arc;
use std::time::Duration;

use kwsk_model::action::{Action, Code, Exec};
use kwsk_model::limits::{MAX_RESULT_BYTES, MB};
use kwsk_shim::{ActionSpec, CodeSource, Runtime};
use kwsk_translate::document::Document;
use kwsk_translate::platform::Platform;
use serde_json::Value;

use super::LocalOptions;
use super::services::Blueprint;
use crate::code::file::FileCodeStore;
use crate::error::{Error, Result};
use crate::ops::resolve::{Found, read};

/// Makes [`Blueprint`]s.
pub struct Blueprints {
    platform: Arc<Platform>,
    code: Arc<FileCodeStore>,
    idle: Duration,
}

fn template_annotation<'a>(document: &'a Document, key: &str) -> Option<&'a str> {
    let annotations = document.body.get("spec")?.get("template")?.get("metadata")?.get("annotations")?;
    annotations.get(format!("autoscaling.knative.dev/{key}")).and_then(Value::as_str)
}

fn count(document: &Document, key: &str) -> Option<usize> {
    template_annotation(document, key)?.parse().ok()
}

/// `60s`, `2m`, `1h`: what the autoscaler's annotations hold.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

impl Blueprints {
    /// Blueprints for this platform.
    #[must_use]
    pub fn new(options: &LocalOptions, code: Arc<FileCodeStore>) -> Self {
        Self { platform: Arc::clone(&options.platform), code, idle: options.idle }
    }

    /// Instances a service keeps although idle.
    #[must_use]
    pub fn min_scale(document: &Document) -> usize {
        count(document, "min-scale").unwrap_or_default()
    }

    /// How the instances of a KService are run.
    ///
    /// # Errors
    /// When the document cannot be read, or its kind cannot be started on this machine.
    pub fn of(&self, document: &Arc<Document>) -> Result<Blueprint> {
        let Found { entity: action, .. } = read::<Action>(&self.platform, Arc::clone(document))?;
        let max = count(document, "max-scale").filter(|max| *max > 0);
        let idle = ["scale-to-zero-pod-retention-period", "window"]
            .into_iter()
            .find_map(|key| duration(template_annotation(document, key)?))
            .unwrap_or(self.idle);
        Ok(Blueprint {
            spec: Arc::new(self.spec(&action)),
            runtime: Arc::new(self.runtime(&action.exec)?),
            min: Self::min_scale(document),
            max: max.unwrap_or(usize::MAX),
            idle,
        })
    }

    fn runtime(&self, exec: &Exec) -> Result<Runtime> {
        const MISSING: Error = Error::Unavailable("This machine has no runtime for the action's kind.");
        match exec {
            Exec::Code { kind, .. } => {
                self.platform.manifest.get(kind).and_then(Runtime::of_kind).ok_or(MISSING)
            }
            Exec::Blackbox { image, .. } => {
                // There is no container engine here: only images that merely run their code can be stood in for.
                let command =
                    self.platform.command(exec).ok_or_else(|| Error::ImageNotPulled(image.clone()))?;
                Ok(Runtime::new(exec.kind(), command.clone()))
            }
            Exec::Sequence { .. } => Err(MISSING),
        }
    }

    fn spec(&self, action: &Action) -> ActionSpec {
        let code = action.exec.code().map(|code| match code {
            Code::Inline(text) => CodeSource::Inline(text.as_str().into()),
            Code::Stored(stored) => CodeSource::File(self.code.path(stored)),
        });
        let limits = &action.limits;
        ActionSpec {
            main: action.exec.main().map(str::to_owned),
            binary: action.exec.is_binary(),
            init_env: action.parameters.init_environment(),
            timeout_ms: limits.timeout,
            memory_mb: limits.memory,
            logs_bytes: limits.logs * MB,
            concurrency: u32::try_from(limits.concurrency).unwrap_or(u32::MAX),
            max_result_bytes: MAX_RESULT_BYTES,
            ..ActionSpec::new(action.name.as_str(), action.exec.kind(), code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in
            [("60s", Some(60)), ("2m", Some(120)), ("1h", Some(3600)), ("", None), ("5", None), ("xs", None)]
        {
            assert_eq!(duration(text), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
