//! KServices on one machine: each becomes a pool of shims, scaled between its `min-scale` and `max-scale` by requests in
//! flight and idle time.
//!
//! One lock guards all pools, because memory is shared by them; it is held for the time it takes to pick or add an
//! instance and never across an await. A request that finds no instance and may not add one queues at its pool; whoever
//! gives an instance back hands it to the oldest waiter. An update retires the old pool: its idle instances stop at once, its
//! busy ones when they are given back, and no new request reaches either.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kwsk_model::activation::{ActivationResponse, Outcome};
use kwsk_shim::{ActionSpec, Launchpad, Report, Run, Runtime, Shim};
use kwsk_translate::document::{Document, Key};
use kwsk_translate::outcome::{self, RuntimeAnswer, Stage};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use crate::invoke::Begin;
use crate::ops::now_ms;
use crate::ops::record::INTERRUPTED;

/// How one generation of a KService is run.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// What an instance runs.
    pub spec: Arc<ActionSpec>,
    /// How its kind is started.
    pub runtime: Arc<Runtime>,
    /// Instances kept although idle.
    pub min: usize,
    /// Most instances.
    pub max: usize,
    /// How long an instance may be idle.
    pub idle: Duration,
}

/// Which document a pool was made from: another uid is another object, a higher generation a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    uid: String,
    generation: i64,
    resource_version: u64,
}

impl Origin {
    fn of(document: &Document) -> Self {
        Self {
            uid: document.metadata.uid.clone().unwrap_or_default(),
            generation: document.generation(),
            resource_version: document.resource_version().parse().unwrap_or_default(),
        }
    }

    /// True when a pool made from `self` must not serve a request that resolved `document`.
    fn is_outdated_by(&self, document: &Document) -> bool {
        if document.metadata.uid.as_deref().unwrap_or_default() == self.uid {
            self.generation < document.generation()
        } else {
            self.resource_version < document.resource_version().parse().unwrap_or_default()
        }
    }
}

struct Instance {
    shim: Shim,
    busy: u32,
    idle_since: Instant,
}

struct Pool {
    origin: Origin,
    blueprint: Blueprint,
    instances: HashMap<u64, Instance>,
    waiters: VecDeque<oneshot::Sender<Lease>>,
}

impl Pool {
    /// The busiest instance that still has room, so that the others become idle; warm ones first.
    fn with_room(&self) -> Option<u64> {
        let room = self.instances.iter().filter(|(_, i)| i.busy < self.blueprint.spec.concurrency);
        room.max_by_key(|(_, i)| (i.shim.is_warm(), i.busy, i.idle_since)).map(|(id, _)| *id)
    }

    fn memory(&self) -> u64 {
        self.blueprint.spec.memory_mb
    }
}

#[derive(Default)]
struct State {
    pools: HashMap<Key, Pool>,
    /// Instances of retired pools that are still busy, by id, with the memory each holds.
    retired: HashMap<u64, (Instance, u64)>,
    next_id: u64,
    used_mb: u64,
    /// Waiters of all pools, so that giving back a slot looks around only when somebody waits.
    waiting: usize,
    /// When the reaper looks next; `None` while nothing is idle.
    next_look: Option<Instant>,
    closed: bool,
}

struct Inner {
    state: Mutex<State>,
    launchpad: Launchpad,
    tasks: TaskTracker,
    stop: CancellationToken,
    budget_mb: u64,
    /// An instance became idle that expires before the reaper looks next.
    changed: Notify,
}

/// All pools.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

/// One slot of one instance, given back when dropped.
struct Lease {
    /// Taken out by whoever gives the slot back otherwise.
    services: Option<Services>,
    key: Key,
    instance: u64,
    shim: Shim,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(services) = self.services.take() {
            services.release(&self.key, self.instance);
        }
    }
}

