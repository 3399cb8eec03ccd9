//! A Knative Service that others made, seen as an action.

use k8s_openapi::api::core::v1::Container;
use kwsk_model::action::{Action, Exec};
use kwsk_model::limits::Limits;
use kwsk_model::params::Parameters;

use crate::document::{Document, Resource};
use crate::error::Unreadable;
use crate::foreign;
use crate::manifest::kservice::{KService, RevisionSpec};
use crate::platform::Platform;

/// Its parameters stay hidden: what it has in its environment may be secret.
pub(super) fn action(platform: &Platform, document: &Document) -> Result<Action, Unreadable> {
    let service = KService::from_document(document)?;
    let spec = &service.spec.template.spec;
    let fqn = foreign::fqn(document)?;
    let mut annotations = foreign::annotations();
    annotations.set("exec", "blackbox");
    Ok(Action {
        namespace: fqn.path,
        name: fqn.name,
        version: foreign::version(document),
        publish: false,
        exec: Exec::Blackbox {
            image: serving_container(spec).and_then(|c| c.image.clone()).unwrap_or_default(),
            code: None,
            main: None,
            binary: false,
        },
        parameters: Parameters::new(),
        annotations,
        limits: limits(platform, spec),
        updated: foreign::updated(document),
    })
}

/// The one with a port, or the only one.
fn serving_container(spec: &RevisionSpec) -> Option<&Container> {
    let with_port = |c: &&Container| c.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let containers = &spec.pod.containers;
    containers.iter().find(with_port).or_else(|| containers.first())
}

fn limits(platform: &Platform, spec: &RevisionSpec) -> Limits {
    let bounds = &platform.limits.action;
    let default = Limits::default();
    let positive = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
    let timeout = positive(spec.timeout_seconds).map_or(default.timeout, |s| s.saturating_mul(1000));
    let concurrency =
        positive(spec.container_concurrency).filter(|n| *n > 0).unwrap_or(bounds.concurrency.max);
    let memory = serving_container(spec)
        .and_then(|c| c.resources.as_ref()?.limits.as_ref()?.get("memory"))
        .and_then(|quantity| mebibytes(&quantity.0));
    Limits {
        timeout: timeout.min(bounds.timeout.max),
        memory: memory.unwrap_or(default.memory),
        concurrency,
        ..default
    }
}

/// A Kubernetes quantity in MiB, rounded down.
fn mebibytes(quantity: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let with_unit = |(suffix, factor): &(&str, u64)| Some((quantity.strip_suffix(suffix)?, *factor));
    let (number, factor) = UNITS.iter().find_map(with_unit).unwrap_or((quantity, 1));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let bytes = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let part = match fraction.get(..3).unwrap_or(fraction) {
        "" => 0,
        digits => digits.parse::<u64>().ok()? * factor / 10_u64.pow(u32::try_from(digits.len()).ok()?),
    };
    Some((bytes + part) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, mib) in [
            ("256Mi", Some(256)),
            ("1Gi", Some(1024)),
            ("1.5Gi", Some(1536)),
            ("268435456", Some(256)),
            ("512M", Some(488)),
            ("2048Ki", Some(2)),
            ("x", None),
            ("1e9x", None),
        ] {
            assert_eq!(mebibytes(text), mib, "{text}");
        }
    }
}
