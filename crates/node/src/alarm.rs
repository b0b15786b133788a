//! What ends a node: the first thread that fails says why.

use std::io;
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc;

/// Reports that the node cannot go on. Clones report to the same place.
#[derive(Clone, Debug)]
pub struct Alarm(mpsc::UnboundedSender<anyhow::Error>);

/// Where alarms arrive.
#[derive(Debug)]
pub struct Alarms(mpsc::UnboundedReceiver<anyhow::Error>);

impl Alarm {
    /// An alarm and the place where it arrives.
    #[must_use]
    pub fn new() -> (Self, Alarms) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Alarms(receiver))
    }

    /// Says that the node cannot go on, and why.
    pub fn raise(&self, why: anyhow::Error) {
        // Nobody listens any more once the node stops, and then it is no news.
        let _ = self.0.send(why);
    }

    /// Starts a thread whose failure, or panic, raises the alarm.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn thread(
        &self,
        name: &'static str,
        work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let alarm = self.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut guard = PanicGuard { alarm, name, armed: true };
            let result = work();
            guard.armed = false;
            if let Err(error) = result {
                guard.alarm.raise(error);
            }
        })
    }
}

impl Alarms {
    /// The next alarm, if one has been raised.
    pub fn raised(&mut self) -> Option<anyhow::Error> {
        self.0.try_recv().ok()
    }

    /// Waits for the first alarm.
    pub async fn first(&mut self) -> anyhow::Error {
        match self.0.recv().await {
            Some(error) => error,
            // Every sender is gone, so every thread ended well.
            None => std::future::pending().await,
        }
    }
}

/// Raises the alarm when its thread unwinds.
struct PanicGuard {
    alarm: Alarm,
    name: &'static str,
    armed: bool,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if self.armed {
            let name = self.name;
            self.alarm.raise(anyhow::anyhow!("the thread {name} broke an invariant and is dead"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_alarm(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> String {
        let (alarm, mut alarms) = Alarm::new();
        let thread = alarm.thread("worker", work).unwrap();
        let _ = thread.join();
        alarms.0.try_recv().map_or_else(|_| "quiet".into(), |error| error.to_string())
    }

    #[test]
    fn a_failure_and_a_panic_raise_the_alarm_and_an_end_does_not() {
        assert_eq!(first_alarm(|| Ok(())), "quiet");
        assert_eq!(first_alarm(|| anyhow::bail!("disk full")), "disk full");
        let panicked = first_alarm(|| panic!("on purpose"));
        assert_eq!(panicked, "the thread worker broke an invariant and is dead");
    }
}
