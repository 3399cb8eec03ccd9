//! One delivery attempt and what follows from its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use kwsk_translate::delivery::{DeliveryPlan, Verdict, verdict};
use kwsk_translate::document::{Document, ResourceKind};
use kwsk_translate::event::CloudEvent;
use kwsk_translate::manifest::destination::Destination;
use kwsk_translate::manifest::subscription::{DeliverySpec, SubscriptionSpec};
use serde::Deserialize;
use tokio::time::sleep;

use super::delivery::Delivery;
use super::{Answer, NAME, Reply, Shared, now_ms, queue};
use crate::error::{Error, Result};
use crate::invoke::Begin;

/// The pause after a failure of our own, which does not count as an attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest an attempt may take when the Subscription sets no time; Knative's in-memory channel has the same bound.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// `knativeerrordata` has at most so many characters.
const ERROR_DATA: usize = 1024;

/// How far the run of an attempt has come.
const NOT_BEGUN: u8 = 0;
const BEGUN: u8 = 1;
const CANNOT_BEGIN: u8 = 2;

/// How an attempt ended.
enum Outcome {
    Answered(Answer),
    /// No answer, for this reason.
    Failed(String),
    /// The process stops, or the store cannot take down that the run begins: this was no attempt.
    Void,
}

/// Attempts a delivery; what is returned is to be attempted again after the pause.
pub(super) async fn deliver(shared: &Arc<Shared>, delivery: Delivery) -> Option<(Delivery, Duration)> {
    let key = delivery.key();
    match attempt(shared, &delivery).await {
        Ok(None) => None,
        Ok(Some((attempts, pause))) => Some((Delivery { attempts, ..delivery }, pause)),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(subscription = %key, event = delivery.event, %error, cause, "a delivery is held up");
            Some((delivery, PAUSE))
        }
    }
}

/// The number of failed attempts and the pause before the next, if there is to be one.
async fn attempt(shared: &Arc<Shared>, delivery: &Delivery) -> Result<Option<(u32, Duration)>> {
    let Some(content) = shared.content(delivery).await? else { return Ok(None) };
    let Some(subscription) = shared.subscription(delivery).await? else {
        tracing::debug!(subscription = %delivery.key(), event = content.event.id, "deleted, so the event is not delivered");
        shared.done(delivery, None).await?;
        return Ok(None);
    };
    let route = Route { shared, delivery, subscription: &subscription, event: &content.event };
    let spec = subscription
        .body
        .get("spec")
        .map_or_else(|| Ok(SubscriptionSpec::default()), SubscriptionSpec::deserialize);
    match spec {
        Ok(spec) => route.follow(&spec).await,
        Err(error) => {
            let cause = format!("the Subscription cannot be read: {error}");
            route.give_up(&SubscriptionSpec::default(), None, &cause).await
        }
    }
}

/// One attempt and all it needs.
struct Route<'a> {
    shared: &'a Arc<Shared>,
    delivery: &'a Delivery,
    subscription: &'a Arc<Document>,
    event: &'a CloudEvent,
}

