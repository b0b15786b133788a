//! Basic Paxos as pure state machines: the roles, a single decree, and a log of decrees without a leader.
//!
//! Three layers, each usable without the next. [`Proposer`], [`Acceptor`] and [`Learner`] are the
//! roles of "Paxos Made Simple", for one decree. [`SingleDecree`] combines them into a
//! [`Protocol`](consensus::Protocol) that chooses one value. [`BasicPaxos`] runs one decree for every
//! slot of a log, without a leader: the baseline for protocols that have one. Nothing here does I/O,
//! reads a clock or draws random numbers. A decree in a group of one node:
//!
//! ```
//! use synod_basic_paxos::consensus::{Host, Input, Saved};
//! use synod_basic_paxos::types::{Instant, Membership, NodeId, Slot, Ticket};
//! use synod_basic_paxos::{Config, SingleDecree};
//!
//! let me = NodeId(1);
//! let config = Config::new(me, Membership::new([me], [])?)?;
//! let mut host = Host::<SingleDecree>::recover(me, config, Saved::default())?;
//! let (now, mut disk) = (Instant::ZERO, Saved::default());
//! let (mut placed, mut chosen) = (Vec::new(), Vec::new());
//!
//! let _ = host.input(now, Input::Start, &mut ());
//! let command = b"blue".to_vec().into();
//! let _ = host.input(now, Input::Propose { ticket: Ticket(7), command }, &mut ());
//! loop {
//!     let round = host.round(now, &mut ());
//!     placed.append(&mut round.outputs.placed);
//!     chosen.append(&mut round.outputs.chosen);
//!     round.writes.drain(..).for_each(|write| disk.apply(&write));
//!     let Some(seq) = round.seq else { break };
//!     // A promise or vote counts only once its batch is durable, the node's own included.
//!     host.written(seq);
//! }
//! assert_eq!(placed, [(Ticket(7), Slot(1))]);
//! assert_eq!(chosen[0].values.command(0), Some(&b"blue"[..]));
//! assert_eq!(disk.log.last(), Slot(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! Lamport, "Paxos Made Simple" (PMS). Comments cite its sections; [`faq`] answers frequent questions.
//! - **A ballot is a round and a node**, so no two proposers share one. A proposer's own acceptor
//!   durably promises a ballot before the Prepare is sent. After a restart the proposer begins above
//!   that promise, so it uses no ballot twice and needs no counter on disk.
//! - **Persistent state.** Votes are in the log, each slot under the ballot of its vote. The promises
//!   of open slots and the last slot through which all are chosen are the [hard state](HardState). It is
//!   small, because the window of open slots is bounded. A chosen slot needs no promise, because
//!   requests for it are answered with the value. A vote and the promise that it raises are one batch.
//!   Learning writes a value and changes no promise.
//! - **Any voter proposes** for its own clients, in the next slot that no node is known to use. A
//!   command that loses its slot tries the next one, with a higher first ballot for each lost slot. Its
//!   ticket is placed when it is chosen. The driver's sessions filter requests that were proposed twice.
//! - **A round is one write and one [`MessageBatch`] a peer**, and a second batch for messages that do
//!   not wait for the disk. Decrees share batches, but no ballots, promises or votes.
//! - **Retransmission before a new ballot.** An overdue reply makes a proposer send the same message
//!   again. Only a rejection leads to a new ballot, after a random wait. A node that receives no replies
//!   at all retransmits for its oldest slot only, and opens no others.
//! - **Open proposals adapt to contention**, as a TCP window does to congestion: one more with each
//!   slot won, half as many, but at least 8, when slots are lost. Busy nodes propose for the same slots,
//!   one of them wins each, and the messages of the others are wasted.
//! - **An outbid proposer sends no values.** If its own acceptor has promised a higher ballot by the
//!   time that a quorum has promised its own, the others would most likely reject its Accept. Its
//!   command takes a free slot.
//! - **Catch-up before proposals.** While chosen values keep arriving, a node sends no Prepare for slots
//!   that its peers know to be chosen: every voter would answer it with the value once more.
//! - **A value is sent once** to each voter. [`Chosen`](Message::Chosen) names only the ballot of the
//!   chosen value. [`Limits::flight_bytes`] bounds the values of a node's open proposals, and the
//!   retransmission timeout includes their time on the link.
//! - **The queue is bounded.** A command that waits for a slot longer than [`Timing::max_queue_time`] is
//!   refused as Busy; once one has waited for [`Timing::max_wait`], newer ones overtake it. Otherwise an
//!   overloaded node would choose every command after its client has given up.
//! - **Applied slots stay chosen.** A core recovers with the applied slots as chosen. Each
//!   [`MessageBatch`] states what its sender knew to be chosen. A node that finds a contradiction
//!   [reports it](consensus::Effects::contradicted) and stops, unless a majority of voters shares its
//!   history. So no node mixes two histories after a quorum lost its disks.
//! - **No slot stays open.** Any voter finishes a slot without progress for eight round trips, with the
//!   value that phase 1 finds, a waiting command, or a no-op. A proposer that still sends also gets the
//!   time that a slow link takes for all values that it may have in flight: displacing one of them would
//!   make it send all of them again.
//! - **The log of decrees is in this crate**, as [`PaxosLog`], because it consists of this crate's roles
//!   and messages only.
//!
//! # Invariants
//! [`PaxosLog`] lists the invariants; its parts assert them.
//!
//! # Common misconceptions
//! Simplified accounts of Paxos get these points wrong. According to the paper:
//! - An acceptor compares a Prepare with the highest ballot that it PROMISED, not with the one of
//!   its last vote (PMS §2.2, P1a).
//! - The value to propose is the one of the highest-NUMBERED vote among the promises, not the
//!   largest value. The number is that of the vote, not that of the promise (PMS §2.2, P2c).
//! - An acceptor votes for any ballot at or above its promise, not for the equal one only, and its
//!   vote raises the promise.
//! - One vote that a learner receives proves nothing: a majority under ONE ballot does (PMS §2.3).
//! - Several ballots may be chosen; all of them carry one value.
//! - An acceptor's vote is not a "committed value": it may still be replaced. So a promise reports the
//!   vote, chosen or not.
//! - A ballot is a round AND a node, never a bare number. An equal one can only come from the same
//!   proposer again, and is granted again.
//! - A rejected proposer does not use the ballot that it was rejected for; it uses one of its own above
//!   it. A late reply alone is no reason for a new ballot.
//! - A number is never used for two values.
//! - Acceptors may reject silently; a Nack saves the proposer a timeout (PMS §2.2).
//! - Backoff is not plain binary exponential. The doubling ends duels; the wait is random as well,
//!   because a regular schedule can defeat any wait that it can predict.
//! - Messages may be lost, delayed, duplicated and reordered. Only corrupted or forged ones are excluded.
//! - This is not two-phase commit: a minority may be down, and nothing is locked.
//! - Fast Paxos is another protocol, which saves a message delay and needs larger quorums. ZooKeeper
//!   runs neither: its protocol is Zab.
//!
//! # Left out
//! - A register as a [`Protocol`](consensus::Protocol): protocols report a growing log, and a register
//!   without history (CASPaxos) has none. It exists as roles: the example `register` has linearizable
//!   reads and compare-and-set among three acceptors, made of [`Acceptor`] and
//!   [`Proposer::on_promise_then`].
//! - Reads that bypass the log: refused as unsupported, so the driver proposes a barrier.
//! - Membership changes: refused as unsupported.
//! - Batches of commands: a slot holds one command, and every command pays for both phases. That is the
//!   point of the baseline. (Messages of several slots share frames; that saves no phases.)
//! - Transfer of snapshots: the core names peers that need one, and is informed when one is installed.
//! - Byzantine members: no message can make a core panic or break a promise, but false votes and false
//!   chosen values are believed.
//! - Stores that were wiped or rolled back: the driver distinguishes incarnations of a store. Values that
//!   such a quorum chooses again are detected, not repaired.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod acceptor;
mod acceptor_node;
mod backoff;
mod catch_up;
mod command_queue;
mod config;
mod congestion;
mod context;
mod core;
pub mod faq;
mod hard_state;
mod history;
mod learner;
mod message;
mod message_batch;
mod node_proposer;
mod outgoing;
mod proposer;
mod protocol;
mod recovery;
mod round_trip;
mod slots;

pub use self::core::PaxosLog;
pub use acceptor::{Acceptor, Verdict};
pub use backoff::Backoff;
pub use config::{Config, Limits, Timing};
pub use hard_state::HardState;
pub use learner::Learner;
pub use message::{Accept, Accepted, Chosen, Learn, Learned, Message, Nack, Prepare, Promise};
pub use message_batch::MessageBatch;
pub use proposer::{Awaiting, Proposer};
pub use protocol::{Arity, Many, Single, Timer};
pub use synod_consensus as consensus;
pub use synod_consensus::ConfigError;
pub use synod_types as types;

/// Single-decree Paxos, the classic "synod": a group chooses one value. Its log has one slot. A proposal
/// whose value is chosen is placed there; others are refused as unsupported, because no second value
/// is ever chosen.
pub type SingleDecree = PaxosLog<Single>;

/// Replicated log in which every slot is a decree of its own and any voter proposes. There is no
/// leader: each voter is a [`Peer`](consensus::Role::Peer) and redirects clients to itself.
pub type BasicPaxos = PaxosLog<Many>;
