//! The time limit of a run, and the moment from which its log streams are watched.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Log streams are not watched before a run has taken this long: each line of a short run would wake us once more, and
/// all of them are there when its answer is.
const UNWATCHED: Duration = Duration::from_millis(2);

/// One timer for run after run. It is left to go off when a run is over, because setting a near one interrupts the
/// sleep of tokio's driver, which costs more than what short runs do otherwise.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: Pin<Box<Sleep>>,
    watch_from: Instant,
    deadline: Instant,
}

/// What it is time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    Watch,
    TimeOut,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { timer: Box::pin(sleep_until(now)), watch_from: now, deadline: now }
    }

    /// A run begins.
    pub(crate) fn set(&mut self, deadline: Instant) {
        self.watch_from = Instant::now() + UNWATCHED;
        self.deadline = deadline;
        let next = self.watch_from.min(deadline);
        if self.timer.is_elapsed() || self.timer.deadline() > next {
            self.timer.as_mut().reset(next);
        }
    }

    /// Waits until there is something to do: first [`Ring::Watch`], then [`Ring::TimeOut`]. Cancel safe.
    pub(crate) async fn ring(&mut self) -> Ring {
        loop {
            self.timer.as_mut().await;
            let now = Instant::now();
            if now >= self.deadline {
                return Ring::TimeOut;
            }
            if now < self.watch_from {
                self.timer.as_mut().reset(self.watch_from.min(self.deadline));
            } else {
                let first = self.timer.deadline() < self.deadline;
                self.timer.as_mut().reset(self.deadline);
                if first {
                    return Ring::Watch;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_twice_per_run() {
        let mut alarm = Alarm::new();
        for _ in 0..2 {
            let began = Instant::now();
            alarm.set(began + Duration::from_millis(400));
            assert_eq!(alarm.ring().await, Ring::Watch);
            assert!(began.elapsed() >= UNWATCHED && began.elapsed() < Duration::from_millis(400));
            assert_eq!(alarm.ring().await, Ring::TimeOut);
            assert!(began.elapsed() >= Duration::from_millis(400));
        }
    }

    #[tokio::test]
    async fn short_runs_leave_it_alone() {
        let mut alarm = Alarm::new();
        alarm.set(Instant::now() + Duration::from_secs(60));
        let set = alarm.timer.deadline();
        alarm.set(Instant::now() + Duration::from_secs(60));
        assert_eq!(alarm.timer.deadline(), set);
        let began = Instant::now();
        alarm.set(began);
        assert_eq!(alarm.ring().await, Ring::TimeOut);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
