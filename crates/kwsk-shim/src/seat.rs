//! The process a shim has right now, whatever it is doing: there to be signalled, ended and waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::process::Process;

/// Holds the newest process of one shim.
#[derive(Debug, Default)]
pub(crate) struct Seat(Mutex<Option<Arc<Process>>>);

impl Seat {
    /// A process begins.
    pub(crate) fn take(&self, process: &Arc<Process>) {
        *self.lock() = Some(Arc::clone(process));
    }

    /// The process, unless it ended.
    pub(crate) fn holder(&self) -> Option<Arc<Process>> {
        self.lock().clone().filter(|process| !process.has_exited())
    }

    /// Waits until nothing is left of the process. Someone else ends it.
    pub(crate) async fn vacated(&self) {
        let holder = self.lock().clone();
        if let Some(process) = holder {
            process.gone().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Process>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
