//! A deterministic simulator for consensus: virtual clock, network, disks, faults and invariants.
//!
//! It runs the shipped driver, [`ReplicaCore`](synod_replica::ReplicaCore), with its codec, fences and
//! sessions, over simulated disks and a simulated network, in one thread, under a clock that jumps
//! to the next event. One seed decides everything: the number of nodes, the faults and their
//! rates, the operations of clients, and limits of messages, windows and quorums
//! ([`LimitsPlan`]), half of them small enough to be reached. The same seed does the same on every
//! machine, in debug and in release.
//!
//! ```
//! use std::time::Instant;
//! use synod_consensus::Protocol;
//! use synod_sim::search::{self, Target};
//! use synod_types::{Membership, NodeId};
//!
//! /// A program that searches seeds of any protocol: `search --seeds 0..2000`.
//! fn main_of<P: Protocol>(config: fn(NodeId, &Membership) -> P::Config) -> std::process::ExitCode {
//!     let began = Instant::now();
//!     let target = Target::new::<P>("search", config);
//!     search::main(&target, std::env::args().skip(1), || began.elapsed())
//! }
//! ```
//!
//! # A run
//! For 45 simulated seconds (now and then for three minutes) faults of at least two
//! [families](Family) fire while clients put, get, delete and run transactions on the shipped
//! key-value store through random nodes, and retry what was refused. Some faults occur at
//! random times; some target a node at the worst point: right after a vote, right after an
//! election is won, right after a leader has chosen its first slot. Then all faults end:
//! every node that is not lost, or just a random quorum of them, is repaired, must serve every
//! request, and must reach one state, byte for byte; the others stay dead, paused or cut off as
//! they are. A quorum is always left to be repaired, so nothing excuses a stall.
//!
//! # Faults
//! [`Fault`] lists the kinds, each with a counter of its own; a seed leaves some of them off.
//! - The network loses, doubles, reorders and delays messages, carries nothing and then all at
//!   once, brings messages back that are minutes old, flips their bits (the receiver's checksum
//!   must catch that), and falls apart: into halves, in one direction, around a node that is
//!   connected to both halves, into a ring of majorities.
//! - Processes die, one or all, also right after they were started; they pause, and start slowly.
//! - Disks are slow and stall, and lose what was not synced: of the committed batches a prefix
//!   stays, at least up to the last one that was synced. They cannot be read for a while, fail to
//!   sync and fill up: then a node stops, and is started again later. And they break the contract
//!   of the store on them: records are lost in any order, torn, written to the wrong place, or lose
//!   a bit. What is left then goes through the checks of the durable stores
//!   ([`RecordSet`](synod_storage::fault_injection::RecordSet)): it must be refused, unless it is by chance what the
//!   contract allows, and a node that refuses its disk is lost for the rest of the run.
//! - Each node has a clock of its own: it shows another time than the others', drifts by up to a
//!   quarter, and jumps. A monotonic clock cannot jump back, but a raw one can: a driver takes time
//!   to stand still until its clock has caught up.
//!
//! # Checks
//! After every event, each with a [`ViolationKind`] of its own:
//! - at most one leader a ballot, and a leader of a term holds all that was chosen before it;
//! - one value a slot is ever chosen, and from then on the synced disks of a quorum hold it:
//!   a majority, unless the protocol's [settings](synod_consensus::Protocol::quorum) say otherwise;
//! - where stamps are ballots, that quorum accepted it under one ballot, no other value ever has a
//!   higher one, and what a node writes as chosen is; where they are terms, a chosen value is never
//!   written over in a later round;
//! - one slot under one stamp has one value in all logs, and hard states never go back;
//! - every frame that leaves a node is true of its sender's synced disk
//!   ([`Message::holds`](synod_consensus::Message::holds));
//! - every state is what the chosen commands make, and no state store is ahead of its log;
//! - no message that was corrupted in flight is accepted, and no log that was corrupted on its disk
//!   is loaded as if it were intact;
//! - no node asks to cut what it has reported as chosen;
//! - every operation is answered once, by the node that took it;
//! - acknowledged commands took effect once, in the order of their acknowledgements; refused ones
//!   never; a read sees what was acknowledged before it began.
//!
//! At the end, the history of clients is judged as a whole, by invocations and outcomes alone: the
//! linearizability checker that judges real processes must find one order of all operations that
//! explains every answer. What it cannot decide is a violation as well.
//!
//! Checks of rounds and leaders read
//! [`Status`](synod_consensus::Status) only, so the same checkers serve every protocol.
//!
//! # Load runs
//! One seed in thirty-two is a load run ([`RunKind`]). There bytes take time: links transmit frames by
//! lane and by size and their queues are bounded as the transport's, disks, apply threads and
//! drivers carry so many bytes a second ([`CapacityPlan`]), and a driver's round takes many events.
//! Writes are offered at 30 to 70 % of the capacity, whether or not earlier ones were answered, and
//! once a [`Disturbance`] comes: a burst, a node that is away, a slow disk, or reads without pause.
//! After it throughput must be back at 90 % within twice the time that the backlog takes at the
//! capacity that is left; bytes sent and written must stay near what they were for the same
//! commands before; leadership must not move, and writes must not wait for reads. Everything is a
//! sixteenth of a real cluster's size, times are not. One in eight of the other seeds has
//! capacities, too. [`search`] with `--load` runs load runs only.
//!
//! # Runs that count
//! A run [counts](RunReport::counted) if each enabled family of faults occurred while operations
//! were in flight, and if ten operations a simulated second were acknowledged all the same. A
//! [campaign](Campaign) runs seeds until so many simulated hours count; it fails if anything is
//! found, if a kind of fault never fired, or if most of its runs do not count. Its operations and
//! faults are those of the runs that count, and the faults those that occurred while operations
//! were in flight.
//!
//! # A failure
//! The faults of a run are an explicit list, the [`Schedule`]. [`shrink`](shrink()) cuts it down to
//! those that the failure needs, then weakens them, ends the run earlier and lets clients submit
//! less. What is left is a [`Case`]: a text of a few lines that replays the failure, with a
//! transcript for its reader.
//!
//! # Four ways in
//! - [`search`]: seeds on any number of threads, until a violation or enough simulated hours.
//! - [`protocol_suite!`]: one suite of tests for every protocol, on a [`Cluster`] that a test drives,
//!   and [partial partitions](conformance::partial) for those that recover from them.
//! - [`script`]: golden scripts, in which every event is a command.
//! - [`measure`]: costs of a protocol while nothing fails, and its time to recover from a dead leader.
//!
//! Left out on purpose: clocks and threads (a [`SearchHost`](search::SearchHost) lends them to a search),
//! damage to the state store (what it loses is applied again from the log), disks that come back
//! empty or older than they were, and changes of membership.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod check;
mod cluster;
pub mod conformance;
mod faults;
pub mod measure;
mod plan;
mod rng;
mod runner;
pub mod script;
mod trace;
mod violation;
mod workload;

pub use cluster::Cluster;
pub use cluster::network::lanes::LaneBounds;
pub use cluster::world::ConfigFn;
pub use faults::kind::{Family, Fault, FaultSet};
pub use faults::schedule::{Schedule, ScheduleEntry, ScheduleError};
pub use plan::limits::{DriverLimits, LimitsPlan};
pub use plan::load::{Disturbance, LoadPlan};
pub use plan::{CapacityPlan, ClientPlan, DiskPlan, InjectionPlan, NetworkPlan, Plan};
pub use runner::campaign::{Campaign, CampaignSummary, LoadSummary};
pub use runner::case::{Case, CaseError};
pub use runner::run::{record, replay, run, run_seed};
pub use runner::search;
pub use runner::shrink::{Progress, ShrinkResult, shrink};
pub use runner::spec::{RunKind, RunOptions, RunOutcome, RunReport, RunSpec};
pub use violation::{Violation, ViolationKind};
pub use workload::load::LoadFigures;
