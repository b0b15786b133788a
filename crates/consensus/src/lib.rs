//! Contract of a consensus protocol: its inputs, its effects, and the order in which these may leave the
//! node.
//!
//! A [`Protocol`] is a pure state machine. Its [`Host`] passes it one [`Input`] at a time and collects its
//! [`Effects`]. It reads no clock, draws no random numbers and does no I/O: time is an argument, a random
//! duration is requested as a range, and each message states by its [`Gate`] whether it waits for the
//! disk.
//!
//! ```
//! use synod_consensus::{Run, RunLog};
//! use synod_types::{Slot, Term, Values};
//!
//! // The window of the log that a core keeps: runs of consecutive slots under one stamp.
//! let mut log = RunLog::<Term>::new(Slot::ZERO, Term(0));
//! log.put(Run { first: Slot(1), stamp: Term(1), values: Values::command_only(b"a") });
//! log.put(Run { first: Slot(2), stamp: Term(2), values: Values::command_only(b"b") });
//! assert_eq!(log.stamp_at(Slot(1)), Some(Term(1)));
//! assert_eq!(log.last(), Slot(2));
//! ```
//!
//! # Persist, then send
//! A message whose [`Message::gate`] is [`Gate::Durable`] claims something about its sender's
//! disk. The [`Host`] holds it until everything that the core wrote up to then is reported as durable.
//! So the order of `write` and `send` within one step does not matter, and there is no second way to
//! send. A gate does not notice a missing write: [`Message::holds`] states the claim itself, and
//! simulators check it against the disk.
//!
//! # Recover
//! A core is recovered from [`Saved`]: hard state, log, base, and the applied slot. Everything up to
//! [`Saved::floor`] is chosen. The core's commit index starts there, and it never proposes,
//! overwrites or reports these slots again. Otherwise a leader whose quorum lost its disks could
//! replace slots that the state machine has applied.
//!
//! # Flow control
//! **Invariant: a message that overtakes entries names acknowledged entries only**, or its receiver
//! requests no others. The [`Lane`](synod_types::Lane) of a message decides which messages it overtakes:
//! heartbeats and acknowledgements take the Control lane, entries the Log lane. So entries in flight
//! may arrive after a heartbeat that was sent later. Lost entries are found by a probe on the Log lane,
//! whose reply covers everything sent before it. [`SendWindow`] bounds the data in flight to one peer:
//! it adapts to the path, the peer's disk included.
//!
//! Threads, codecs and storage belong to the driver, and are not part of this crate.
//!
//! # Reads
//! [`ReadRounds`] and [`ReadRelay`] keep the pending linearizable reads of a leader and of a follower.
//!
//! # State machines
//! [`StateMachine`] applies chosen commands. It reads its stored form through a [`StateView`], returns
//! changes and events in an [`Output`], and creates a [`StateReader`] for reads on other threads.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod bounds;
mod config;
mod effects;
mod history;
mod host;
mod log;
mod machine;
mod proposals;
mod protocol;
mod quorum;
mod read_index;
mod reason;
mod recovery;
mod stall;
mod stamp;
mod status;
mod window;

pub use bounds::Bounds;
pub use config::{ClusterTiming, ConfigError, MAX_BYTES, MAX_DURATION, Timing};
pub use effects::{Contradiction, Effects, Outbox, Outputs, ProtocolEvent, Refusal, TimerChange};
pub use history::{Comparison, HistoryDigest};
pub use host::{FatalError, Host, Observer, Round};
pub use log::RunLog;
pub use machine::{
    Consistency, Output, PiecewiseRead, StateEntries, StateError, StateEvent, StateMachine,
    StateReader, StateView,
};
pub use proposals::{ProposalLimits, Proposals};
pub use protocol::{
    Admin, Base, Durable, Gate, HardState, Input, Message, Protocol, Run, Saved, Write,
};
pub use quorum::{Quorum, QuorumError};
pub use read_index::{PendingRead, ReadRelay, ReadRounds, RelayAction};
pub use reason::{IgnoreReason, StepDownReason};
pub use recovery::RecoveryError;
pub use stall::Stall;
pub use stamp::Stamp;
pub use status::{Role, Status};
pub use window::{SendWindow, WindowLimits};
