//! [`Detach`]: a future that, when nobody waits for it any more, goes on in a tracked task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Polled in place, so that an answered request costs no task; dropped before it ended, it is moved to `tasks`. This is
/// what keeps an invocation alive when its caller hangs up or its wait is over.
pub struct Detach<T: Send + 'static> {
    future: Option<Boxed<T>>,
    tasks: TaskTracker,
}

impl<T: Send + 'static> Detach<T> {
    /// Wraps `future`.
    pub fn new(tasks: &TaskTracker, future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { future: Some(Box::pin(future)), tasks: tasks.clone() }
    }
}

impl<T: Send + 'static> Future for Detach<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(future) = self.future.as_mut() else {
            return Poll::Pending;
        };
        let output = std::task::ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for Detach<T> {
    fn drop(&mut self) {
        // Outside of a runtime there is nothing left to run it on.
        if let (Some(future), Ok(runtime)) = (self.future.take(), tokio::runtime::Handle::try_current()) {
            self.tasks.spawn_on(
                async move {
                    future.await;
                },
                &runtime,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn goes_on_when_dropped() {
        let tasks = TaskTracker::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let mut detached = Detach::new(&tasks, async move {
            gate.await.unwrap();
            sender.send(7).unwrap();
        });
        assert!(futures::poll!(&mut detached).is_pending());
        drop(detached);
        go.send(()).unwrap();
        assert_eq!(receiver.await, Ok(7));
    }

    #[tokio::test]
    async fn answers_in_place() {
        let tasks = TaskTracker::new();
        assert_eq!(Detach::new(&tasks, async { 1 }).await, 1);
        assert!(tasks.is_empty());
    }
}
