//! Throttles: invocations and fires per wall-clock minute, and invocations in flight, per namespace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kwsk_model::identity::{Identity, SystemLimits};
use kwsk_model::name::Namespace;

use crate::error::{Error, Result};

/// A fixed window of one wall-clock minute.
#[derive(Debug, Default)]
struct Window {
    minute: u64,
    count: u64,
}

impl Window {
    /// Counts an attempt, refused ones included, as upstream does.
    fn attempt(&mut self, now_ms: u64, allowed: u64) -> Result<()> {
        let minute = now_ms / 60_000;
        if self.minute != minute {
            *self = Self { minute, count: 0 };
        }
        self.count += 1;
        if self.count <= allowed {
            Ok(())
        } else {
            Err(Error::TooManyPerMinute { count: self.count, allowed })
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    invocations: Window,
    fires: Window,
    in_flight: u64,
}

type Table = Arc<Mutex<HashMap<Namespace, Counters>>>;

/// Counts per namespace. Upstream: `RateThrottler`, `ActivationThrottler`.
#[derive(Debug, Clone, Default)]
pub struct Throttle(Table);

fn lock(table: &Table) -> MutexGuard<'_, HashMap<Namespace, Counters>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn counters<'a>(
    table: &'a mut MutexGuard<'_, HashMap<Namespace, Counters>>,
    of: &Namespace,
) -> &'a mut Counters {
    if !table.contains_key(of) {
        table.insert(of.clone(), Counters::default());
    }
    table.entry(of.clone()).or_default()
}

/// One invocation in flight, until dropped.
#[derive(Debug)]
pub struct InFlight {
    table: Table,
    namespace: Namespace,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(counters) = lock(&self.table).get_mut(&self.namespace) {
            counters.in_flight = counters.in_flight.saturating_sub(1);
        }
    }
}

impl Throttle {
    /// Admits one invocation: the rate is checked first, then how many are in flight.
    ///
    /// # Errors
    /// [`Error::TooManyPerMinute`] or [`Error::TooManyConcurrent`].
    pub fn invocation(&self, identity: &Identity, system: &SystemLimits, now_ms: u64) -> Result<InFlight> {
        let own = &identity.limits;
        let mut table = lock(&self.0);
        let counters = counters(&mut table, &identity.namespace);
        counters
            .invocations
            .attempt(now_ms, own.invocations_per_minute.unwrap_or(system.invocations_per_minute))?;
        let allowed = own.concurrent_invocations.unwrap_or(system.concurrent_invocations);
        let count = counters.in_flight + 1;
        if count > allowed {
            return Err(Error::TooManyConcurrent { count, allowed });
        }
        counters.in_flight = count;
        drop(table);
        Ok(self.resumed(&identity.namespace, 0))
    }

    /// Counts an invocation nobody may refuse any more: one that was accepted before a restart.
    pub(crate) fn resumed(&self, namespace: &Namespace, add: u64) -> InFlight {
        if add > 0 {
            counters(&mut lock(&self.0), namespace).in_flight += add;
        }
        InFlight { table: Arc::clone(&self.0), namespace: namespace.clone() }
    }

    /// Admits one trigger fire.
    ///
    /// # Errors
    /// [`Error::TooManyPerMinute`].
    pub fn fire(&self, identity: &Identity, system: &SystemLimits, now_ms: u64) -> Result<()> {
        let allowed = identity.limits.fires_per_minute.unwrap_or(system.fires_per_minute);
        counters(&mut lock(&self.0), &identity.namespace).fires.attempt(now_ms, allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_attempts_count_and_windows_are_wall_clock() {
        let mut window = Window::default();
        assert!(window.attempt(59_999, 1).is_ok());
        let refused = window.attempt(59_999, 1).unwrap_err();
        assert_eq!(refused.to_string(), "Too many requests in the last minute (count: 2, allowed: 1).");
        assert!(matches!(window.attempt(59_999, 1), Err(Error::TooManyPerMinute { count: 3, .. })));
        assert!(window.attempt(60_000, 1).is_ok());
        assert!(Window::default().attempt(0, 0).is_err());
    }

    #[test]
    fn in_flight_is_given_back() {
        let throttle = Throttle::default();
        let identity = crate::auth::tests_support::identity("guest");
        let system = SystemLimits {
            concurrent_invocations: 1,
            invocations_per_minute: 100,
            ..SystemLimits::default()
        };
        let first = throttle.invocation(&identity, &system, 0).unwrap();
        let refused = throttle.invocation(&identity, &system, 0).unwrap_err();
        assert_eq!(refused.to_string(), "Too many concurrent requests in flight (count: 2, allowed: 1).");
        drop(first);
        assert!(throttle.invocation(&identity, &system, 0).is_ok());
    }
}