/// A run that failed while the platform was shutting down failed because of that: its runtime was killed.
fn interrupted(report: Report) -> Report {
    match report.response.outcome {
        Outcome::Success | Outcome::ApplicationError => report,
        Outcome::DeveloperError | Outcome::WhiskError => {
            Report { response: ActivationResponse::whisk_error(INTERRUPTED), ..report }
        }
    }
}

/// The report of a run whose image cannot be had.
fn not_pulled(image: &str) -> Report {
    let now = now_ms();
    Report {
        response: outcome::response(Stage::Init, RuntimeAnswer::ImageNotPulled { image }),
        logs: Vec::new(),
        init_ms: None,
        run_ms: 0,
        start_ms: now,
        end_ms: now,
        duration_ms: 0,
        timed_out: false,
        ran: false,
        repeated: false,
    }
}

impl Services {
    /// No pools yet. `budget_mb` bounds the sum of the memory limits of all instances.
    #[must_use]
    pub fn new(launchpad: Launchpad, tasks: &TaskTracker, stop: CancellationToken, budget_mb: u64) -> Self {
        let services = Self(Arc::new(Inner {
            state: Mutex::default(),
            launchpad,
            tasks: tasks.clone(),
            stop: stop.clone(),
            budget_mb,
            changed: Notify::new(),
        }));
        let reaper = services.clone();
        tasks.spawn(stop.run_until_cancelled_owned(async move { reaper.reap().await }));
        services
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the action of `document` once. `blueprint` is asked only when there is no pool for this generation.
    ///
    /// # Errors
    /// When the run did not begin: shutting down, no blueprint, or `begin` failed.
    pub async fn run(
        &self,
        document: &Document,
        blueprint: impl FnOnce() -> Result<Blueprint>,
        run: Run,
        begin: Option<Begin>,
    ) -> Result<Report> {
        let lease = match self.acquire(document, blueprint).await {
            Err(Error::ImageNotPulled(image)) => return Ok(not_pulled(&image)),
            other => other?,
        };
        if let Some(begin) = begin {
            begin().await?;
        }
        let report = lease.shim.run(run).await;
        Ok(if self.0.stop.is_cancelled() { interrupted(report) } else { report })
    }

    async fn acquire(
        &self,
        document: &Document,
        blueprint: impl FnOnce() -> Result<Blueprint>,
    ) -> Result<Lease> {
        let waiting = {
            let key = document.key();
            let mut state = self.lock();
            self.renew(&mut state, &key, document, blueprint)?;
            match self.try_lease(&mut state, &key) {
                Some(lease) => return Ok(lease),
                None => {
                    let (sender, receiver) = oneshot::channel();
                    if let Some(pool) = state.pools.get_mut(&key) {
                        pool.waiters.push_back(sender);
                        state.waiting += 1;
                    }
                    receiver
                }
            }
        };
        waiting
            .await
            .map_err(|_| Error::Unavailable("The action was deleted or the platform is shutting down."))
    }

    /// Makes sure that the pool of `key` is at least as new as `document`.
    fn renew(
        &self,
        state: &mut State,
        key: &Key,
        document: &Document,
        blueprint: impl FnOnce() -> Result<Blueprint>,
    ) -> Result<()> {
        if state.closed {
            return Err(Error::Unavailable("The platform is shutting down."));
        }
        if state.pools.get(key).is_some_and(|pool| !pool.origin.is_outdated_by(document)) {
            return Ok(());
        }
        let blueprint = blueprint()?;
        let origin = Origin::of(document);
        let mut waiters = VecDeque::new();
        if let Some(old) = state.pools.remove(key) {
            waiters = self.retire(state, old);
        }
        state.pools.insert(key.clone(), Pool { origin, blueprint, instances: HashMap::new(), waiters });
        if state.waiting > 0 {
            self.feed(state);
        }
        Ok(())
    }

    /// Stops the idle instances of a pool and sets the busy ones aside; its waiters go to its successor.
    fn retire(&self, state: &mut State, pool: Pool) -> VecDeque<oneshot::Sender<Lease>> {
        let memory = pool.memory();
        for (id, instance) in pool.instances {
            if instance.busy == 0 {
                state.used_mb -= memory;
                self.stop(instance.shim);
            } else {
                state.retired.insert(id, (instance, memory));
            }
        }
        pool.waiters
    }

    fn stop(&self, shim: Shim) {
        self.0.tasks.spawn(async move { shim.stop().await });
    }

    /// A slot of an existing instance, or of a new one if scale and memory allow.
    fn try_lease(&self, state: &mut State, key: &Key) -> Option<Lease> {
        let id = match state.pools.get(key)?.with_room() {
            Some(id) => id,
            None => self.add(state, key)?,
        };
        let instance = state.pools.get_mut(key)?.instances.get_mut(&id)?;
        instance.busy += 1;
        let shim = instance.shim.clone();
        Some(Lease { services: Some(self.clone()), key: key.clone(), instance: id, shim })
    }

    /// A new, cold instance. When memory is short, the instance that has been idle longest makes room.
    fn add(&self, state: &mut State, key: &Key) -> Option<u64> {
        let pool = state.pools.get(key)?;
        let memory = pool.memory();
        if pool.instances.len() >= pool.blueprint.max {
            return None;
        }
        while state.used_mb + memory > self.0.budget_mb && state.used_mb > 0 {
            self.evict(state)?;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.used_mb += memory;
        let pool = state.pools.get_mut(key)?;
        let Blueprint { spec, runtime, .. } = &pool.blueprint;
        let shim = Shim::new(Arc::clone(spec), Arc::clone(runtime), self.0.launchpad.clone());
        pool.instances.insert(id, Instance { shim, busy: 0, idle_since: Instant::now() });
        Some(id)
    }

    fn evict(&self, state: &mut State) -> Option<()> {
        let idle = state.pools.iter().flat_map(|(key, pool)| {
            pool.instances.iter().filter(|(_, i)| i.busy == 0).map(move |(id, i)| (i.idle_since, key, *id))
        });
        let (_, key, id) = idle.min_by_key(|(since, _, _)| *since)?;
        let key = key.clone();
        self.remove(state, &key, id);
        Some(())
    }

    fn remove(&self, state: &mut State, key: &Key, id: u64) {
        if let Some(pool) = state.pools.get_mut(key)
            && let Some(instance) = pool.instances.remove(&id)
        {
            state.used_mb -= pool.memory();
            self.stop(instance.shim);
        }
    }

    fn release(&self, key: &Key, id: u64) {
        let mut state = self.lock();
        self.give_back(&mut state, key, id);
        if state.waiting > 0 {
            self.feed(&mut state);
        }
    }

    fn give_back(&self, state: &mut State, key: &Key, id: u64) {
        if let Some((instance, memory)) = state.retired.get_mut(&id) {
            instance.busy -= 1;
            if instance.busy == 0 {
                state.used_mb -= *memory;
                if let Some((instance, _)) = state.retired.remove(&id) {
                    self.stop(instance.shim);
                }
            }
            return;
        }
        let Some(pool) = state.pools.get_mut(key) else { return };
        let Some(instance) = pool.instances.get_mut(&id) else { return };
        instance.busy -= 1;
        instance.idle_since = Instant::now();
        let expires = instance.idle_since + pool.blueprint.idle;
        if state.next_look.is_none_or(|look| expires < look) {
            state.next_look = Some(expires);
            self.0.changed.notify_one();
        }
    }

    /// Gives slots to waiters, for as long as there are both. Waiters whose request is gone are passed over.
    fn feed(&self, state: &mut State) {
        let hungry: Vec<Key> =
            state.pools.iter().filter(|(_, p)| !p.waiters.is_empty()).map(|(k, _)| k.clone()).collect();
        for key in hungry {
            while self.feed_one(state, &key) {}
        }
    }

    /// Serves the oldest waiter of a pool; false when there is none or no slot.
    fn feed_one(&self, state: &mut State, key: &Key) -> bool {
        let Some(pool) = state.pools.get_mut(key) else { return false };
        let before = pool.waiters.len();
        while pool.waiters.front().is_some_and(oneshot::Sender::is_closed) {
            pool.waiters.pop_front();
        }
        state.waiting -= before - pool.waiters.len();
        if pool.waiters.is_empty() {
            return false;
        }
        let Some(lease) = self.try_lease(state, key) else { return false };
        let Some(waiter) = state.pools.get_mut(key).and_then(|pool| pool.waiters.pop_front()) else {
            return false;
        };
        state.waiting -= 1;
        if let Err(mut lease) = waiter.send(lease) {
            // It left between the look and the hand-over. The lock is held, so the lease must not take it.
            lease.services = None;
            self.give_back(state, key, lease.instance);
        }
        true
    }

    /// The service was deleted: whoever waits is told, whoever runs ends.
    pub fn forget(&self, key: &Key) {
        let mut state = self.lock();
        if let Some(pool) = state.pools.remove(key) {
            let waiters = self.retire(&mut state, pool);
            state.waiting -= waiters.len();
        }
    }

    /// The service exists in this version: an older pool is retired, and `min-scale` instances are kept, and warmed up.
    ///
    /// # Errors
    /// When there is no blueprint for it.
    pub fn reconcile(
        &self,
        document: &Document,
        blueprint: impl FnOnce() -> Result<Blueprint>,
    ) -> Result<()> {
        let key = document.key();
        let mut state = self.lock();
        self.renew(&mut state, &key, document, blueprint)?;
        while state.pools.get(&key).is_some_and(|pool| pool.instances.len() < pool.blueprint.min) {
            let Some(id) = self.add(&mut state, &key) else { break };
            if let Some(instance) = state.pools.get(&key).and_then(|pool| pool.instances.get(&id)) {
                let shim = instance.shim.clone();
                self.0.tasks.spawn(async move { shim.warm_up().await });
            }
        }
        Ok(())
    }

    /// True when there is a pool of an older generation than `document`, or of a deleted predecessor.
    #[must_use]
    pub fn is_outdated_by(&self, document: &Document) -> bool {
        let state = self.lock();
        state.pools.get(&document.key()).is_some_and(|p| p.origin.is_outdated_by(document))
    }

    /// How many instances a service has.
    #[must_use]
    pub fn scale(&self, key: &Key) -> usize {
        self.lock().pools.get(key).map_or(0, |pool| pool.instances.len())
    }

    /// Stops everything that is idle and refuses new work; busy instances stop when they are given back.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let pools: Vec<Pool> = state.pools.drain().map(|(_, pool)| pool).collect();
        for pool in pools {
            drop(self.retire(&mut state, pool));
        }
        state.waiting = 0;
    }

    /// Scales idle instances down.
    async fn reap(&self) {
        loop {
            let changed = self.0.changed.notified();
            match self.reap_once(Instant::now()) {
                None => changed.await,
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
            }
        }
    }

    /// Stops what has been idle for too long; when the next instance may become so.
    fn reap_once(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let (mut expired, mut next): (Vec<(Key, u64)>, Option<Instant>) = (Vec::new(), None);
        for (key, pool) in &state.pools {
            let mut spare = pool.instances.len().saturating_sub(pool.blueprint.min);
            for (id, instance) in pool.instances.iter().filter(|(_, i)| i.busy == 0) {
                let at = instance.idle_since + pool.blueprint.idle;
                if spare > 0 && at <= now {
                    expired.push((key.clone(), *id));
                    spare -= 1;
                } else if spare > 0 {
                    next = Some(next.map_or(at, |n: Instant| n.min(at)));
                }
            }
        }
        for (key, id) in expired {
            self.remove(&mut state, &key, id);
        }
        state.next_look = next;
        next
    }
}

#[cfg(test)]
mod tests;
