//! Core thread: passes events to the driver, and carries out its actions.

use super::apply::Task;
use super::clock::Clock;
use super::metrics::Meter;
use crate::Fatal;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use synod_consensus::ProtocolEvent;
use synod_replica::{Actions, Applied, Driver, Event, FatalError, Outcome, Response, Token};
use synod_storage::Batch;
use synod_transport::{Peer, Transport};
use synod_types::{Instant, Membership, NodeId, Seq};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Limit of signals, frames and calls, each, in one round.
const ROUND: usize = 1024;
/// Approximate limit of the frames in one round, in bytes.
const ROUND_BYTES: usize = 1 << 20;

/// Sender and bytes of a frame.
pub(crate) type Frame = (NodeId, Bytes);

/// Message from another thread of this replica. The driver bounds the work in flight, and with it the
/// number of signals, so their queue has no bound of its own.
pub(crate) enum Signal {
    Written(Seq),
    Applied(Applied),
    /// Request to stop once all batches are written.
    Stop,
    /// End of the writer: it has written all batches, or it failed.
    WriterDone,
}

/// Call of a client of this node.
pub(crate) enum Call {
    Request { command: Bytes, waiting: Waiting },
    Read { waiting: Waiting },
}

/// Owner of the driver.
pub(super) struct Core {
    pub(super) driver: Box<dyn Driver>,
    pub(super) clock: Clock,
    pub(super) inbox: Inbox,
    pub(super) out: Outputs,
    pub(super) clients: Clients,
    pub(super) meter: Arc<Meter>,
    /// Peers whose frames are dropped because their stores were wiped or replaced.
    pub(super) reincarnated_peers: BTreeSet<NodeId>,
}

/// Queues of events, in the order of their priority.
pub(super) struct Inbox {
    pub(super) signals: UnboundedReceiver<Signal>,
    pub(super) frames: Receiver<Frame>,
    pub(super) calls: Receiver<Call>,
}

/// Receivers of actions.
pub(super) struct Outputs {
    /// `None` after [`Signal::Stop`]. The writer then ends when it has written all batches.
    pub(super) batches: Option<Sender<(Seq, Batch)>>,
    pub(super) tasks: Sender<Task>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) addresses: BTreeMap<NodeId, String>,
}

/// Clients that wait for an outcome.
pub(crate) struct Clients {
    waiting: BTreeMap<Token, Waiting>,
    last: Token,
    timeout: Duration,
}

/// Client that waits for an outcome. The permits are held until the driver ends the request, even if
/// the client cancels the call.
pub(crate) struct Waiting {
    pub(crate) reply: oneshot::Sender<Outcome>,
    /// Permit that counts the request as pending.
    pub(crate) pending: OwnedSemaphorePermit,
    /// Permits for the memory of the command.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

enum Incoming {
    Signal(Signal),
    Frame(Frame),
    Call(Call),
}

impl Core {
    /// Runs until it receives [`Signal::Stop`].
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        // A runtime of its own, so that the loop never waits for clients' tasks.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| Fatal::System(error.to_string()))?;
        runtime.block_on(async {
            let mut wake = self.round()?;
            loop {
                let incoming = self.inbox.next(self.clock, wake).await;
                if incoming.is_some_and(|incoming| self.handle(incoming)) || self.handle_queued() {
                    break;
                }
                self.wake_if_due(wake);
                wake = self.round()?;
            }
            self.round()
        })?;
        Ok(())
    }

    /// Passes the queued events to the driver, so that one round serves all of them. Returns whether
    /// the writer has ended.
    fn handle_queued(&mut self) -> bool {
        for _ in 0..ROUND {
            let Ok(signal) = self.inbox.signals.try_recv() else { break };
            if self.handle(Incoming::Signal(signal)) {
                return true;
            }
        }
        let mut bytes = 0;
        for _ in 0..ROUND {
            let Ok(frame) = self.inbox.frames.try_recv() else { break };
            bytes += frame.1.len();
            self.handle(Incoming::Frame(frame));
            if bytes >= ROUND_BYTES {
                break; // The writes of one round are one batch, which the writer never splits.
            }
        }
        for _ in 0..ROUND {
            let Ok(call) = self.inbox.calls.try_recv() else { break };
            self.handle(Incoming::Call(call));
        }
        false
    }

    /// Passes an event to the driver. Returns whether the writer has ended.
    fn handle(&mut self, incoming: Incoming) -> bool {
        let now = self.clock.now();
        let sender = match &incoming {
            Incoming::Frame((from, _)) => Some(*from),
            _ => None,
        };
        let event = match incoming {
            Incoming::Signal(Signal::Written(seq)) => Event::Written(seq),
            Incoming::Signal(Signal::Applied(applied)) => Event::Applied(applied),
            Incoming::Signal(Signal::Stop) => {
                // Closes the writer's queue. The core ends when the writer has written the rest.
                self.out.batches = None;
                return false;
            }
            Incoming::Signal(Signal::WriterDone) => return true,
            Incoming::Frame((from, frame)) => Event::Frame { from, frame },
            Incoming::Call(call) => self.clients.admit(now, call),
        };
        let dropped = self.driver.counters().frames_wrong_incarnation;
        self.driver.handle(now, event);
        if self.driver.counters().frames_wrong_incarnation > dropped {
            sender.into_iter().for_each(|peer| self.warn_of_reincarnation(peer));
        }
        false
    }

