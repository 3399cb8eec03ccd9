//! [`Dispatcher`]: which delivery is attempted when.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use kwsk_translate::document::Key;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::attempt;
use super::delivery::Delivery;

/// Attempts at a time, for one Subscription.
const PER_SUBSCRIPTION: usize = 64;

/// Attempts at a time, for all of them.
const IN_ALL: usize = 1024;

/// What the dispatcher is told.
pub(super) enum Message {
    /// A channel has accepted an event; the delivery stands for those to all of its targets.
    Arrived(Delivery),
    /// An attempt is due after a pause.
    Later(Delivery, Duration),
    /// An attempt has ended; possibly there is to be another.
    Ended(Key, Option<(Delivery, Duration)>),
}

/// The deliveries of one Subscription.
#[derive(Default)]
struct Mailbox {
    running: usize,
    waiting: VecDeque<Delivery>,
    /// It is in [`Dispatcher::held_up`].
    held_up: bool,
}

/// The one task that decides. Attempts are tasks of their own and tell it when they end.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    messages: UnboundedReceiver<Message>,
    mailboxes: HashMap<Key, Mailbox>,
    running: usize,
    /// Subscriptions that wait for their turn because there are enough attempts in all.
    held_up: VecDeque<Key>,
    /// By due time; the number keeps those of one moment apart.
    later: BTreeMap<(Instant, u64), Delivery>,
    count: u64,
}

impl Dispatcher {
    pub(super) fn new(shared: Arc<Shared>, messages: UnboundedReceiver<Message>) -> Self {
        Self {
            shared,
            messages,
            mailboxes: HashMap::new(),
            running: 0,
            held_up: VecDeque::new(),
            later: BTreeMap::new(),
            count: 0,
        }
    }

    /// Works until the channels stop. What waits then is on disk.
    pub(super) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        loop {
            let due = self.later.first_key_value().map(|((at, _), _)| *at);
            let timer = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                message = self.messages.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                () = timer => self.due(),
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Arrived(first) => first.all().for_each(|delivery| self.offer(delivery)),
            Message::Later(delivery, Duration::ZERO) => self.offer(delivery),
            Message::Later(delivery, pause) => {
                self.count += 1;
                self.later.insert((Instant::now() + pause, self.count), delivery);
            }
            Message::Ended(key, again) => self.ended(&key, again),
        }
    }

    fn due(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let delivery = entry.remove();
            self.offer(delivery);
        }
    }

    fn offer(&mut self, delivery: Delivery) {
        let key = delivery.key();
        self.mailboxes.entry(key.clone()).or_default().waiting.push_back(delivery);
        self.pump(&key);
    }

    fn ended(&mut self, key: &Key, again: Option<(Delivery, Duration)>) {
        self.running -= 1;
        if let Some(mailbox) = self.mailboxes.get_mut(key) {
            mailbox.running -= 1;
        }
        self.pump(key);
        while self.running < IN_ALL
            && let Some(next) = self.held_up.pop_front()
        {
            if let Some(mailbox) = self.mailboxes.get_mut(&next) {
                mailbox.held_up = false;
            }
            self.pump(&next);
        }
        if let Some((delivery, pause)) = again {
            self.hear(Message::Later(delivery, pause));
        }
    }

    /// Starts what may start.
    fn pump(&mut self, key: &Key) {
        let Some(mailbox) = self.mailboxes.get_mut(key) else { return };
        while mailbox.running < PER_SUBSCRIPTION && self.running < IN_ALL {
            let Some(delivery) = mailbox.waiting.pop_front() else { break };
            mailbox.running += 1;
            self.running += 1;
            start(&self.shared, key.clone(), delivery);
        }
        if mailbox.waiting.is_empty() && mailbox.running == 0 {
            self.mailboxes.remove(key);
        } else if !mailbox.waiting.is_empty() && mailbox.running < PER_SUBSCRIPTION && !mailbox.held_up {
            mailbox.held_up = true;
            self.held_up.push_back(key.clone());
        }
    }
}

/// Tells the dispatcher that an attempt has ended, also when it panicked.
struct Slot {
    inbox: UnboundedSender<Message>,
    ended: Option<(Key, Option<(Delivery, Duration)>)>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((key, again)) = self.ended.take() {
            // Fails when the dispatcher has stopped: then the rest is for the next process.
            drop(self.inbox.send(Message::Ended(key, again)));
        }
    }
}

fn start(shared: &Arc<Shared>, key: Key, delivery: Delivery) {
    let mut slot = Slot { inbox: shared.inbox.clone(), ended: Some((key, None)) };
    let own = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let again = attempt::deliver(&own, delivery).await;
        if let Some((_, next)) = &mut slot.ended {
            *next = again;
        }
    });
}
