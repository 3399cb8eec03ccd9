//! [`Channels`]: a Channel as a durable queue, a Subscription as a delivery loop.
//!
//! An accepted event is one row, however many Subscriptions get it; what has become of each delivery is a row of its own once
//! there is anything to tell. A delivery that ends removes its row in the transaction that stores the record of its run: that
//! is what makes it happen exactly once for everything but the run itself, and `begin` sees to that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use kwsk_model::activation::Activation;
use kwsk_translate::document::{Document, Key, ResourceKind};
use kwsk_translate::event::CloudEvent;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::delivery::{Content, Delivery};
use self::dispatch::{Dispatcher, Message};
use self::http::Http;
use super::activations::Row;
use super::documents::Documents;
use super::documents::fan_out::Targets;
use super::store::Store;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::invoke::Begin;

mod attempt;
mod delivery;
mod dispatch;
mod http;
mod queue;

/// The name of the store in errors.
const NAME: &str = "channel store";

/// Events that are looked at together after a restart.
const RESUMED_AT_ONCE: u32 = 256;

/// Answers one delivery attempt, as the subscriber's HTTP endpoint would.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// Delivers `event`. `begin` must be awaited right before a run begins; from then on the event is not delivered again.
    async fn post(&self, subscription: &Arc<Document>, event: &CloudEvent, begin: Begin) -> Answer;

    /// The record of a run that had begun when the process ended, when there is to be one. The Subscription is absent when
    /// it was deleted.
    async fn interrupted(
        &self,
        subscription: Option<&Arc<Document>>,
        event: &CloudEvent,
    ) -> Option<Activation>;

    /// The record of a run that never began, when there is to be one: every attempt has failed and no dead letter sink
    /// took the event.
    async fn undelivered(&self, subscription: &Arc<Document>, event: &CloudEvent) -> Option<Activation>;
}

/// What a subscriber answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status; [`kwsk_translate::delivery::verdict`] says what it means.
    pub status: u16,
    /// What came with it.
    pub reply: Option<Reply>,
}

/// What a subscriber answered with.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The record of the run, to be stored.
    Activation(Arc<Activation>),
    /// An event, to be sent to the Subscription's `reply`.
    Event(CloudEvent),
}

/// The channels of one machine and what they deliver.
pub struct Channels {
    shared: Arc<Shared>,
    resumed: AtomicBool,
}

/// What deliveries work with.
struct Shared {
    store: Store,
    documents: Arc<Documents>,
    subscriber: Arc<dyn Subscriber>,
    http: Http,
    tasks: TaskTracker,
    stop: CancellationToken,
    inbox: UnboundedSender<Message>,
    /// The first event of this process; those before it are a predecessor's. Set on the writer thread.
    first: Arc<OnceLock<i64>>,
}

impl Channels {
    /// The channels in `store`. Deliveries are tasks of `tasks`; no new one begins after `stop`.
    #[must_use]
    pub fn new(
        store: Store,
        documents: Arc<Documents>,
        subscriber: Arc<dyn Subscriber>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (inbox, messages) = unbounded_channel();
        let http = Http::new();
        let first = Arc::default();
        let shared = Arc::new(Shared { store, documents, subscriber, http, tasks, stop, inbox, first });
        shared.tasks.spawn(Dispatcher::new(Arc::clone(&shared), messages).run());
        Self { shared, resumed: AtomicBool::new(false) }
    }

    /// Accepts an event for every Subscription the channel has now; durable when it returns.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a channel, or a failure of the store: then nobody gets the event.
    pub async fn publish(&self, channel: &Key, event: CloudEvent) -> Result<()> {
        self.shared.publish(channel, event).await
    }

    /// Takes over what a predecessor had accepted: what had begun gets the record that says so, the rest is delivered.
    /// Once per process.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn resume(&self) -> Result<()> {
        if self.resumed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let shared = &self.shared;
        let first = Arc::clone(&shared.first);
        let until =
            shared.store.write(NAME, 0, move |connection| queue::boundary(connection, &first).map(Ok));
        let (until, mut after) = (until.await?, 0);
        loop {
            let read = move |connection: &_| queue::unfinished(connection, after, until, RESUMED_AT_ONCE);
            let events = shared.store.read(NAME, read).await?;
            let Some(last) = events.last() else { return Ok(()) };
            after = last.id;
            for event in events {
                shared.take_over(event).await?;
            }
        }
    }
}

