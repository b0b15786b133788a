//! Raft as a pure state machine: pre-vote, check-quorum, pipelined replication, linearizable reads.
//!
//! [`Raft`] implements [`Protocol`]: it handles one [`Input`] at a time and emits effects. It does no I/O,
//! reads no clock and draws no random numbers, so the same core runs in a simulator, under a model
//! checker and in production. A cluster of one node, in its [`Host`](consensus::Host), elects itself and
//! commits a command:
//!
//! ```
//! use synod_raft::consensus::{Host, Input, Outputs, Round, Saved};
//! use synod_raft::types::{Instant, Membership, NodeId, Slot, Ticket};
//! use synod_raft::{Config, Raft, Timer};
//!
//! let (me, now) = (NodeId(1), Instant::ZERO);
//! let config = Config::new(me, Membership::new([me], [])?)?;
//! let mut disk = Saved::default();
//! let mut host = Host::<Raft>::recover(me, config, disk.clone())?;
//!
//! let command = b"hello".to_vec().into();
//! let propose = Input::Propose { ticket: Ticket(7), command };
//! let (mut placements, mut applied) = (Vec::new(), Vec::new());
//! for input in [Input::Start, Input::Timeout(Timer::Election), propose] {
//!     let _ = host.input(now, input, &mut ()); // Timers are not needed: the inputs contain the timeout.
//!     loop {
//!         let Round { seq, writes, outputs: Outputs { placed, chosen, .. }, .. } =
//!             host.round(now, &mut ());
//!         writes.drain(..).for_each(|write| disk.apply(&write));
//!         placements.append(placed);
//!         applied.append(chosen);
//!         let Some(seq) = seq else { break };
//!         host.written(seq); // The node's vote and acknowledgement count from here on.
//!     }
//! }
//! assert_eq!(placements, [(Ticket(7), Slot(2))], "after the no-op that opens the term");
//! assert_eq!(applied.last().unwrap().values.command(0), Some(&b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! The crate implements the paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm", extended version) and extensions of Ongaro's thesis ("Consensus: Bridging Theory and
//! Practice"); comments cite the sections. [`faq`] answers frequent questions.
//! - **Roles own their state.** State that only a leader may have lives in the leader and is dropped
//!   with it, so no state of one term leaks into the next. [`Raft`] lists the invariants.
//! - **One batch a flush.** All proposals since the last [`flush`](synod_consensus::Protocol::flush) become one
//!   run of entries in one shared buffer: one write, one append to each follower, one
//!   acknowledgement. Each step of that path costs by the run, not by the entry.
//! - **Send first, count later.** Entries leave while the leader's own disk still writes (thesis
//!   §10.2.1). Its own copy and its own vote are messages to itself, and count as others do: once they
//!   are durable.
//! - **Probe, replicate, snapshot.** A follower whose log is not known yet gets one append at a
//!   time. Once it acknowledges one, appends are pipelined within a
//!   [window](synod_consensus::SendWindow) that adapts to the path. A follower that needs entries that
//!   are compacted away gets a snapshot.
//! - **Heartbeats name acknowledged entries only.** They overtake appends, so entries in flight may
//!   arrive later. When an acknowledgement is overdue, the leader probes with an append without entries
//!   on the Log lane. Only the reply to the latest probe can cause a retransmission.
//! - **Reads write nothing.** A leader replies to reads with the slot from which they may be served,
//!   after a round of heartbeats confirms that it still leads. One round confirms all pending reads. A
//!   follower requests the slot from the leader (§8, thesis §6.4). No read is served before the no-op of
//!   the term is applied.
//! - **Applied entries are never cut.** A core recovers with the applied slot as its commit index, and
//!   ignores an append that contradicts its log at or below that slot.
//! - **Invalid messages have no effect.** A message from a node outside the group, or one that no
//!   correct node sends, is ignored and [reported](synod_consensus::ProtocolEvent::Ignored).
//!
//! # Common mistakes
//! Simplified descriptions of Raft are often wrong about these rules of the paper:
//! - A vote goes to a log that is at least as up to date, and the last entry's TERM decides that
//!   before the length does: a longer log is not enough (§5.4.1). Nor is it enough to be the first
//!   candidate.
//! - "On a majority" is not "committed". Only entries of the leader's own term commit by counting;
//!   older ones commit with them (§5.4.2, fig. 8).
//! - A follower compares the entry BEFORE the new ones, wherever that stands in its log, and not
//!   with its last one; it cuts only where an entry differs (§5.3).
//! - A follower commits up to the leader's commit index or to the last entry that it has verified to be
//!   the leader's, the lower of the two: the end of its log may be an older leader's (fig. 2).
//! - New entries do not wait for the next heartbeat; heartbeats carry no entries (§5.3).
//! - A later term in a reply is no vote, and a candidate that moves to it is no more up to date (§5.1,
//!   §5.4.1).
//!
//! # Not supported
//! - Leadership transfer and membership change: their inputs are refused as
//!   [`Unsupported`](synod_consensus::Refusal::Unsupported) for the time being. Entries that name
//!   members are carried like any other and change nothing.
//! - Leases: each read costs the leader a round trip to a majority.
//! - Transfer of snapshots: the core reports which peer needs one, and gets an input when one is
//!   installed.
//! - Byzantine members: no message can make a core panic, cut chosen entries or revoke a vote or an
//!   acknowledgement, but false claims of a peer about its own disk are counted.
//! - Stores that were wiped or rolled back: the driver distinguishes incarnations of a store.
//!
//! [`Input`]: synod_consensus::Input
//! [`Protocol`]: synod_consensus::Protocol
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod candidate;
mod config;
mod core;
pub mod faq;
mod follower;
mod leader;
mod message;
mod progress;
mod read_index;
mod recovery;
mod role;
mod state;

pub use crate::core::{HardState, Raft, Timer};
pub use config::{Config, Limits};
pub use message::{
    Append, AppendAck, AppendConflict, Commit, Heartbeat, HeartbeatAck, Message, Position, PreVote,
    PreVoteReply, ReadReply, ReadRequest, RequestVote, Vote,
};
pub use synod_consensus as consensus;
pub use synod_consensus::{ConfigError, Timing};
pub use synod_types as types;
