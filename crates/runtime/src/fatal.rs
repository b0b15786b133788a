//! Fatal errors of a replica: any thread that fails reports one, which stops the replica.

use std::io;
use std::thread;
use synod_consensus::FatalError;
use synod_replica::ApplyError;
use synod_storage::StorageError;
use tokio::sync::watch;

/// Error that stopped a replica. It is final: repair the cause, then start the replica again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// A write or sync of the log failed. The content of the disk is unknown.
    #[error("the log cannot be written, so the node stops: {0}")]
    Log(StorageError),
    /// A write or sync of the state failed.
    #[error("the state cannot be saved, so the node stops: {0}")]
    State(ApplyError),
    /// The state machine failed.
    #[error("the log cannot be applied, so the node stops: {0}")]
    Apply(ApplyError),
    /// The protocol would change chosen values, or a peer reports other values as chosen.
    #[error(transparent)]
    Protocol(#[from] FatalError),
    /// A thread panicked. The panic message is on standard error.
    #[error("the thread {0} panicked, so the node stops: see standard error")]
    Panicked(String),
    /// The operating system did not provide a resource that a thread needs.
    #[error("{0}")]
    System(String),
}

/// Sender of one replica's fatal errors. Only the first error is kept. Clones share the channel.
#[derive(Clone, Debug)]
pub struct FatalErrorSender(watch::Sender<Option<Fatal>>);

/// Receiver of one replica's first fatal error. Clones receive the same error.
#[derive(Clone, Debug)]
pub struct FatalErrorReceiver(watch::Receiver<Option<Fatal>>);

impl FatalErrorSender {
    /// Creates a channel; returns its sender and its receiver.
    #[must_use]
    pub fn new() -> (Self, FatalErrorReceiver) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), FatalErrorReceiver(receiver))
    }

    /// Reports a fatal error, so that the replica stops. Errors after the first are dropped.
    pub fn send(&self, why: Fatal) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(why);
            }
            is_first
        });
    }

    /// Starts a thread that reports its error or panic as a fatal error. The error is reported before
    /// `task` is dropped, so that threads that find its channels closed can read the reason.
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        task: T,
        run: impl FnOnce(&mut T) -> Result<(), Fatal> + Send + 'static,
    ) -> io::Result<()> {
        let (fatal, name) = (self.clone(), name.to_owned());
        let work = move || {
            let mut task = task; // Declared before the guard, so that a panic drops it after the guard.
            let mut guard = PanicGuard { fatal, armed: true };
            if let Err(error) = run(&mut task) {
                guard.fatal.send(error);
            }
            // Dropped while the guard is armed: a store may panic when it closes.
            drop(task);
            guard.armed = false;
        };
        thread::Builder::new().name(name).spawn(work).map(drop)
    }
}

impl FatalErrorReceiver {
    /// Returns the first fatal error, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<Fatal> {
        self.0.borrow().clone()
    }

    /// Waits for the first fatal error. Returns `None` if all senders are dropped without one.
    pub async fn first(&self) -> Option<Fatal> {
        let mut errors = self.0.clone();
        match errors.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        }
    }
}

/// Guard that reports a fatal error when its thread unwinds.
struct PanicGuard {
    fatal: FatalErrorSender,
    armed: bool,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if self.armed {
            let name = thread::current().name().unwrap_or_default().to_owned();
            self.fatal.send(Fatal::Panicked(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn first_error(work: fn() -> Result<(), Fatal>) -> String {
        let (fatal, errors) = FatalErrorSender::new();
        fatal.thread("worker", (), move |()| work()).unwrap();
        drop(fatal);
        errors.first().await.map_or_else(|| "quiet".into(), |error| error.to_string())
    }

    #[tokio::test]
    async fn error_and_panic_of_a_thread_are_fatal_and_a_clean_end_is_not() {
        assert_eq!(first_error(|| Ok(())).await, "quiet");
        assert_eq!(first_error(|| Err(Fatal::System("disk full".into()))).await, "disk full");
        let panicked = first_error(|| panic!("on purpose")).await;
        assert!(panicked.starts_with("the thread worker panicked"), "{panicked}");
    }

    #[test]
    fn first_of_two_fatal_errors_is_kept() {
        let (fatal, errors) = FatalErrorSender::new();
        assert_eq!(errors.get(), None);
        fatal.send(Fatal::System("first".into()));
        fatal.send(Fatal::System("second".into()));
        assert_eq!(errors.get(), Some(Fatal::System("first".into())));
    }
}
