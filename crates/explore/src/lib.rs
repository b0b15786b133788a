//! Model checking of the shipped protocol cores: exhaustive within bounds, and random walks.
//!
//! A simulator samples executions. An exhaustive search visits all executions of a small cluster that a
//! [`Budget`] permits: every order of messages, each message lost or not, timers that fire at any moment, and crashes
//! between any two steps that undo any suffix of the unsynced writes. It runs the core that production runs,
//! because a [`Protocol`](synod_consensus::Protocol) is a value: it can be copied, compared and hashed. The
//! state space search is [stateright](https://docs.rs/stateright)'s.
//!
//! This example visits all executions of three Raft nodes in which at most one election timer fires (that of
//! node 1 or 2), at most one node crashes, and at most one write is slow:
//!
//! ```
//! use synod_explore::{Budget, Explore, Coverage, NodeEvent};
//! use synod_raft::types::NodeId;
//! use synod_raft::{Config, Raft, Timer};
//!
//! let config = |id, members| {
//!     // Pre-vote and check-quorum only avoid disruption. Without them any node may campaign at once.
//!     let config = Config::new(id, members).expect("a member");
//!     config.with_pre_vote(false).with_check_quorum(false)
//! };
//! let report = Explore::<Raft>::new(3, config)?
//!     .with_timers(|timer| *timer == Timer::Election)
//!     .with_events(|event, node| event != NodeEvent::Timeout || node != NodeId(3))
//!     .budget(Budget { timeouts: 1, crashes: 1, slow_writes: 1, ..Budget::default() })
//!     .run();
//! println!("{report}");
//! report.assert_safe(&[Coverage::Chosen, Coverage::LostWrite]);
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
//!    ([`Delivery::Immediate`]), and events at nodes that are symmetric ([`Explore::with_events`]).
//! 4. Start from an interesting state: the script of [`Explore::with_setup`] elects a leader or makes logs
//!    diverge, so that the budget is spent on what follows.
//! 5. Plant a bug and verify that the search finds it: a search that reaches few states finds no violation
//!    either. For the same reason [`SearchReport::assert_safe`] takes [`Coverage`] goals.
//!
//! A violation is reported with its trace, one action per line. The trace is minimal: without any one of its
//! actions the violation does not occur. The report ends with `violated: ` and the rule.
//!
//! # Checked properties
//! An observer of all disks checks the [`Rule`]s after every step:
//! - A slot has one chosen value: nodes report no other one as chosen, and no quorum votes for another one.
//! - Chosen values stay on the disks of a quorum, and are not overwritten at a higher ballot.
//! - Nodes neither remove nor change applied slots.
//! - A slot has one value per stamp, and a ballot one leader. In Raft a leader holds all values that were
//!   chosen in earlier terms.
//! - The slot of a linearizable read is at or after every slot that any node had reported when the read arrived.
//! - A node's term, vote and promises never regress.
//! - When a node sends a message, its synced disk [backs](synod_consensus::Message::holds) the claim that the
//!   message makes about it.
//! - A node never persists its state beyond the end of its durable log.
//! - A node reports chosen slots in order, without gaps.
//! - A node recovers from any disk that a crash leaves, and no assertion of a core fails.
//! - Each exchange of messages that are delivered at once ends.
//!
//! Each node runs in the [`Host`](synod_consensus::Host) that the driver in `synod-replica` uses. So the model
//! includes the shipped fence, the queue that holds messages back until the writes that they depend on are
//! durable.
//!
//! # Bounds
//! - The search visits everything within the budget and nothing beyond: a bug that needs four campaigns is
//!   not found with three. The simulator covers longer executions.
//! - A write is durable in the step that makes it, unless it is one of the budget's [slow
//!   writes](Budget::slow_writes). A crashed node restarts at once, because a longer outage is equivalent to
//!   the loss of its messages. After a crash, the state on disk may end at any slot from the one at the last
//!   start to the last slot that was both applied and durable in the log.
//! - The network is a set: retransmitting a message that is in flight has no effect. A second delivery of a
//!   message costs a [duplicate](Budget::duplicates).
//! - A message that would change nothing is not delivered, because this is equivalent to its loss.
//! - The clock does not advance, or [advances](Explore::clock_step) only with each timeout. Otherwise almost
//!   all states would differ. Behaviour that depends on durations is not covered.
//! - States are compared by 64-bit hashes: the probability that two of ten million states collide is 3 in a
//!   million.
//!
//! # Cost
//! Measured on one core: 40 to 75 thousand states per CPU second, and 0.7 to 2 KB of memory per state; up to
//! 4 KB in a search that reaches a limit, because most of its states are still queued. A [depth-first
//! search](Explore::depth_first) needs 10 to 16 bytes per state and visits up to 115 thousand states per
//! second. The searches in each protocol's `tests/explore.rs` are many and narrow, because each increment of
//! a budget is expensive. `make explore` runs those that take too long for `make test`.
//!
//! # Not covered
//! - Liveness: many of the executions lose so many messages that no progress is possible.
//! - Snapshot transfer and membership changes: the search gives cores no such inputs. A node that needs
//!   entries that others have compacted does not receive them.
//! - Symmetry reduction: node ids break ties in ballots, so nodes are not symmetric in general. Use
//!   [`Explore::with_events`] where they are.
//! - Codecs, sessions and real disks: the simulator covers these.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cluster;
mod exhaustive;
mod node;
mod random;
mod rule;
mod safety;

pub use cluster::{ClusterNode, CoreChecks, InFlight, RunningTimer, TestCluster};
pub use exhaustive::model::{Delivery, Explorable, NodeEvent};
pub use exhaustive::search::{Counterexample, Coverage, Explore, SearchReport};
pub use exhaustive::setup::Setup;
pub use exhaustive::state::Budget;
pub use node::{LoggedWrite, NodeOutputs, TestNode, WriteBatch};
pub use random::walk::{WalkFailure, WalkStats, random_walk, random_walks};
pub use rule::{Checked, Rule, RuleViolation};
