//! Identifiers, log values and memberships that all Synod crates share.
//!
//! Identifiers and counters are newtypes such as [`NodeId`], [`Slot`] and [`Term`], so that the compiler rejects
//! one in the place of another. Commands are batched in [`Values`], an immutable
//! buffer that clones and slices share.
//!
//! ```
//! use synod_types::{Ballot, NodeId, Value, Values};
//!
//! let low = Ballot { round: 1, node: NodeId(2) };
//! let high = Ballot { round: 2, node: NodeId(1) };
//! assert!(low < high, "rounds are compared first, nodes break ties");
//!
//! let batch: Values = [Value::Noop, Value::Command(b"set x".to_vec().into())].into_iter().collect();
//! assert_eq!(batch.len(), 2);
//! assert_eq!(batch.command(1), Some(&b"set x"[..]));
//! ```
//!
//! [`SharedMap`] is an ordered map whose clones share its content: for states that are read while they
//! change.
//!
//! The crate has no clocks, randomness or I/O. It is `no_std` with `alloc`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod changes;
mod id;
mod membership;
mod shared_map;
mod time;
mod values;

pub use changes::{Change, Changes};
pub use id::{
    Ballot, ClusterId, Epoch, GroupId, Incarnation, Lane, NodeId, ReadId, Seq, Slot, Term, Ticket,
};
pub use membership::{Membership, MembershipError};
pub use shared_map::{MapEntries, SharedMap};
pub use time::Instant;
pub use values::{MalformedValues, Value, ValueRef, Values, ValuesBuilder};
