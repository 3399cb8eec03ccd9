//! Conditions and observed generation → usable, not yet, or failed.

use crate::document::{Document, Resource};
use crate::manifest::channel::Channel;
use crate::manifest::condition::Conditions;
use crate::manifest::kservice::KService;
use crate::manifest::subscription::Subscription;

/// Whether an object does what its latest spec says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// Not yet; why, in words.
    Pending(String),
    /// It does not. Conditions are living: it may recover, so this is not to be remembered.
    Failed {
        /// One word.
        reason: String,
        /// Prose.
        message: String,
    },
}

impl Readiness {
    /// True for [`Readiness::Ready`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// Of a Knative Service: ready, and the newest revision is the one that is routed.
#[must_use]
pub fn kservice(document: &Document) -> Readiness {
    let Some(status) = read::<KService>(document).and_then(|service| service.status) else {
        return pending("it has no status yet");
    };
    let current = status.latest_created_revision_name == status.latest_ready_revision_name;
    match of(document, &status.conditions) {
        Readiness::Ready if !current => pending("the newest revision is not ready yet"),
        Readiness::Ready if status.address.is_none() => pending("it has no address yet"),
        other => other,
    }
}

/// Of a Channel: ready, and it has an address.
#[must_use]
pub fn channel(document: &Document) -> Readiness {
    let Some(status) = read::<Channel>(document).and_then(|channel| channel.status) else {
        return pending("it has no status yet");
    };
    match of(document, &status.conditions) {
        Readiness::Ready if status.address.is_none() => pending("it has no address yet"),
        other => other,
    }
}

/// Of a Subscription.
#[must_use]
pub fn subscription(document: &Document) -> Readiness {
    match read::<Subscription>(document).and_then(|subscription| subscription.status) {
        Some(status) => of(document, &status.conditions),
        None => pending("it has no status yet"),
    }
}

fn read<R: Resource>(document: &Document) -> Option<R> {
    R::from_document(document).ok()
}

fn pending(why: &str) -> Readiness {
    Readiness::Pending(why.to_owned())
}

fn of(document: &Document, status: &Conditions) -> Readiness {
    if status.observed_generation.unwrap_or_default() != document.generation() {
        return pending("its controller has not seen the latest change yet");
    }
    let Some(ready) = status.get("Ready") else {
        return pending("it has no condition yet");
    };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    match ready.status.as_str() {
        "True" => Readiness::Ready,
        "False" => Readiness::Failed { reason: text(&ready.reason), message: text(&ready.message) },
        _ => {
            let why = [&ready.message, &ready.reason].into_iter().flatten().find(|why| !why.is_empty());
            Readiness::Pending(why.cloned().unwrap_or_else(|| "it is starting".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