    /// Logs, once for each peer, that its frames are dropped.
    fn warn_of_reincarnation(&mut self, peer: NodeId) {
        if self.reincarnated_peers.insert(peer) {
            tracing::warn!(
                peer = peer.0,
                "dropping this peer's messages: its store was wiped, replaced or kept in memory, \
                 so its votes are lost; restore its data folder"
            );
        }
    }

    /// Wakes the driver if `wake` has passed. Runs after the queued events, so that a queued heartbeat
    /// prevents an election timeout.
    fn wake_if_due(&mut self, wake: Option<Instant>) {
        let now = self.clock.now();
        if wake.is_some_and(|wake| wake <= now) {
            self.driver.handle(now, Event::Wake);
        }
    }

    /// Ends a round of the driver and carries out its actions. Returns the time at which to wake it.
    ///
    /// # Errors
    /// If the driver reports a fatal error. No action is carried out then.
    fn round(&mut self) -> Result<Option<Instant>, FatalError> {
        let actions = self.driver.take(self.clock.now());
        if let Some(fatal) = actions.fatal {
            return Err(fatal);
        }
        let wake = actions.wake;
        let responses = self.out.carry_out(actions);
        self.clients.respond(responses);
        let (driver, meter) = (&self.driver, &self.meter);
        meter.publish(&driver.status(), *driver.counters(), driver.outstanding());
        Ok(wake)
    }
}

impl Inbox {
    /// Waits for the next event. Returns `None` when it is time to wake the driver.
    async fn next(&mut self, clock: Clock, wake: Option<Instant>) -> Option<Incoming> {
        let due = async {
            match wake.and_then(|wake| clock.to_tokio(wake)) {
                Some(due) => tokio::time::sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // In the order of priority: completions free resources, and calls only add work.
            biased;
            Some(signal) = self.signals.recv() => Some(Incoming::Signal(signal)),
            () = due => None,
            Some(frame) = self.frames.recv() => Some(Incoming::Frame(frame)),
            Some(call) = self.calls.recv() => Some(Incoming::Call(call)),
        }
    }
}

impl Drop for Outputs {
    /// Stops the apply thread when the core ends, even by a panic.
    fn drop(&mut self) {
        // The apply thread may have ended before.
        let _ = self.tasks.send(Task::Stop);
    }
}

impl Outputs {
    /// Carries out actions, the batch first; none of them waits for its write. Returns the responses for
    /// clients. A send to another thread fails only after that thread has reported a fatal error.
    fn carry_out(&mut self, actions: Actions) -> Vec<Response> {
        if let (Some(batch), Some(batches)) = (actions.batch, &self.batches) {
            let _ = batches.send(batch);
        }
        if !actions.apply.is_empty() {
            let _ = self.tasks.send(Task::Runs(actions.apply, std::time::Instant::now()));
        }
        if let Some(slot) = actions.durable {
            let _ = self.tasks.send(Task::Durable(slot));
        }
        if let Some(members) = actions.peers {
            self.transport.set_peers(&self.peers(&members));
        }
        for (to, lane, frame) in actions.frames {
            self.transport.send(to, lane, frame);
        }
        actions.notes.iter().for_each(log);
        actions.responses
    }

    fn peers(&self, members: &Membership) -> Vec<Peer> {
        let known = |node| Some(Peer { node, address: self.addresses.get(&node)?.clone() });
        members.all().filter_map(known).collect()
    }
}

impl Clients {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { waiting: BTreeMap::new(), last: Token(0), timeout }
    }

    fn admit(&mut self, now: Instant, call: Call) -> Event {
        self.last.0 += 1;
        let (token, deadline) = (self.last, now + self.timeout);
        let (waiting, event) = match call {
            Call::Request { command, waiting } => {
                (waiting, Event::Request { token, command, deadline })
            }
            Call::Read { waiting } => (waiting, Event::Read { token, deadline }),
        };
        self.waiting.insert(token, waiting);
        event
    }

    fn respond(&mut self, responses: Vec<Response>) {
        for Response { token, outcome } in responses {
            if let Some(Waiting { reply, pending, room }) = self.waiting.remove(&token) {
                // The client may have cancelled the call.
                let _ = reply.send(outcome);
                drop((pending, room)); // After the reply: a drained replica has replied to all.
            }
        }
    }
}

/// Logs a protocol event: elections and truncations at info level, others at debug level.
fn log(note: &ProtocolEvent) {
    match note {
        ProtocolEvent::Leading { ballot } => tracing::info!(term = ballot.round, "became leader"),
        ProtocolEvent::Following { leader, ballot } => {
            tracing::info!(leader = leader.0, term = ballot.round, "following a new leader");
        }
        ProtocolEvent::SteppedDown { ballot, reason } => {
            tracing::info!(term = ballot.round, %reason, "stepped down");
        }
        ProtocolEvent::Campaigning { ballot } => {
            tracing::info!(term = ballot.round, "starting an election");
        }
        ProtocolEvent::Truncated { from } => {
            tracing::info!(from_slot = from.0, "truncating log entries that were not committed");
        }
        event => tracing::debug!("protocol event: {event}"),
    }
}
