//! Identifiers, log values and memberships that all Synod crates share.
//!
//! A number with a meaning is a newtype, so that integers cannot be confused: [`NodeId`],
//! [`Slot`], [`Term`], [`Ballot`], [`Instant`]. Commands are sent in [`Values`], a batch in one
//! shared buffer from the proposal to the log, the wire and the followers.
//!
//! ```
//! use synod_types::{Ballot, NodeId, Value, Values};
//!
//! let low = Ballot { round: 1, node: NodeId(2) };
//! let high = Ballot { round: 2, node: NodeId(1) };
//! assert!(low < high, "the round decides first, the node breaks ties");
//!
//! let batch: Values = [Value::Noop, Value::Command(b"set x".to_vec().into())].into_iter().collect();
//! assert_eq!(batch.len(), 2);
//! assert_eq!(batch.command(1), Some(&b"set x"[..]));
//! ```
//!
//! Not provided on purpose: clocks, randomness and I/O. The crate is `no_std` with `alloc`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod changes;
mod id;
mod membership;
mod time;
mod values;

pub use changes::{Change, Changes};
pub use id::{
    Ballot, ClusterId, Epoch, GroupId, Incarnation, Lane, NodeId, ReadId, Seq, Slot, Term, Ticket,
};
pub use membership::{Membership, MembershipError};
pub use time::Instant;
pub use values::{MalformedValues, Value, ValueRef, Values, ValuesBuilder};
