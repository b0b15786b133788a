//! Driver of a protocol core, without I/O: codec, timers, sessions, forwarding of requests, and the
//! apply side.
//!
//! [`ReplicaCore`] owns a protocol core in its [`Host`](synod_consensus::Host) and does all of its work
//! except consensus and I/O. Its runner, which is a node's loop or a simulator, passes it one
//! [`Event`] at a time, calls [`Driver::take`], and carries out the [`Actions`]: a batch to write,
//! frames to send, runs to apply, and outcomes for clients. [`Applier`] is the apply side: a state
//! machine, its session table and its store. The runner passes it the runs.
//!
//! # Exactly once
//! The node that receives a request from a client numbers it in its session, which is one opening of
//! its store. The request may be forwarded or proposed several times, for example after a leader
//! change. The session table, a part of the replicated state, applies it once. The node replies to its
//! client when it has applied the request itself.
//!
//! # Forwarding
//! Requests wait in the driver's queue until the disk, or the window of forwards to the leader, has
//! room. The leader acknowledges forwarded requests. While it leads, they are retried only if they take
//! far longer than others. An index of the requests in the unapplied log follows the core's writes.
//! With it a leader drops copies of requests in its log, and each node retries truncated or overwritten
//! requests at once.
//!
//! # Linearizable reads
//! The driver sends the core one [`Input::Read`](synod_consensus::Input::Read) for all reads since the last
//! one, and reports them as readable once the slot in the core's reply is applied. It retries under a new
//! id. If the core has no read index, it proposes one barrier for these reads instead.
//!
//! # Overload
//! - Bytes that are not durable, not applied, or in flight to a leader are bounded by
//!   [`ReplicaSettings`]. A long log is therefore replayed in parts.
//! - A disk or apply side is stalled when it completes nothing while work waits. A leader then steps
//!   down. The age of the oldest work does not count: it measures the depth of the queue.
//! - While chosen slots wait in the driver, [`Input::Lagging`](synod_consensus::Input::Lagging)
//!   precedes due timers, so that a node that lags does not campaign.
//! - While a disk hangs, messages of the log and bulk lanes are dropped.
//!
//! # Chosen slots never change
//! The node stops if its core truncates slots that it reported as chosen, moves its base outside of
//! them, or reports that a peer has chosen other values. [`Actions::fatal`] is then set, and the
//! driver hands out nothing else.
//!
//! Left out on purpose: threads, sockets and disks; snapshots and membership changes, until the
//! protocols support them.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod applied_state;
mod apply;
mod backlog;
mod disk;
mod driver;
mod error;
mod frame;
mod log_index;
mod outgoing;
mod reads;
mod remote_proposals;
mod replica;
mod requests;
mod router;
mod saver;
mod session;
mod settings;
mod timers;

pub use apply::{Applied, Applier, ApplyError};
pub use disk::{DecodeError, decode_op, decode_saved, encode_write};
pub use driver::{Actions, ChosenRun, Counters, Driver, Event, Outcome, Response, Token};
pub use error::OpenError;
pub use frame::{Envelope, FrameError, Payload, WIRE_VERSION, decode_frame, encode_frame};
pub use replica::ReplicaCore;
pub use saver::{Piece, Saver};
pub use session::{Request, RequestKind, RequestRef, RequestSeq, Session};
pub use settings::ReplicaSettings;
pub use synod_consensus::FatalError;
pub use synod_types::Seq;
