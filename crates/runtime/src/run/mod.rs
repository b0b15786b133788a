//! Threads of one replica around a [`Driver`].
//!
//! | thread | owns | work |
//! |---|---|---|
//! | core | the driver | processes all queued events, then carries out the driver's actions |
//! | writer | the log store | merges the queued batches into one write and one sync |
//! | apply | the state machine | applies runs, creates readers, passes changes to the saver |
//! | saver | the state store | writes and syncs the applied state behind |
//!
//! Batches grow with the load: new batches queue while the writer syncs. There is no linger timer. A
//! failed write is never retried: the thread reports a [`Fatal`](crate::Fatal) error, which stops the
//! replica.

mod apply;
mod clock;
pub(crate) mod core;
pub(crate) mod metrics;
mod saver;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use apply::Task;
pub(crate) use clock::Clock;

use crate::replica::{Shared, Threads};
use crate::{FatalErrorReceiver, FatalErrorSender};
use metrics::Meter;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use synod_replica::{Applier, Driver};
use synod_storage::LogStore;
use synod_transport::Transport;
use synod_types::NodeId;
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, Span};

/// Capacity of the queue of received frames. If it is full, frames queue in the transport.
const FRAMES: usize = 128;
/// Capacity of the queue of clients' requests and reads. If it is full, calls are rejected as busy.
const CALLS: usize = 8192;

/// Parts of a replica whose threads have not started.
pub(crate) struct Assembly {
    pub(crate) node: NodeId,
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) log: Box<dyn LogStore>,
    pub(crate) applier: Applier,
    pub(crate) transport: Arc<dyn Transport>,
    /// Addresses of the members' transports.
    pub(crate) addresses: BTreeMap<NodeId, String>,
    pub(crate) request_timeout: Duration,
    /// Clock with which the driver was opened.
    pub(crate) clock: Clock,
}

/// Starts the threads of a replica. Must run in a tokio runtime, which receives the frames.
///
/// # Errors
/// If the operating system cannot start a thread.
pub(crate) fn launch(mut parts: Assembly) -> io::Result<Shared> {
    let meter = Arc::new(Meter::new(&parts.driver.status(), &parts.applier));
    let (signals, received) = mpsc::unbounded_channel();
    let (frames, queued_frames) = mpsc::channel(FRAMES);
    let (calls, queued_calls) = mpsc::channel(CALLS);
    let (batches, queued_batches) = std::sync::mpsc::channel();
    let (tasks, queued_tasks) = std::sync::mpsc::channel();

    let writer = writer::Writer {
        log: parts.log,
        batches: queued_batches,
        signals: signals.clone(),
        meter: Arc::clone(&meter),
    };
    let (pieces, queued_pieces) = std::sync::mpsc::sync_channel(saver::PIECES);
    let saver = saver::StateSaver {
        saver: parts.applier.take_saver(),
        pieces: queued_pieces,
        meter: Arc::clone(&meter),
    };
    let apply = apply::Apply::new(parts.applier, queued_tasks, signals.clone(), pieces, &meter);
    let core = core::Core {
        driver: parts.driver,
        clock: parts.clock,
        inbox: core::Inbox { signals: received, frames: queued_frames, calls: queued_calls },
        out: core::Outputs {
            batches: Some(batches),
            tasks: tasks.clone(),
            transport: Arc::clone(&parts.transport),
            addresses: parts.addresses,
        },
        clients: core::Clients::new(parts.request_timeout),
        meter: Arc::clone(&meter),
        reincarnated_peers: BTreeSet::new(),
    };
    let (fatal, errors) = FatalErrorSender::new();
    let (alive, ended) = watch::channel(());
    let span = tracing::info_span!("replica", node = parts.node.0);
    let starter = Starter { fatal, alive, node: parts.node, span };
    starter.start("writer", writer, writer::Writer::run)?;
    starter.start("saver", saver, saver::StateSaver::run)?;
    starter.start("apply", apply, apply::Apply::run)?;
    starter.start("core", core, core::Core::run)?;
    let receiving = receive(Arc::clone(&parts.transport), frames).instrument(starter.span.clone());
    let receiving = tokio::spawn(receiving).abort_handle();
    tokio::spawn(stop_on_error(errors.clone(), signals.clone()));
    let threads = Threads { signals, ended, receiving, transport: parts.transport };
    Ok(Shared::new(calls, tasks, meter, threads, starter.fatal, errors))
}

/// Starter of one replica's threads.
struct Starter {
    fatal: FatalErrorSender,
    /// Channel whose sender each thread holds: it closes when all threads have ended.
    alive: watch::Sender<()>,
    node: NodeId,
    span: Span,
}

impl Starter {
    /// Starts `task` on a thread whose name and span carry the node's id.
    fn start<T: Send + 'static>(
        &self,
        role: &str,
        task: T,
        run: fn(&mut T) -> Result<(), crate::Fatal>,
    ) -> io::Result<()> {
        let name = format!("synod-{role}-{}", self.node);
        let span = self.span.clone();
        // Fields are dropped in order: the thread closes its stores before it counts as ended.
        let task = (task, self.alive.clone());
        self.fatal.thread(&name, task, move |(task, _)| span.in_scope(|| run(task)))
    }
}

/// Moves frames from the transport to the core. Waits while the core's queue is full, which is the
/// backpressure to the transport.
async fn receive(transport: Arc<dyn Transport>, frames: mpsc::Sender<core::Frame>) {
    while let Some(frame) = transport.recv().await {
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

/// Stops the other threads after a fatal error.
async fn stop_on_error(errors: FatalErrorReceiver, signals: mpsc::UnboundedSender<core::Signal>) {
    if errors.first().await.is_some() {
        // The send fails if the core is the thread that failed.
        let _ = signals.send(core::Signal::Stop);
    }
}
