//! The driver around a protocol, without I/O: codec, timers, tickets, sessions, forwarding, and
//! the apply side.
//!
//! [`ReplicaCore`] owns a protocol core in its [`Host`](synod_consensus::Host) and does everything
//! about it that is not consensus and not I/O. Its runner (a node's loop, a simulator) hands
//! it an [`Event`] at a time, calls [`Driver::take`], and carries out the [`Actions`]: one batch
//! to write, frames to send, runs to apply, replies. [`Applier`] is the other half: a state
//! machine, its session table and its store, fed with the runs.
//!
//! # Exactly once
//! The node that receives a request from a client owns a session (one opening of its store) and
//! numbers the request. However often the request is forwarded or proposed again after a leader change, the
//! session table, which is part of the replicated state, lets it be applied once. The node
//! answers its client when it has applied the request itself.
//!
//! # Forwarding
//! Requests wait in the driver's queue until the disk, or the window of forwards to the leader, has
//! room. The leader acknowledges forwarded requests; they are not sent again while it
//! leads, unless they take far longer than others. An index of the requests in the unapplied log,
//! built from the core's own writes, lets a leader drop copies of what its log holds, and has
//! truncated or overwritten requests queued again at once.
//!
//! # Overload
//! - Bytes that are not durable, not applied, or in flight to a leader are bounded: see
//!   [`ReplicaSettings`]. A long log is therefore replayed in pieces.
//! - A disk or apply side is stalled when it completes nothing while work waits; then a leader
//!   steps down. The age of the oldest work would only measure the depth of the queue.
//! - While chosen slots wait in the driver, [`Input::Lagging`](synod_consensus::Input::Lagging)
//!   precedes timers that are due, so that a node that lags does not campaign.
//! - While a disk hangs, frames of the log and bulk lanes are dropped.
//!
//! # Never undo what is chosen
//! A core that asks to truncate slots that it reported as chosen, or to move its base outside of
//! them, stops the node: [`Actions::fatal`] is set, and nothing else leaves the driver. So does a core
//! that reports that a peer takes other values for chosen.
//!
//! Left out on purpose: threads, sockets and disks; snapshots and membership changes, which come
//! with their protocols' support.
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
pub use driver::{Actions, Answer, ChosenRun, Counters, Driver, Event, Outcome, Token};
pub use error::OpenError;
pub use frame::{Envelope, FrameError, Payload, WIRE_VERSION, decode_frame, encode_frame};
pub use replica::ReplicaCore;
pub use saver::{Piece, Saver};
pub use session::{Request, RequestKind, RequestRef, RequestSeq, Session};
pub use settings::ReplicaSettings;
pub use synod_consensus::FatalError;
pub use synod_types::Seq;
