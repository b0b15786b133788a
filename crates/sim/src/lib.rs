//! A deterministic simulator for consensus: virtual clock, network, disks, faults and invariants.
//!
//! It runs the shipped driver, [`ReplicaCore`](synod_replica::ReplicaCore), with its codec, fences
//! and sessions, over simulated disks and a simulated network, in one thread, under a clock that
//! jumps to the next event. One seed determines everything: the number of nodes, the faults and
//! their rates, the operations of clients, and the limits of messages, windows and quorums
//! ([`LimitsPlan`]), half of which are so small that runs reach them. The same seed gives the same
//! run on every machine, in debug and in release.
//!
//! ```
//! use std::process::ExitCode;
//! use std::time::Instant;
//! use synod_consensus::Protocol;
//! use synod_sim::search::{self, Target};
//! use synod_types::{Membership, NodeId};
//!
//! /// A program that searches seeds of any protocol: `search --seeds 0..2000`.
//! fn search_main<P: Protocol>(config: fn(NodeId, &Membership) -> P::Config) -> ExitCode {
//!     let start = Instant::now();
//!     let target = Target::new::<P>("search", config);
//!     search::main(&target, std::env::args().skip(1), || start.elapsed())
//! }
//! ```
//!
//! # A run
//! For 45 simulated seconds (occasionally for three minutes) faults of at least two
//! [families](Family) fire while clients put, get, delete and run transactions on the shipped
//! key-value store through random nodes, and retry rejected requests. Some faults occur at random
//! times; some target a node at a critical moment: just after a vote, an election win, or the first
//! slot that a leader chooses. Then all faults end. All nodes with an intact disk, or only a random
//! quorum of them, are repaired; the others stay crashed, paused or cut off. The repaired nodes
//! always include a quorum, so they must serve every request. They must reach the same state, byte
//! for byte.
//!
//! # Faults
//! [`Fault`] lists the kinds, each with its own counter; a seed disables some of them.
//! - The network loses, duplicates, reorders and delays messages, holds them back and delivers them
//!   in one burst, replays messages that are minutes old, flips bits (the receiver's checksum must
//!   catch that), and partitions: into halves, in one direction, around a node that is connected to
//!   both halves, into a ring of majorities.
//! - Processes crash, one or all, also just after they started; they pause, and start slowly.
//! - Disks are slow, stall, and lose unsynced data: a prefix of the committed batches survives,
//!   which includes at least the synced ones. They are unreadable for a while, fail to sync, and
//!   fill up: then a node stops, and is restarted later. Disks also break the store's contract:
//!   records are lost in any order, torn, written to the wrong place, or lose a bit. The result
//!   goes through the checks of the durable stores
//!   ([`RecordSet`](synod_storage::fault_injection::RecordSet)): it must be rejected, unless it
//!   happens to satisfy the contract. A node that rejects its disk is lost for the rest of the run.
//! - Each node has its own clock, which differs from the others, drifts by up to a quarter, and
//!   jumps. A monotonic clock cannot jump back, but a raw one can: a driver treats time as standing
//!   still until its clock has caught up.
//!
//! # Checks
//! After every event, each with its own [`ViolationKind`]:
//! - at most one leader per ballot, and a leader of a term holds all slots chosen before it;
//! - at most one value per slot is chosen, and from then on the synced disks of a quorum hold it. A
//!   quorum is a majority, unless the protocol's [settings](synod_consensus::Protocol::quorum)
//!   define it otherwise;
//! - where stamps are ballots, that quorum accepted it under one ballot, no other value is accepted
//!   under a higher ballot, and a node writes only chosen values as chosen; where they are terms, a
//!   chosen value is never overwritten in a later round;
//! - one slot under one stamp has one value in all logs, and hard states never go back;
//! - every claim in a frame that leaves a node is backed by its sender's synced disk
//!   ([`Message::holds`](synod_consensus::Message::holds));
//! - every state equals the result of the chosen commands, and no state store is ahead of its log;
//! - no message corrupted in flight is accepted, and no log corrupted on disk loads as if intact;
//! - no node truncates slots that it has reported as chosen;
//! - an operation gets at most one reply, from the node that received it;
//! - an acknowledged command took effect once, after all commands acknowledged before it began; a
//!   rejected one never; a read observes every write acknowledged before it began.
//!
//! At the end, the client history is checked as a whole, by invocations and outcomes alone: the
//! linearizability checker that judges real processes must find one order of all operations that
//! explains every result. An undecided check is a violation as well.
//!
//! Checks of rounds and leaders read only [`Status`](synod_consensus::Status), so the same checkers
//! serve every protocol.
//!
//! # Load runs
//! One seed in thirty-two is a load run ([`RunKind`]). There, throughput is limited: links transmit
//! frames by lane and size, with queues bounded as in the transport; disks, apply threads and
//! drivers process a limited number of bytes a second ([`CapacityPlan`]); and one driver round
//! takes many events. Writes are offered at 30 to 70 % of the capacity, whether or not earlier ones
//! have completed, and each run has one [`Disturbance`]: a burst, a node that is away, a slow disk,
//! or continuous reads. After it, throughput must return to 90 % within twice the time that the
//! remaining capacity needs for the backlog. Bytes sent and written per command must stay near
//! their earlier values, leadership must not change, and reads must not raise the latency of writes
//! more than fivefold. Sizes are a sixteenth of a real cluster's; times are the same. One in eight
//! of the other seeds limits throughput, too. [`search`] with `--load` runs load runs only.
//!
//! # Runs that count
//! A run [counts](RunReport::counted) if each enabled family of faults occurred while operations
//! were in flight, and if at least ten operations per simulated second were acknowledged. A
//! [campaign](Campaign) runs seeds until enough simulated hours count. It fails on any violation,
//! if a kind of fault never fired, or if most of its runs do not count. It reports the operations
//! of the runs that count, and those of their faults that occurred while operations were in flight.
//!
//! # A failure
//! The faults of a run are an explicit list, the [`Schedule`]. [`shrink`](shrink()) reduces it to
//! the faults that the failure needs, then weakens them, ends the run earlier and reduces the
//! number of client operations. The result is a [`Case`]: a text of a few lines that replays the
//! failure and prints a transcript.
//!
//! # Entry points
//! - [`search`]: seeds on any number of threads, until a violation or enough simulated hours.
//! - [`protocol_suite!`]: one suite of tests for every protocol, on a [`Cluster`] that a test
//!   drives, and [partial partitions](conformance::partial) for protocols that recover from them.
//! - [`script`]: golden scripts, in which every event is a command.
//! - [`measure`]: costs of a protocol without faults, and its time to recover from a dead leader.
//!
//! Out of scope: real clocks and threads (a [`SearchHost`](search::SearchHost) supplies them to a
//! search), corruption of the state store (lost state is applied again from the log), disks that
//! lose synced data and start empty or from an older state, and changes of membership.
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
