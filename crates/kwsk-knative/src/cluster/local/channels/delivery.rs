//! [`Delivery`]: one event on its way to one Subscription.

use std::sync::Arc;

use kwsk_translate::document::{Key, ResourceKind};
use kwsk_translate::event::CloudEvent;
use tokio::sync::OwnedSemaphorePermit;

use crate::cluster::local::documents::fan_out::{Target, Targets};

/// An event in memory. What waits keeps it only while there is room, otherwise it is read again.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) event: CloudEvent,
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// One event on its way to one Subscription.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) event: i64,
    pub(super) namespace: Arc<str>,
    pub(super) targets: Arc<Targets>,
    /// Index in `targets`.
    pub(super) target: u32,
    /// How many attempts have failed.
    pub(super) attempts: u32,
    pub(super) content: Option<Arc<Content>>,
}

impl Delivery {
    /// The delivery to the first target; the others differ in the index.
    pub(super) fn first(
        event: i64,
        namespace: Arc<str>,
        targets: Arc<Targets>,
        content: Option<Arc<Content>>,
    ) -> Self {
        Self { event, namespace, targets, target: 0, attempts: 0, content }
    }

    /// One delivery for each target.
    pub(super) fn all(self) -> impl Iterator<Item = Self> {
        let count = u32::try_from(self.targets.list.len()).unwrap_or(u32::MAX);
        (0..count).map(move |target| Self { target, ..self.clone() })
    }

    fn to(&self) -> Option<&Target> {
        self.targets.list.get(self.target as usize)
    }

    /// The Subscription.
    pub(super) fn key(&self) -> Key {
        let name = self.to().map_or("", |target| &target.name);
        Key::new(ResourceKind::Subscription, &*self.namespace, name)
    }

    pub(super) fn uid(&self) -> &str {
        self.to().map_or("", |target| &target.uid)
    }
}
