//! Multi-Paxos as a pure state machine: slots in parallel, one promise for all of them.
//!
//! [`MultiPaxos`] implements [`Protocol`](consensus::Protocol): it takes one
//! [`Input`](consensus::Input) at a time and asks for effects. It
//! does no I/O, reads no clock and draws no random numbers, so the same core runs in a simulator,
//! under a model checker and in production. A [`Host`](synod_consensus::Host) runs it. Below, the
//! whole life of a cluster of one:
//!
//! ```
//! use synod_multi_paxos::consensus::{Host, Input, Outputs, Round, Saved};
//! use synod_multi_paxos::types::{Instant, Membership, NodeId, Slot, Ticket};
//! use synod_multi_paxos::{Config, MultiPaxos, Timer};
//!
//! let (me, now) = (NodeId(1), Instant::ZERO);
//! let config = Config::new(me, Membership::new([me], [])?)?;
//! let mut host = Host::<MultiPaxos>::recover(me, config, Saved::default())?;
//! let (mut placed, mut chosen) = (Vec::new(), Vec::new());
//!
//! let mut take = |outputs: &mut Outputs<MultiPaxos>| {
//!     placed.append(&mut outputs.placed);
//!     chosen.append(&mut outputs.chosen);
//! };
//! let propose = Input::Propose { ticket: Ticket(7), command: b"hello".to_vec().into() };
//! for input in [Input::Start, Input::Timeout(Timer::Election), propose] {
//!     take(host.input(now, input, &mut ()));
//!     loop {
//!         // A real driver takes `sends`, too, and makes `writes` durable before `written`.
//!         let Round { seq, outputs, .. } = host.round(now, &mut ());
//!         take(outputs);
//!         let Some(seq) = seq else { break };
//!         host.written(seq);
//!     }
//! }
//! assert_eq!(placed, [(Ticket(7), Slot(2))], "after the barrier of the new leader");
//! assert_eq!(chosen.last().unwrap().values.command(0), Some(&b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! Lamport's "Paxos Made Simple" (PMS), section 3, with what it leaves to the reader; comments
//! cite it. The roles are types of their own, one file each; a node is all of them.
//! - **[`Acceptor`]**: the memory. One promised ballot for all slots, stored under a key of its own;
//!   each slot holds a value and the ballot it was accepted at.
//! - **[`Candidate`]**: a proposer in phase 1. One Prepare asks about every slot that is not known to
//!   be chosen; acceptors report in parts of bounded size. Values that an acceptor reports as chosen are
//!   learnt, never proposed again. Of the rest, the value of the highest ballot wins slot by slot,
//!   and holes become no-ops. Prepare names the stamps that the candidate holds; a value that
//!   cannot differ from its own is not sent, see [`Span`].
//! - **[`Leader`]**: a proposer in phase 2, many slots at a time within a window. Values leave while
//!   its own disk still writes; its own acceptance is a message to itself and counts like any other,
//!   once it is durable. It serves nothing until a no-op after everything that it found, its
//!   barrier, is chosen: until then values that no node has learnt may still turn out to be chosen.
//!   It answers reads after a round in which a quorum [confirms](ReadRoundAck) its ballot, one for all reads
//!   that wait; a follower asks it. Reads write nothing.
//! - **[`Learner`]**: what is chosen, in order. The leader sends its commit index; a slot counts only if
//!   what is held there was accepted at that leader's ballot. What is missing is pulled, from any
//!   node. Values held under the same ballot there are confirmed without being sent; others are
//!   kept under the stamp [`CHOSEN`], which stands above every ballot and is none: it never touches
//!   the promise.
//! - **Long logs in bounded pieces.** A core recovers with the applied slot as its commit index, so
//!   phase 1 covers only what comes after. Values that it finds are proposed in slices, each once
//!   the ones before are chosen: heartbeats leave in between.
//! - **Accepts are sent once.** A [window](synod_consensus::SendWindow) that adapts to what the
//!   path drains bounds what is in flight. When answers are overdue, the leader sends a numbered
//!   [`Probe`](Message::Probe) on the lane of the Accepts; only its answer triggers retransmission.
//!   A follower does not pull slots that its leader is still sending.
//! - **Histories are compared.** If a quorum loses its disks, it may choose other values for slots that a
//!   survivor has applied. Messages that say what is chosen state a digest of their sender's history; a
//!   follower uses its leader's commit index only while the two agree, and pulls values otherwise.
//!   Messages of a peer with another history do not count, and a node
//!   [reports it](consensus::Effects::contradicted) and stops when the others are no quorum. Phase 1
//!   fills no hole with a no-op where a value is known to be chosen.
//! - **[`Election`]**: when to campaign. Heartbeats carry their sender's view of the cluster. Only a node
//!   that reaches a quorum campaigns, and only if no node that answers has a live leader; a leader that
//!   loses its quorum steps down. So a cluster recovers under partial
//!   partitions, as long as one node reaches a quorum ("Omni-Paxos: Breaking the Barriers of
//!   Partial Connectivity"). Safety does not depend on any of this.
//! - **Flexible quorums**: any two sizes that must meet, see [`Config::with_quorums`].
//! - **Nothing that arrives can break it.** A message from outside the group, of another ballot, or
//!   that no working node sends is ignored and [noted](consensus::ProtocolEvent::Ignored).
//!
//! [`faq`] answers what readers ask most.
//!
//! # Often told differently
//! Simplified accounts of Paxos get these wrong; here they are as the paper has them:
//! - A Prepare is compared with the highest ballot PROMISED, not with the highest accepted
//!   (PMS 2.2, P1a). An Accept at or above the promise is taken, not only one that equals it, and
//!   it raises the promise.
//! - Among the promises the value of the highest-NUMBERED accepted proposal counts, not the largest
//!   value, nor the one that most report (PMS 2.2, phase 2a). It is not found at the number asked
//!   for: every promise echoes that.
//! - A ballot is (round, node), never a bare number, and a refused proposer takes one of its own
//!   ABOVE the one named to it, never that one.
//! - The ballot and the slot are two numbers. A leader uses its ballot again for new slots; one slot
//!   and one ballot never bring two values.
//! - There is no separate election vote: completing phase 1 makes a proposer the leader. Acceptors
//!   send each other nothing; phases called pre-prepare, prepare and commit are PBFT's. Nor is
//!   this two-phase commit: a quorum is enough, and no node holds a lock.
//! - A Promise names, for every slot, the ballot and the value; a list of values is not enough. All
//!   holes are filled before anything new.
//! - One Accepted proves nothing: a value is chosen by a quorum at ONE ballot (PMS 2.3). Several
//!   proposals may be chosen; all carry one value.
//! - An Accept that times out goes out again, the very same. Only a refusal or a lost quorum is a
//!   reason for a higher ballot.
//! - A refusal may be silent, but need not: it is answered with the ballot that was promised. What
//!   keeps two candidates from outbidding each other are random election timeouts.
//! - What a leader had accepted by too few may be written over by the next one, in the same slots. Its
//!   client gets no answer: the outcome is unknown until the request, retried under its own number, is
//!   found done once.
//! - Acceptors ignore rivals of a live leader for stability. Safety rests on ballots alone.
//! - Messages may be lost, late, doubled and out of order; only forging is excluded (PMS 2.1).
//! - Fast Paxos, where clients send to the acceptors themselves, is another protocol with larger
//!   quorums, and ZooKeeper runs neither this nor that but Zab (Junqueira, Reed and Serafini, 2011).
//!
//! # Left out
//! - Leadership transfer and membership change: rejected as
//!   [`Unsupported`](consensus::Refusal::Unsupported) for the time being. Entries that name members are
//!   carried like any other and change nothing.
//! - Leases, and reads that ask a quorum of acceptors without the leader.
//! - Transfer of snapshots: the core names the peers that need one, and takes an input when one is
//!   installed.
//! - Sending to a bare quorum only: each member gets every Accept.
//! - Byzantine members: no message can make a core panic or take back a promise, but a peer that lies
//!   about what it accepted is believed.
//! - A store that was wiped or rolled back: the driver distinguishes lives of a store. What such a quorum
//!   has accepted and does not know to be chosen counts as undecided. Not noticed are histories that end in
//!   64 no-ops or in equal commands, and a ballot that a wiped node uses again.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod acceptor;
mod acceptor_node;
mod candidate;
mod config;
mod core;
mod describe;
mod election;
pub mod faq;
mod history;
mod invariants;
mod leader;
mod learner;
mod message;
mod proposer;
mod read_index;
mod recovery;
mod span;

pub use crate::core::{HardState, MultiPaxos, Timer};
pub use acceptor::{AcceptResult, AcceptedRange, Acceptor};
pub use candidate::{Candidate, Phase1Result, ReportProgress};
pub use config::{Config, Limits};
pub use election::{Election, PreCampaign};
pub use leader::Leader;
pub use learner::Learner;
pub use message::{
    Accept, Accepted, CHOSEN, Commit, ElectionState, Heartbeat, HeartbeatReply, Known, Learn,
    Learned, Message, Nack, Prepare, Probe, Promise, ReadReply, ReadRequest, ReadRound,
    ReadRoundAck, Report, View,
};
pub use span::{Span, spans};
pub use synod_consensus as consensus;
pub use synod_consensus::{ConfigError, Timing};
pub use synod_types as types;
