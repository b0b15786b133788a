//! Multi-Paxos as a pure state machine: slots in parallel, one promise for all of them, and a stable leader.
//!
//! [`MultiPaxos`] implements [`Protocol`](consensus::Protocol): it takes one [`Input`](consensus::Input)
//! at a time and returns effects. It does no I/O, reads no clock and draws no random numbers, so the same
//! core runs in a simulator, under a model checker and in production. A [`Host`](synod_consensus::Host)
//! runs it. A complete cluster of one node:
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
//! Lamport's "Paxos Made Simple" (PMS), section 3, completed where it leaves details open; comments cite
//! it. Each role is a type in a file of its own; a node has all of them.
//! - **[`Acceptor`]**: one promised ballot for all slots, stored under a key of its own. Each slot holds
//!   a value and the ballot at which it was accepted.
//! - **[`Candidate`]**: a proposer in phase 1. One Prepare covers all slots that are not known to be
//!   chosen; acceptors report in parts of bounded size. Slots that an acceptor reports as chosen are
//!   learnt, not proposed again. For the others, the value of the highest ballot wins in each slot, and
//!   holes become no-ops. Prepare names the stamps that the candidate holds; values that cannot differ
//!   from its own are not sent, see [`Span`].
//! - **[`Leader`]**: a proposer in phase 2, for many slots at a time within a window. It sends values
//!   while its own disk still writes; its own vote is a message to itself, which counts once it is
//!   durable. It serves no request until its barrier is chosen, a no-op after all values that it found:
//!   until then values that no node has learnt may be chosen. A read is ready after a round in which a
//!   quorum [confirms](ReadRoundAck) the leader's ballot, one for all waiting reads; followers send it
//!   requests. Reads write nothing.
//! - **[`Learner`]**: chosen slots in order. The leader sends its commit index; a slot counts only if its
//!   value was accepted at that leader's ballot. Missing values are pulled from any node. Values that the
//!   other node holds under the same ballot are confirmed without being sent. Others are stored under the
//!   stamp [`CHOSEN`], which is above every ballot but is none: it never changes the promise.
//! - **Long logs in bounded pieces.** A core recovers with the applied slot as its commit index, so
//!   phase 1 covers only the slots after it. Values that it finds are proposed in slices, each after the
//!   ones before are chosen, with heartbeats in between.
//! - **Accepts are sent once.** A [window](synod_consensus::SendWindow) that adapts to the capacity of
//!   the path bounds the values in flight. When replies are overdue, the leader sends a numbered
//!   [`Probe`](Message::Probe) on the lane of the Accepts; only its reply triggers retransmission.
//!   A follower does not pull slots that its leader is still sending.
//! - **Histories are compared.** A quorum that loses its disks may choose other values for slots that a
//!   survivor has applied. Messages about chosen slots state a digest of their sender's history. A
//!   follower uses its leader's commit index only while the two histories agree, and pulls values
//!   otherwise. Messages of a peer with another history do not count; a node
//!   [reports it](consensus::Effects::contradicted) and stops if the others make no quorum. Phase 1
//!   fills no hole with a no-op in a slot that is known to be chosen.
//! - **[`Election`]**: the decision to campaign. Heartbeats carry their sender's view of the cluster. A
//!   node campaigns only if it reaches a quorum and no node that replies has a live leader; a leader that
//!   loses its quorum steps down. So a cluster recovers under partial partitions as long as one node
//!   reaches a quorum ("Omni-Paxos: Breaking the Barriers of Partial Connectivity"). Safety does not
//!   depend on any of this.
//! - **Flexible quorums**: any two sizes that must intersect, see [`Config::with_quorums`].
//! - **Invalid messages are ignored.** A message from outside the group, of another ballot, or that no
//!   correct node sends is ignored and [noted](consensus::ProtocolEvent::Ignored).
//!
//! [`faq`] answers frequent questions.
//!
//! # Common misconceptions
//! Simplified accounts of Paxos get these points wrong. According to the paper:
//! - A Prepare is compared with the highest ballot PROMISED, not with the highest accepted
//!   (PMS 2.2, P1a). An Accept at or above the promise is accepted, not only one that equals it, and
//!   it raises the promise.
//! - Among the promises the value of the highest-NUMBERED accepted proposal counts, not the largest
//!   value, nor the one that most acceptors report (PMS 2.2, phase 2a). The number is that of the
//!   accepted proposal, not that of the promise.
//! - A ballot is (round, node), never a bare number. A rejected proposer uses a ballot of its own ABOVE
//!   the promised one, never that one.
//! - The ballot and the slot are two numbers. A leader uses its ballot for many slots; one slot never
//!   has two values under one ballot.
//! - There is no separate election vote: completing phase 1 makes a proposer the leader. Acceptors send
//!   each other no messages; phases called pre-prepare, prepare and commit are PBFT's. Nor is this
//!   two-phase commit: a quorum is enough, and no node holds a lock.
//! - A Promise names the ballot and the value of every slot; a list of values is not enough. All holes
//!   are filled before new values are proposed.
//! - One Accepted proves nothing: a value is chosen by a quorum at ONE ballot (PMS 2.3). Several
//!   proposals may be chosen; all carry one value.
//! - An Accept that times out is sent again under the same ballot. Only a rejection or a lost quorum is
//!   a reason for a higher ballot.
//! - Acceptors may reject silently; a Nack with the promised ballot saves the proposer a timeout. Random
//!   election timeouts keep two candidates from outbidding each other.
//! - The next leader may replace values that too few acceptors have accepted, in the same slots. The client's
//!   node retries the request under the same number until it is applied or times out; then the outcome is
//!   unknown to the client.
//! - Acceptors ignore rivals of a live leader for stability. Safety rests on ballots alone.
//! - Messages may be lost, delayed, duplicated and reordered; only corrupted or forged ones are excluded
//!   (PMS 2.1).
//! - Fast Paxos, in which clients send to the acceptors, is another protocol with larger quorums.
//!   ZooKeeper runs neither: its protocol is Zab (Junqueira, Reed and Serafini, 2011).
//!
//! # Left out
//! - Leadership transfer and membership change: rejected as
//!   [`Unsupported`](consensus::Refusal::Unsupported) for the time being. Entries that name members are
//!   carried like any other and change nothing.
//! - Leases, and reads from a quorum of acceptors without the leader.
//! - Transfer of snapshots: the core names the peers that need one, and takes an input when one is
//!   installed.
//! - Sending to a bare quorum only: each member receives every Accept.
//! - Byzantine members: no message can make a core panic or withdraw a promise, but false reports of
//!   accepted values are believed.
//! - Stores that were wiped or rolled back: the driver distinguishes incarnations of a store. Values that
//!   such a quorum has accepted without knowing them to be chosen count as undecided. Histories that end in
//!   64 no-ops or in equal commands are not distinguished, nor is a ballot that a wiped node uses again.
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
