//! The driver around a protocol, without I/O: fences, timers, tickets, sessions, forwarding, and
//! the apply side.
//!
//! [`Replica`] owns a protocol core and does everything about it that is not consensus and not
//! I/O. Whoever runs it (a node's loop, a simulator) hands it an [`Event`] at a time, calls
//! [`Driver::take`], and carries out the [`Actions`]: one batch to write, frames to send, runs to
//! apply, replies. [`Applier`] is the other half: a state machine, its session table and its
//! store, fed with the runs.
//!
//! ```
//! # use synod_replica::{Held, Seq};
//! // The fence: what claims something about the disk waits for the disk.
//! let mut held = Held::default();
//! held.push(Seq(1), "vote");
//! held.push(Seq(2), "ack");
//! assert_eq!(held.release(Seq(1)).collect::<Vec<_>>(), ["vote"]);
//! assert_eq!(held.len(), 1);
//! ```
//!
//! # Exactly once
//! The node that takes a request from a client owns a session (its store's life) and numbers the
//! request. However often the request is forwarded or proposed again after a leader change, the
//! session table, which is part of the replicated state, lets it be applied once. The node
//! answers its client when it has applied the request itself.
//!
//! Left out on purpose: threads, sockets and disks; snapshots and membership changes, which come
//! with their protocols' support.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod apply;
mod backlog;
mod disk;
mod driver;
mod fence;
mod frame;
mod guests;
mod log_index;
mod replica;
mod requests;
mod session;
mod timers;

pub use apply::{Applied, Applier, ApplyError, Piece, Saver};
pub use disk::{DecodeError, decode_op, decode_saved, encode_write};
pub use driver::{Actions, Answer, Counters, Driver, Event, FatalError, Outcome, Run, Token};
pub use fence::Held;
pub use frame::{Envelope, FrameError, Payload, WIRE_VERSION, decode_frame, encode_frame};
pub use replica::{OpenError, Replica, Settings};
pub use session::{Body, Request, RequestRef, RequestSeq, Session};
pub use synod_types::Seq;
