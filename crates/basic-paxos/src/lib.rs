//! Basic Paxos as pure state machines: roles, a single decree, and a log of decrees.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod acceptor;
mod backoff;
mod config;
mod learner;
mod learning;
mod message;
mod per_slot;
mod proposer;
mod proposing;
mod recovery;

pub use acceptor::{Acceptor, Verdict};
pub use backoff::Backoff;
pub use config::{Config, ConfigError, Limits, Timing};
pub use learner::Learner;
pub use message::Message;
pub use per_slot::{HardState, Kind, Log, PerSlot, Single, Timer};
pub use proposer::{Asking, Proposer};
pub use synod_consensus as consensus;
pub use synod_types as types;

/// One value agreed by a group, ever: the classic single-decree "synod". Its log has one slot.
pub type Decree = PerSlot<Single>;

/// A replicated log in which every slot is a decree of its own and any voter proposes.
pub type BasicPaxos = PerSlot<Log>;