impl Route<'_> {
    async fn follow(&self, spec: &SubscriptionSpec) -> Result<Option<(u32, Duration)>> {
        let plan = DeliveryPlan::from(spec.delivery.as_ref().unwrap_or(&DeliverySpec::default()));
        let begun = Arc::new(AtomicU8::new(NOT_BEGUN));
        let outcome = Box::pin(self.post(spec, plan, &begun)).await;
        let begun = begun.load(Ordering::Acquire) == BEGUN;
        let (status, cause) = match outcome {
            Outcome::Void => {
                return Ok((!self.shared.stop.is_cancelled()).then_some((self.delivery.attempts, PAUSE)));
            }
            Outcome::Failed(cause) => (None, cause),
            Outcome::Answered(answer) => match verdict(answer.status) {
                Verdict::Delivered => return self.delivered(spec, plan, answer.reply).await,
                _ => (Some(answer.status), format!("the subscriber answered {}", answer.status)),
            },
        };
        let again = status.is_none_or(|status| verdict(status) == Verdict::Retry);
        // What has begun is never run again, whatever it answered.
        if again && !begun && self.delivery.attempts < plan.retries {
            return self.postpone(plan).await.map(Some);
        }
        self.give_up(spec, status, &cause).await
    }

    async fn post(&self, spec: &SubscriptionSpec, plan: DeliveryPlan, begun: &Arc<AtomicU8>) -> Outcome {
        let subscriber = spec.subscriber.as_ref();
        let post = async {
            match subscriber.map(|to| (&to.ref_, to.uri.as_deref())) {
                Some((None, Some(uri))) => {
                    match self.shared.http.post(uri, self.event, &self.delivery.namespace).await {
                        Ok(answer) => Outcome::Answered(answer),
                        Err(error) => Outcome::Failed(error.to_string()),
                    }
                }
                Some(_) => {
                    let begin = self.begin(Arc::clone(begun));
                    Outcome::Answered(self.shared.subscriber.post(self.subscription, self.event, begin).await)
                }
                None => Outcome::Failed("the Subscription has no subscriber".to_owned()),
            }
        };
        tokio::pin!(post);
        let limit = plan.timeout.unwrap_or(LONGEST);
        let interrupted = tokio::select! {
            biased;
            outcome = &mut post => return self.unless_void(outcome, begun),
            () = self.shared.stop.cancelled() => Outcome::Void,
            () = sleep(limit) => Outcome::Failed(format!("no answer within {limit:?}")),
        };
        match begun.load(Ordering::Acquire) {
            // The run has its own time limit, and its end is known only to those who wait for it.
            BEGUN => post.await,
            _ => interrupted,
        }
    }

    /// A failure that is due to our own store or to the end of the process is not the subscriber's.
    fn unless_void(&self, outcome: Outcome, begun: &AtomicU8) -> Outcome {
        let delivered =
            matches!(&outcome, Outcome::Answered(answer) if verdict(answer.status) == Verdict::Delivered);
        match begun.load(Ordering::Acquire) {
            _ if delivered => outcome,
            CANNOT_BEGIN => Outcome::Void,
            NOT_BEGUN if self.shared.stop.is_cancelled() => Outcome::Void,
            _ => outcome,
        }
    }

    fn begin(&self, begun: Arc<AtomicU8>) -> Begin {
        let (store, event, target) = (self.shared.store.clone(), self.delivery.event, self.delivery.target);
        Box::new(move || {
            // Set first: from here on nobody may let go of the attempt and try again.
            begun.store(BEGUN, Ordering::Release);
            Box::pin(async move {
                let written = store
                    .write(NAME, 0, move |connection| queue::begin(connection, event, target).map(Ok))
                    .await;
                if written.is_err() {
                    begun.store(CANNOT_BEGIN, Ordering::Release);
                }
                written
            })
        })
    }

    async fn delivered(
        &self,
        spec: &SubscriptionSpec,
        plan: DeliveryPlan,
        reply: Option<Reply>,
    ) -> Result<Option<(u32, Duration)>> {
        match (reply, &spec.reply) {
            (Some(Reply::Activation(record)), _) => self.done(Some(&record)).await,
            (Some(Reply::Event(reply)), Some(to)) => match self.send(to, &reply, plan).await {
                Ok(()) => self.done(None).await,
                Err(cause) => {
                    self.give_up(spec, None, &format!("the reply cannot be delivered: {cause}")).await
                }
            },
            (Some(Reply::Event(_)) | None, _) => self.done(None).await,
        }
    }

    async fn done(
        &self,
        record: Option<&kwsk_model::activation::Activation>,
    ) -> Result<Option<(u32, Duration)>> {
        // The run is over and cannot be repeated. The store keeps what it is given until it is on disk, so this fails only
        // when it has shut down, and then the next process finds that the run had begun.
        match self.shared.done(self.delivery, record).await {
            Err(error) if !self.shared.stop.is_cancelled() => {
                tracing::error!(subscription = %self.delivery.key(), event = self.event.id, %error, "the end of a delivery is not stored");
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn postpone(&self, plan: DeliveryPlan) -> Result<(u32, Duration)> {
        let Delivery { event, target, attempts, .. } = *self.delivery;
        let pause = plan.backoff(attempts);
        let next_at = now_ms().saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
        let progress = queue::Progress { begun: false, attempts: attempts + 1, next_at };
        let write = move |connection: &_| queue::postpone(connection, event, target, progress);
        self.shared.store.keep(NAME, 0, write).await?;
        Ok((attempts + 1, pause))
    }

    /// The event goes to the dead letter sink if there is one, and is dropped otherwise.
    async fn give_up(
        &self,
        spec: &SubscriptionSpec,
        status: Option<u16>,
        cause: &str,
    ) -> Result<Option<(u32, Duration)>> {
        let delivery = spec.delivery.clone().unwrap_or_default();
        let (subscription, event) = (self.delivery.key(), &self.event.id);
        let Some(sink) = &delivery.dead_letter_sink else {
            tracing::warn!(%subscription, event, cause, "an event is dropped: it cannot be delivered and there is no dead letter sink");
            let record = self.shared.subscriber.undelivered(self.subscription, self.event).await;
            return self.done(record.as_ref()).await;
        };
        let letter = self.dead_letter(spec.subscriber.as_ref(), status, cause);
        match self.send(sink, &letter, DeliveryPlan::from(&delivery)).await {
            Ok(()) => {
                tracing::debug!(%subscription, event, cause, "an event went to the dead letter sink");
                return self.done(None).await;
            }
            Err(_) if self.shared.stop.is_cancelled() => return Ok(None),
            Err(why) => {
                tracing::warn!(%subscription, event, cause, why, "an event is dropped: the dead letter sink does not take it");
            }
        }
        let record = self.shared.subscriber.undelivered(self.subscription, self.event).await;
        self.done(record.as_ref()).await
    }

    fn dead_letter(&self, to: Option<&Destination>, status: Option<u16>, cause: &str) -> CloudEvent {
        let dest = to.and_then(|to| to.uri.clone()).unwrap_or_else(|| self.delivery.key().to_string());
        let mut letter = self.event.clone();
        let mut extend = |name: &str, value: String| letter.extensions.insert(name.to_owned(), value);
        extend("knativeerrordest", dest);
        extend("knativeerrorcode", status.unwrap_or(500).to_string());
        extend("knativeerrordata", cause.chars().take(ERROR_DATA).collect());
        letter
    }

    /// Sends an event of ours, as patiently as the Subscription's own.
    async fn send(&self, to: &Destination, event: &CloudEvent, plan: DeliveryPlan) -> Result<(), String> {
        let mut attempt = 0;
        loop {
            let cause = match self.send_once(to, event).await {
                Ok(()) => return Ok(()),
                Err((Verdict::Retry, cause)) if attempt < plan.retries => cause,
                Err((_, cause)) => return Err(cause),
            };
            tokio::select! {
                () = self.shared.stop.cancelled() => return Err(cause),
                () = sleep(plan.backoff(attempt)) => attempt += 1,
            }
        }
    }

    async fn send_once(&self, to: &Destination, event: &CloudEvent) -> Result<(), (Verdict, String)> {
        let namespace = &self.delivery.namespace;
        match (&to.ref_, to.uri.as_deref()) {
            (Some(reference), _) => match reference.key(namespace) {
                Some(key) if key.kind == ResourceKind::Channel => {
                    match Box::pin(self.shared.publish(&key, event.clone())).await {
                        Ok(()) => Ok(()),
                        Err(error @ Error::NotFound) => Err((Verdict::Retry, format!("{key}: {error}"))),
                        Err(error) => Err((Verdict::Retry, error.to_string())),
                    }
                }
                _ => Err((
                    Verdict::Fatal,
                    format!("{} {} has no address here", reference.kind, reference.name),
                )),
            },
            (None, Some(uri)) => match self.shared.http.post(uri, event, namespace).await {
                Ok(answer) => match verdict(answer.status) {
                    Verdict::Delivered => Ok(()),
                    failed => Err((failed, format!("{uri} answered {}", answer.status))),
                },
                Err(error) => Err((Verdict::Retry, error.to_string())),
            },
            (None, None) => Err((Verdict::Fatal, "the destination is empty".to_owned())),
        }
    }
}
