//! The activations an instance has seen, so that a redelivered one does not run twice.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::spec::Report;

/// Ids remembered.
const IDS: usize = 1024;
/// Bytes of reports kept to be repeated; older ones are forgotten, their ids are not.
const BYTES: usize = 1024 * 1024;

/// Bounded memory of activations.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Arc<str>, Known>,
    order: VecDeque<Arc<str>>,
    reported: VecDeque<(Arc<str>, usize)>,
    bytes: usize,
}

#[derive(Debug)]
enum Known {
    Running(Vec<oneshot::Sender<Arc<Report>>>),
    Done(Arc<Report>),
    /// It ran, but how it ended is forgotten or was never known.
    Lost,
}

/// What to do with an activation.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// Run it; the claim is to be settled with the report.
    Never(Claim<'a>),
    /// It is running: the report will come, unless that run is abandoned.
    Running(oneshot::Receiver<Arc<Report>>),
    Done(Arc<Report>),
    Lost,
}

/// The right to run an id. Dropped without a report, the id counts as lost.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    recent: &'a Recent,
    id: Option<Arc<str>>,
}

impl Recent {
    /// Looks `id` up, and claims it when it is new.
    pub(crate) fn claim(&self, id: &str) -> Seen<'_> {
        let mut inner = self.lock();
        match inner.known.get_mut(id) {
            Some(Known::Running(waiting)) => {
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                Seen::Running(receiver)
            }
            Some(Known::Done(report)) => Seen::Done(Arc::clone(report)),
            Some(Known::Lost) => Seen::Lost,
            None => {
                let id = Arc::from(id);
                inner.add(Arc::clone(&id));
                Seen::Never(Claim { recent: self, id: Some(id) })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, id: Arc<str>) {
        while self.order.len() >= IDS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.known.remove(&oldest);
        }
        self.order.push_back(Arc::clone(&id));
        self.known.insert(id, Known::Running(Vec::new()));
    }

    fn keep(&mut self, id: Arc<str>, report: Arc<Report>, size: usize) {
        let Some(known) = self.known.get_mut(&id) else { return };
        *known = Known::Done(report);
        self.bytes += size;
        self.reported.push_back((id, size));
        while self.bytes > BYTES || self.reported.len() > IDS {
            let Some((old, size)) = self.reported.pop_front() else { break };
            self.bytes -= size;
            if let Some(known) = self.known.get_mut(&old) {
                *known = Known::Lost;
            }
        }
    }

    fn waiting(&mut self, id: &str) -> Vec<oneshot::Sender<Arc<Report>>> {
        match self.known.get_mut(id).map(|known| std::mem::replace(known, Known::Lost)) {
            Some(Known::Running(waiting)) => waiting,
            Some(Known::Done(_) | Known::Lost) | None => Vec::new(),
        }
    }
}

impl Claim<'_> {
    /// The run is over.
    pub(crate) fn settle(mut self, report: &Report) {
        let Some(id) = self.id.take() else { return };
        let size = size(report);
        let mut inner = self.recent.lock();
        let waiting = inner.waiting(&id);
        // What nobody waits for and nobody keeps is not copied: logs are long.
        if waiting.is_empty() && size > BYTES {
            return;
        }
        let report = Arc::new(Report { repeated: true, ..report.clone() });
        tell(waiting, &report);
        if size <= BYTES {
            inner.keep(id, report, size);
        }
    }

    /// The run never started, for the reason in `report`, and may be tried again.
    pub(crate) fn release(mut self, report: &Report) {
        let Some(id) = self.id.take() else { return };
        let mut inner = self.recent.lock();
        let waiting = inner.waiting(&id);
        inner.known.remove(&id);
        inner.order.retain(|known| *known != id);
        if !waiting.is_empty() {
            tell(waiting, &Arc::new(report.clone()));
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            drop(self.recent.lock().waiting(&id));
        }
    }
}

/// A waiting caller may be gone; that is its business.
fn tell(waiting: Vec<oneshot::Sender<Arc<Report>>>, report: &Arc<Report>) {
    waiting.into_iter().for_each(|sender| drop(sender.send(Arc::clone(report))));
}

fn size(report: &Report) -> usize {
    let result = report.response.result.as_ref().map_or(0, |r| r.get().len());
    result + report.logs.iter().map(String::len).sum::<usize>() + 200
}

#[cfg(test)]
mod tests {
    use super::*;
    use kwsk_model::activation::ActivationResponse;
    use serde_json::Value;

    fn report(text: &str) -> Report {
        let response = ActivationResponse::success(Value::from(vec![text]).into(), None);
        let logs = Vec::new();
        Report {
            response,
            logs,
            init_ms: None,
            run_ms: 0,
            start_ms: 0,
            end_ms: 0,
            duration_ms: 0,
            timed_out: false,
            ran: true,
            repeated: false,
        }
    }

    fn repeated(text: &str) -> Report {
        Report { repeated: true, ..report(text) }
    }

    fn run(recent: &Recent, id: &str, text: &str) {
        match recent.claim(id) {
            Seen::Never(claim) => claim.settle(&report(text)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn repeats_and_forgets() {
        let recent = Recent::default();
        run(&recent, "a", "x");
        assert!(matches!(recent.claim("a"), Seen::Done(r) if *r == repeated("x")));
        let long = "y".repeat(BYTES / 2);
        run(&recent, "b", &long);
        run(&recent, "c", &long);
        assert!(matches!(recent.claim("a"), Seen::Lost) && matches!(recent.claim("b"), Seen::Lost));
        run(&recent, "d", &"z".repeat(2 * BYTES));
        assert!(matches!(recent.claim("d"), Seen::Lost));
        for n in 0..IDS {
            run(&recent, &n.to_string(), "");
        }
        assert!(matches!(recent.claim("a"), Seen::Never(_)));
    }

    #[tokio::test]
    async fn a_running_one_is_waited_for() {
        let recent = Recent::default();
        let Seen::Never(claim) = recent.claim("a") else { panic!() };
        let Seen::Running(waiting) = recent.claim("a") else { panic!() };
        claim.settle(&report("x"));
        assert_eq!(*waiting.await.unwrap(), repeated("x"));
        let Seen::Never(claim) = recent.claim("b") else { panic!() };
        let Seen::Running(waiting) = recent.claim("b") else { panic!() };
        drop(claim);
        assert!(waiting.await.is_err());
        assert!(matches!(recent.claim("b"), Seen::Lost));
        let Seen::Never(claim) = recent.claim("c") else { panic!() };
        let Seen::Running(waiting) = recent.claim("c") else { panic!() };
        let closed = Report { ran: false, ..report("closed") };
        claim.release(&closed);
        assert_eq!(*waiting.await.unwrap(), closed);
        assert!(matches!(recent.claim("c"), Seen::Never(_)));
    }
}