impl Shared {
    async fn publish(&self, channel: &Key, event: CloudEvent) -> Result<()> {
        if channel.kind != ResourceKind::Channel || self.documents.get(channel).await?.is_none() {
            return Err(Error::NotFound);
        }
        let channel = channel.clone();
        let stored = queue::Stored::of(&event).map_err(|error| Error::store(NAME, "written", error))?;
        let (targets, first) = (self.documents.targets(), Arc::clone(&self.first));
        let bytes = stored.bytes();
        let namespace: Arc<str> = channel.namespace.as_str().into();
        let accept = move |connection: &_| {
            let targets = targets(connection, &channel)?;
            if targets.list.is_empty() {
                return Ok(Ok(None));
            }
            let id = queue::accept(connection, &channel, &targets, &stored)?;
            first.get_or_init(|| id);
            Ok(Ok(Some((id, targets))))
        };
        let content = self.http.room(bytes).map(|room| Arc::new(Content { event, _room: Some(room) }));
        let inbox = self.inbox.clone();
        // From here on the caller may hang up.
        let deliver = move |accepted: &Result<Option<(i64, Arc<Targets>)>>| {
            if let Ok(Some((event, targets))) = accepted {
                let (event, targets) = (*event, Arc::clone(targets));
                // Fails after `stop`: then the next process delivers.
                drop(inbox.send(Message::Arrived(Delivery::first(event, namespace, targets, content))));
            }
        };
        self.store.write_then(NAME, bytes, accept, deliver).await.map(drop)
    }

    async fn take_over(&self, event: queue::Unfinished) -> Result<()> {
        let queue::Unfinished { id, namespace, targets, progress } = event;
        let first = Delivery::first(id, namespace, Arc::new(targets), None);
        let now = now_ms();
        for (target, state) in progress {
            let delivery = Delivery { target, attempts: state.attempts, ..first.clone() };
            if state.begun {
                self.interrupted(&delivery).await?;
            } else {
                let pause = Duration::from_millis(u64::try_from(state.next_at - now).unwrap_or_default());
                drop(self.inbox.send(Message::Later(delivery, pause)));
            }
        }
        Ok(())
    }

    async fn interrupted(&self, delivery: &Delivery) -> Result<()> {
        let Some(content) = self.content(delivery).await? else { return Ok(()) };
        let subscription = self.subscription(delivery).await?;
        let record = self.subscriber.interrupted(subscription.as_ref(), &content.event).await;
        self.done(delivery, record.as_ref()).await
    }

    /// The Subscription, unless it was deleted since.
    async fn subscription(&self, delivery: &Delivery) -> Result<Option<Arc<Document>>> {
        let found = self.documents.get(&delivery.key()).await?;
        Ok(found.filter(|document| document.metadata.uid.as_deref() == Some(delivery.uid())))
    }

    /// The event of a delivery; nothing when it is done with.
    async fn content(&self, delivery: &Delivery) -> Result<Option<Arc<Content>>> {
        if let Some(content) = &delivery.content {
            return Ok(Some(Arc::clone(content)));
        }
        let id = delivery.event;
        let stored = self.store.read(NAME, move |connection| queue::content(connection, id)).await?;
        let event = stored.map(|stored| stored.into_event()).transpose();
        let event = event.map_err(|error| Error::store(NAME, "read", error))?;
        Ok(event.map(|event| Arc::new(Content { event, _room: None })))
    }

    /// The delivery has ended, one way or the other; with the record of its run, if there was one.
    async fn done(&self, delivery: &Delivery, record: Option<&Activation>) -> Result<()> {
        let row = record.map(Row::of).transpose()?;
        let (event, target) = (delivery.event, delivery.target);
        let bytes = row.as_ref().map_or(0, Row::bytes);
        let finish = move |connection: &_| {
            if let Some(row) = &row {
                row.insert(connection)?;
            }
            queue::finish(connection, event, target)
        };
        self.store.keep(NAME, bytes, finish).await
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
