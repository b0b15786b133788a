//! Model checking of the shipped protocol cores: exhaustive within bounds, and random walks.
//!
//! A simulator samples executions. This crate visits ALL executions of a small cluster that a [`Budget`]
//! permits: every order of messages, each message lost or not, timers that fire at any moment, and crashes
//! between any two steps that undo any suffix of the unsynced writes. It runs the core that production runs,
//! because a [`Protocol`](synod_consensus::Protocol) is a value: it can be copied, compared and hashed. The
//! state space search is [stateright](https://docs.rs/stateright)'s.
//!
//! All executions in which two of three Raft nodes campaign:
//!
//! ```
//! use synod_explore::{Budget, Explore, Coverage, NodeEvent};
//! use synod_raft::types::NodeId;
//! use synod_raft::{Config, Raft, Timer};
//!
//! let config = |id, members| {
//!     // Without the checks that only avoid disruption: any node may campaign at any time, in one step.
//!     let config = Config::new(id, members).expect("a member");
//!     config.with_pre_vote(false).with_check_quorum(false)
//! };
//! let report = Explore::<Raft>::new(3, config)?
//!     .with_timers(|timer| *timer == Timer::Election)
//!     .allowing(|event, node| event != NodeEvent::Timeout || node != NodeId(3))
//!     .budget(Budget { timeouts: 1, crashes: 1, slow_writes: 1, ..Budget::default() })
//!     .run();
//! println!("{report}");
//! report.assert_safe(&[Coverage::Chosen, Coverage::Lost]);
//! assert!(report.is_exhausted);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Checking your own protocol
//! 1. Implement [`Protocol`](synod_consensus::Protocol) for a type that holds only data. Then it is
//!    [`Explorable`].
//! 2. Start with [`Explore::new`] and a budget of one or two timeouts, and look at the number of states. One
//!    more timeout multiplies it by about a hundred.
//! 3. Exclude what does not affect safety: heartbeat [timers](Explore::with_timers), informational
//!    [messages](Explore::delivery) ([`Delivery::Dropped`]), preparatory requests such as pre-votes
//!    ([`Delivery::Immediate`]), and events at nodes that are symmetric ([`Explore::allowing`]).
//! 4. Start from an interesting state: the script of [`Explore::after`] elects a leader or makes logs
//!    diverge, so that the budget is spent on what follows.
//! 5. Plant a bug and verify that the search finds it. A search that never finds anything proves nothing. For
//!    the same reason [`SearchReport::assert_safe`] requires [`Coverage`] goals.
//!
//! A violation is reported with its trace, one action per line. The trace is minimal: without any one of its
//! actions the violation does not occur. The report ends with `violated: ` and the rule.
//!
//! # Checked properties
//! The [`Rule`]s are checked after every step by an observer that sees all disks: agreement among the values
//! that nodes report as chosen and those that quorums voted for durably; chosen values stay on the disks of a
//! quorum and are not overwritten at a higher ballot; nodes neither remove nor change applied slots; one
//! value per stamp; one leader per ballot, who in Raft holds everything chosen before; hard states never go
//! back; each released message is [backed](synod_consensus::Message::holds) by its sender's synced disk;
//! the state is never persisted beyond the log; a node recovers from any disk that a crash leaves; no
//! assertion of a core fails.
//!
//! Each node runs on the [`Host`](synod_consensus::Host) that the driver in `synod-replica` uses, so the
//! shipped fence is part of the model.
//!
//! # Bounds
//! - The search visits everything within the budget and nothing beyond: a bug that needs four campaigns is
//!   not found with three. The simulator covers longer executions.
//! - A write is durable in the step that makes it, unless a [slow write](Budget::slow_writes) is spent. A
//!   crash restarts the node at once, because a longer outage is like lost messages. The state on its disk
//!   may be applied through any slot that was applied and is durable in the node's log.
//! - The network is a set: retransmitting a message that is in flight has no effect. A second delivery of a
//!   message costs a [duplicate](Budget::duplicates).
//! - A message that would change nothing is not delivered, because this equals its loss.
//! - The clock stands still, or [steps](Explore::clock_step) with each timeout. Otherwise no two states would
//!   be equal. Behaviour that depends on durations is not covered.
//! - States are compared by 64-bit hashes: the probability that two of ten million states collide is 3 in a
//!   million.
//!
//! # Cost
//! Measured on one core: 40 to 75 thousand states per CPU second, and 0.7 to 2 KB of memory per state; up to
//! 4 KB in a search that reaches a limit, because most of its states are still queued. A [depth-first
//! search](Explore::depth_first) needs 10 to 16 bytes per state and visits up to 115 thousand states per
//! second. The searches in each protocol's `tests/explore.rs` are many and narrow, because each increment of
//! a budget is expensive. `make explore` runs those that are too large for every day.
//!
//! # Not covered
//! - Liveness: in executions that lose too many messages nothing progresses.
//! - Snapshot transfer, reads and membership changes: the search gives no such inputs. A node that needs
//!   entries that others have compacted does not get them.
//! - Symmetry reduction: node ids break ties in ballots, so nodes are not symmetric in general. Use
//!   [`Explore::allowing`] where they are.
//! - Codecs, sessions and real disks: the simulator covers these.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cluster;
mod exhaustive;
mod node;
mod random;
mod rule;
mod safety;

pub use cluster::{ClusterNode, CoreChecks, Flight, RunningTimer, TestCluster};
pub use exhaustive::model::{Delivery, Explorable, NodeEvent};
pub use exhaustive::search::{Counterexample, Coverage, Explore, SearchReport};
pub use exhaustive::setup::Setup;
pub use exhaustive::state::Budget;
pub use node::{LoggedWrite, NodeOutputs, TestNode, WriteBatch};
pub use random::walk::{WalkFailure, WalkStats, random_walk, random_walks};
pub use rule::{Checked, Rule, RuleViolation};
