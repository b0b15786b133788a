//! Basic Paxos as pure state machines: roles, a single decree, and a log of decrees.
//!
//! Three layers, each usable without the next. [`Proposer`], [`Acceptor`] and [`Learner`] are the
//! roles of "Paxos Made Simple", for one decree. [`SingleDecree`] puts them together into a
//! [`Protocol`](consensus::Protocol): one value agreed by a group, ever. [`BasicPaxos`] runs one
//! decree for every slot of a log, without any leader: the baseline that shows what a leader is
//! good for. Nothing here does I/O, reads a clock or draws random numbers. A decree among one:
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
//!     // Only once a batch is durable does a promise or a vote count, the node's own, too.
//!     host.written(seq);
//! }
//! assert_eq!(placed, [(Ticket(7), Slot(1))]);
//! assert_eq!(chosen[0].values.command(0), Some(&b"blue"[..]));
//! assert_eq!(disk.log.last(), Slot(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! Lamport, "Paxos Made Simple" (PMS); comments cite the sections, [`faq`] answers what
//! readers ask most.
//! - **A ballot is a round and a node**, so no two proposers share one. A proposer's own acceptor
//!   promises its ballot before the Prepare leaves, durably; after a restart it begins above that,
//!   so it never uses a ballot twice, and needs no counter of its own on disk.
//! - **What is persistent.** Votes are in the log, each slot under the ballot voted in. Promises
//!   of the open slots are the [hard state](HardState), together with the slot through which all is
//!   chosen: few, because the window of open slots is bounded, and none of a chosen slot, because
//!   requests for it are answered with the value. A promise and the vote that raises it are one
//!   batch. Learning writes a value and touches no promise.
//! - **Any voter proposes** for its own clients, at the next slot that no node is known to use. A
//!   command that loses its slot tries the next, with a higher ballot for each that it has lost; its
//!   ticket is placed when it is chosen. A request that is proposed twice all the same is sorted out
//!   by the driver's sessions.
//! - **A round is one write and one [`MessageBatch`] a peer**, and a second one for what need not wait for
//!   the disk. Decrees share them; they share no ballot, no promise and no vote.
//! - **Repeat first.** A late answer makes a proposer send the same message again; only a rejection
//!   leads to a new ballot, after a random wait. A node that receives no answers at all asks for its
//!   oldest slot only, and begins no others.
//! - **Open proposals adapt to contention**, as a TCP window does to congestion: one more with each
//!   slot won, half as many, but at least 8, when slots are lost. Busy nodes choose the same slots, one
//!   of them wins each, and the messages of the others were for nothing.
//! - **An outbid proposer gives way before it sends values.** If its own acceptor has promised a higher
//!   ballot by the time that a quorum has promised its own, the others would most likely refuse the
//!   values. Its command takes a free slot.
//! - **Catch up first.** While chosen values keep arriving, a node sends no Prepare for slots that its
//!   peers know to be chosen: each would be answered with the value once more, by every voter.
//! - **A value is sent once** to each voter. [`Chosen`](Message::Chosen) names the ballot of a
//!   chosen value to those that were sent it. The values of a node's open proposals are bounded by
//!   [`Limits::flight_bytes`], and the wait before a repetition allows for their time on the link.
//! - **The queue is bounded.** A command that waits for a slot longer than [`Timing::max_queue_time`] is
//!   refused as busy; once one has waited for [`Timing::max_wait`], newer ones overtake it. Otherwise an
//!   overloaded node would choose every command after its client has given up.
//! - **What is applied stays.** A core recovers with the applied slots as chosen. Each [`MessageBatch`]
//!   states what its sender knew to be chosen. A node that finds a contradiction
//!   [reports it](consensus::Effects::contradicted) and stops, unless a majority of voters shares its
//!   history: so no node mixes two histories after a quorum lost its disks.
//! - **Nothing stays open.** A slot without progress for eight round trips is finished by any node that
//!   notices, with the value that phase 1 finds, a waiting command, or a no-op. A proposer that still
//!   sends also gets the time that a slow link takes for all values that it may have in flight:
//!   displacing one would make it send all of them again.
//! - **The log of decrees lives here**, as [`PaxosLog`], and not beside the contract of a protocol,
//!   because it is made of nothing but this crate's roles and messages.
//!
//! # Invariants
//! [`PaxosLog`] lists what holds after every step; its parts assert it.
//!
//! # Often told differently
//! Simplified accounts of Paxos get these wrong; here they are as the paper has them:
//! - An acceptor compares a Prepare with the highest ballot that it PROMISED, not with the one of
//!   its last vote (PMS §2.2, P1a).
//! - The value to propose is the one of the highest-NUMBERED vote among the promises, not the
//!   largest value; promises echo the proposer's number, so it is not found there.
//! - An acceptor votes for any ballot at or above its promise, not for the equal one only, and its
//!   vote raises the promise.
//! - One vote that a learner sees proves nothing: a majority under ONE ballot does (PMS §2.3).
//! - Several ballots may be chosen; all of them carry one value.
//! - An acceptor's vote is not a "committed value": it may still be replaced. So an acceptor looks at
//!   its promise first, and then reports its vote, chosen or not.
//! - A ballot is a round AND a node, never a bare number. An equal one can only come from the same
//!   proposer again, and is answered again.
//! - A refused proposer does not take over the ballot that it was refused for; it takes one of its
//!   own above it. A late answer alone is no reason for a new ballot.
//! - A number that was used for a decided value is never used again for another value.
//! - Refusals may be silent, but need not: a nack saves the proposer its time-out.
//! - Often told as plain binary exponential backoff. The doubling does end duels; the wait is random
//!   all the same, since a regular schedule can spoil any wait that it knows.
//! - Messages may be lost, late, doubled and out of order. Only forged ones are excluded.
//! - This is not two-phase commit: a minority may be away, and nothing is locked.
//! - Fast Paxos is a protocol of its own, which saves a message delay and pays with larger quorums;
//!   it is not what ZooKeeper runs. That is Zab, and neither of the two is this one.
//!
//! # Left out
//! - A register as a [`Protocol`](consensus::Protocol), which takes commands and reports a growing
//!   log: a register that forgets its past (CASPaxos) has none. It exists as roles: the example
//!   `register` has linearizable reads and compare-and-set among three acceptors, out of
//!   [`Acceptor`] and [`Proposer::on_promise_then`].
//! - Reads that bypass the log, membership changes: refused as unsupported.
//! - Batches: a slot holds one command, and every command pays for both phases. That is the point
//!   of the baseline. (Messages of several slots travel together; that saves frames, not phases.)
//! - Moving snapshots: the core names peers that need one, and is informed when one is installed.
//! - Byzantine members: no message can make a core panic or break a promise, but a peer
//!   that lies about its vote, or about what is chosen, is believed.
//! - A store that was wiped or rolled back: the driver tells incarnations of a store apart. What such a
//!   quorum has chosen again is noticed, never repaired.
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

/// One value agreed by a group, ever: the classic single-decree "synod". Its log has one slot. A
/// proposal whose value is decided is placed there; one that lost is refused as unsupported, since
/// a second value never will be.
pub type SingleDecree = PaxosLog<Single>;

/// A replicated log in which every slot is a decree of its own and any voter proposes. There is no
/// leader: each voter is a [`Peer`](consensus::Role::Peer) that names itself as the one to ask.
pub type BasicPaxos = PaxosLog<Many>;
