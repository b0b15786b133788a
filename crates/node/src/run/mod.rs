//! Running one replica: the threads around a [`Driver`], and how the outside talks to it.
//!
//! | thread | owns | does |
//! |---|---|---|
//! | core | the driver | takes every queued event, then hands out what is to be done |
//! | writer | the log store | makes one write and one sync of all batches that wait |
//! | apply | the state machine | applies, answers queries, hands on what changed |
//! | saver | the state's store | writes and syncs what changed, behind |
//!
//! Batching falls out of the load: while the writer syncs, batches gather; there is no linger
//! timer. A failed write is never tried again: whatever fails here stops the node, through the
//! [`Alarm`].

mod apply;
mod clock;
mod core;
mod handle;
mod meters;
mod saver;
#[cfg(test)]
mod tests;
mod writer;

pub use clock::Clock;
pub use handle::{Handle, Overload};
pub use meters::{Applying, Meters, View};

use crate::alarm::Alarm;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use synod_replica::{Applier, Driver};
use synod_storage::LogStore;
use synod_transport::Transport;
use synod_types::NodeId;
use tokio::sync::mpsc;

/// Frames that were received and wait for the driver; the transport keeps the next ones.
const FRAMES: usize = 128;
/// Requests and reads of clients that wait for the driver; more are refused.
const CALLS: usize = 8192;

/// What a replica runs on.
pub struct Parts {
    /// The replica.
    pub driver: Box<dyn Driver>,
    /// Where its log is kept.
    pub log: Box<dyn LogStore>,
    /// Its state machine with its store.
    pub applier: Applier,
    /// How it reaches its peers.
    pub transport: Arc<dyn Transport>,
    /// Where the members listen for their peers.
    pub addresses: BTreeMap<NodeId, String>,
    /// How long a client's request may take.
    pub request_timeout: Duration,
    /// The clock that the driver was opened with.
    pub clock: Clock,
}

/// A replica's running threads.
pub struct Running {
    stop: mpsc::UnboundedSender<core::Signal>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the threads. Call it within a tokio runtime: frames are received there.
///
/// # Errors
/// If the system refuses a thread.
pub fn launch(mut parts: Parts, alarm: &Alarm) -> std::io::Result<(Handle, Running)> {
    let meters = Arc::new(Meters::new(parts.driver.status(), &parts.applier));
    let (signals, received) = mpsc::unbounded_channel();
    let (frames, queued_frames) = mpsc::channel(FRAMES);
    let (calls, queued_calls) = mpsc::channel(CALLS);
    let (batches, queued_batches) = std::sync::mpsc::channel();
    let (tasks, queued_tasks) = std::sync::mpsc::channel();

    let writer = writer::Writer {
        log: parts.log,
        batches: queued_batches,
        signals: signals.clone(),
        meters: Arc::clone(&meters),
    };
    let (pieces, queued_pieces) = std::sync::mpsc::sync_channel(saver::PIECES);
    let saver = saver::StateSaver {
        saver: parts.applier.take_saver(),
        pieces: queued_pieces,
        meters: Arc::clone(&meters),
    };
    let apply = apply::Apply::new(parts.applier, queued_tasks, signals.clone(), pieces, &meters);
    let core = core::Core {
        driver: parts.driver,
        clock: parts.clock,
        inbox: core::Inbox { signals: received, frames: queued_frames, calls: queued_calls },
        out: core::Outlets {
            batches: Some(batches),
            tasks: tasks.clone(),
            transport: Arc::clone(&parts.transport),
            addresses: parts.addresses,
        },
        clients: core::Clients::new(parts.request_timeout),
        meters: Arc::clone(&meters),
        forgetful: BTreeSet::new(),
    };
    let threads = vec![
        alarm.thread("synod-writer", move || writer.run())?,
        alarm.thread("synod-saver", move || saver.run())?,
        alarm.thread("synod-apply", move || apply.run())?,
        alarm.thread("synod-core", move || core.run())?,
    ];
    tokio::spawn(receive(parts.transport, frames));
    Ok((Handle::new(calls, tasks, meters), Running { stop: signals, threads }))
}

/// Carries frames from the transport to the driver; waits while the driver is behind.
async fn receive(transport: Arc<dyn Transport>, frames: mpsc::Sender<core::Frame>) {
    while let Some(frame) = transport.recv().await {
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

impl Running {
    /// Stops: what was written is synced, what was applied is saved. Blocks until that is done.
    pub fn stop(self) {
        // Nobody listens if the core died; the alarm has said so.
        let _ = self.stop.send(core::Signal::Stop);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}
