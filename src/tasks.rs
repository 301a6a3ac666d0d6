//! Owns every task and thread that the sidecar starts for itself: their names, their panics, their end.
//! A leaf: imports nothing of ours. Must never lose a panic: each is logged with its name, counted, and begins a drain if the
//! sidecar cannot work without the task.

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    thread,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks and threads of one sidecar; cheap to clone. Each clone starts them for the same owner.
#[derive(Clone)]
pub struct Tasks(Arc<Shared>);

struct Shared {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The first task that ended though the sidecar cannot work without it.
    fault: watch::Sender<Option<Fault>>,
    /// Counts a panic under the name of its task.
    count: Box<dyn Fn(&'static str) + Send + Sync>,
}

/// A task that ended though the sidecar cannot work without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{task} ended while serving: {cause}")]
pub struct Fault {
    /// The task's name.
    pub task: &'static str,
    /// Why it ended.
    pub cause: String,
}

/// Whether the sidecar can work without a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It cannot: its panic begins a drain.
    Vital,
    /// It can, with one function less.
    Spare,
}

impl Tasks {
    /// Makes the owner of no task yet; `count` is called with the name of each task that panics.
    #[must_use]
    pub fn new(count: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            fault: watch::Sender::new(None),
            count: Box::new(count),
        }))
    }

    /// Starts a task, which [`Tasks::end_by`] drops if it still runs then. The handle gives none if it panicked or was dropped.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.start(name, Need::Spare, task)
    }

    /// The same for a task that the sidecar cannot work without.
    pub fn spawn_vital<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.start(name, Need::Vital, task)
    }

    /// Starts a thread that the sidecar cannot work without. It has to end by itself.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub fn spawn_vital_thread(
        &self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let tasks = self.clone();
        let thread = thread::Builder::new().name(name.to_owned());
        let started = thread.spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                tasks.panicked(name, Need::Vital, &*panic);
            }
        });
        started.map(drop)
    }

    fn start<T: Send + 'static>(
        &self,
        name: &'static str,
        need: Need,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let tasks = self.clone();
        // In a box: a future that is moved into another one would take its room twice.
        let mut task = Box::pin(task);
        self.0.tracker.spawn(async move {
            let caught = std::future::poll_fn(|context| {
                match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            });
            tokio::select! {
                biased;
                ended = caught => match ended {
                    Ok(output) => Some(output),
                    Err(panic) => {
                        tasks.panicked(name, need, &*panic);
                        None
                    }
                },
                () = tasks.0.stop.cancelled() => None,
            }
        })
    }

    fn panicked(&self, task: &'static str, need: Need, panic: &(dyn Any + Send)) {
        let words = words(panic);
        (self.0.count)(task);
        match need {
            Need::Vital => {
                tracing::error!(
                    task,
                    "a task panicked: {words}; the sidecar cannot work without it and stops"
                );
                self.fail(task, format!("it panicked: {words}"));
            }
            Need::Spare => tracing::error!(task, "a task panicked: {words}; this is a bug, report it"),
        }
    }

    /// Says that a task ended though the sidecar cannot work without it. The first word stays.
    pub fn fail(&self, task: &'static str, cause: String) {
        self.0.fault.send_if_modified(|fault| {
            let is_first = fault.is_none();
            fault.get_or_insert(Fault { task, cause });
            is_first
        });
    }

    /// Waits until a task has ended though the sidecar cannot work without it.
    pub async fn failed(&self) -> Fault {
        let mut fault = self.0.fault.subscribe();
        loop {
            if let Some(fault) = fault.borrow_and_update().clone() {
                return fault;
            }
            if fault.changed().await.is_err() {
                // Not while this owner, which has the sender, is there.
                return std::future::pending().await;
            }
        }
    }

    /// Drops all tasks and waits until they are gone, at most until then; returns whether they are.
    pub async fn end_by(&self, by: Instant) -> bool {
        self.0.stop.cancel();
        self.0.tracker.close();
        timeout_at(by, self.0.tracker.wait()).await.is_ok()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tasks").field("running", &self.0.tracker.len()).finish_non_exhaustive()
    }
}

/// Returns the text of a panic.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// An owner, and the names of the tasks that panicked.
    fn counted() -> (Tasks, Arc<Mutex<Vec<&'static str>>>) {
        let counted = Arc::<Mutex<Vec<_>>>::default();
        let counts = Arc::clone(&counted);
        (Tasks::new(move |task| counts.lock().push(task)), counted)
    }

    async fn panics(words: &str) {
        tokio::task::yield_now().await;
        panic!("{words}")
    }

    #[tokio::test]
    async fn a_panic_is_counted_and_that_of_a_vital_task_is_a_fault() {
        let (tasks, counted) = counted();
        assert_eq!(tasks.spawn("spare", panics("of no consequence")).await.unwrap(), None);
        assert_eq!(tasks.spawn("well", async { 7 }).await.unwrap(), Some(7));
        tasks.spawn_vital("vital", panics("first")).await.unwrap();
        tasks.spawn_vital("another", panics("second")).await.unwrap();
        let fault = tasks.failed().await;
        assert_eq!(fault.to_string(), "vital ended while serving: it panicked: first");
        assert_eq!(*counted.lock(), ["spare", "vital", "another"]);
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_a_fault_too() {
        let (tasks, counted) = counted();
        tasks.spawn_vital_thread("kafka-metadata", || panic!("no text at all")).unwrap();
        let fault = tasks.failed().await;
        assert_eq!((fault.task, &*fault.cause), ("kafka-metadata", "it panicked: no text at all"));
        assert_eq!(*counted.lock(), ["kafka-metadata"]);
    }

    #[tokio::test]
    async fn the_end_drops_what_still_runs_and_waits_for_it() {
        let (tasks, counted) = counted();
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let running = tasks.spawn_vital("endless", async move {
            std::future::pending::<()>().await;
            drop(holds);
        });
        assert!(tasks.end_by(soon()).await);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(running.await.unwrap(), None);
        assert!(counted.lock().is_empty());
    }
}
