//! Exhaustive model checking of protocol cores, as they are shipped.
//!
//! A simulator tries some of the things that can happen, for hours. This tries ALL of them, in a
//! cluster of three, for as long as a [`Budget`] lasts: every order of every message, each message
//! lost or not, a timer that runs out at any moment, a crash between any two steps that undoes any
//! suffix of what was not synced. It runs the very core that production runs, because a
//! [`Protocol`](synod_consensus::Protocol) is a value: it can be copied, compared and hashed. The
//! search itself is [stateright](https://docs.rs/stateright)'s.
//!
//! Below, all that can happen while two of three Raft nodes campaign:
//!
//! ```
//! use synod_explore::{Budget, Explore, Coverage, NodeEvent};
//! use synod_raft::types::NodeId;
//! use synod_raft::{Config, Raft, Timer};
//!
//! let config = |id, members| {
//!     // What only keeps the peace is off: any node may campaign at any time, in one step.
//!     let config = Config::new(id, members).expect("a member");
//!     config.with_pre_vote(false).with_check_quorum(false)
//! };
//! let report = Explore::<Raft>::new(3, config)?
//!     .with_timers(|timer| *timer == Timer::Election)
//!     .allowing(|trouble, node| trouble != NodeEvent::Timeout || node != NodeId(3))
//!     .budget(Budget { timeouts: 1, crashes: 1, slow_writes: 1, ..Budget::default() })
//!     .run();
//! println!("{report}");
//! report.assert_safe(&[Coverage::Chosen, Coverage::Lost]);
//! assert!(report.is_exhausted);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Checking a protocol of your own
//! 1. Implement [`Protocol`](synod_consensus::Protocol) with nothing but data inside; then it is
//!    [`Explorable`].
//! 2. Begin with [`Explore::new`] and a budget of one or two timeouts, and look at the number of
//!    states. One timeout more multiplies it by a hundred.
//! 3. Leave out what does not matter for safety: [timers](Explore::with_timers) of heartbeats,
//!    [messages](Explore::delivery) that only inform ([`Delivery::Dropped`]) or only ask around
//!    ([`Delivery::Immediate`]), nodes that are alike ([`Explore::allowing`]).
//! 4. Begin closer to the danger: [`Explore::after`] leads the cluster by a script to where a leader
//!    is elected or logs differ, so that the budget is spent on what comes then.
//! 5. Break the protocol on purpose and see that the search notices. One that never found anything
//!    proves nothing; for the same reason [`SearchReport::assert_safe`] demands [`Coverage`]s.
//!
//! A search that finds something fails with its trace, one action a line, of which no single one
//! can be left out, and ends with `violated: ` and the rule.
//!
//! # What is checked
//! The [`Rule`]s, after every step, by an observer who sees all disks: agreement among what nodes
//! report as chosen and what quorums voted for durably; that what is chosen stays on the disks of
//! a quorum and is not overwritten under a higher ballot; that no node removes or changes a slot
//! that it has applied; one value under one stamp; one leader a ballot, who in Raft holds all
//! that was chosen before; hard states that never go back; that each released message
//! [holds](synod_consensus::Message::holds) against its sender's synced disk; that the state may
//! be made durable only as far as the log is; that a node starts from any disk that a crash leaves;
//! that no assertion of a core fails.
//!
//! Each node runs on the [`Host`](synod_consensus::Host) that the driver in `synod-replica` runs on: the
//! fence that ships is part of what is explored.
//!
//! # What bounds it
//! - Everything within the budget is looked at, and nothing beyond: a bug that needs four campaigns
//!   is not found with three. The simulator looks there.
//! - Unless a [slow write](Budget::slow_writes) is spent, a write is durable in the step that makes
//!   it. A crash restarts at once; being down longer is like losing messages. The state on its disk
//!   may be applied through any slot that was applied and is durable in the node's log.
//! - The network is a set: a message that is sent again while it is in flight counts once. One that
//!   arrives twice costs a [duplicate](Budget::duplicates).
//! - A message that would change nothing is not delivered, since it may as well be lost.
//! - The clock stands still, or [hops](Explore::clock_step) with each timeout, or no two states would ever
//!   be equal. What depends on how long something takes is not covered.
//! - States are told apart by 64-bit hashes: of ten million states two are taken for the same with
//!   a probability of 3 in a million.
//!
//! # What it costs
//! Measured in CPU seconds of one core: 40 to 75 thousand states a second, and 0.7 to 2 KB of memory
//! a state; up to 4 KB in a search that is cut off, because most of its states still wait to be
//! looked at. [Depth first](Explore::depth_first) it is 10 to 16 bytes a state, and up to 115 thousand of
//! them a second. The searches of each protocol's `tests/explore.rs` are many and narrow, since one
//! more of anything in a budget costs most. Some are too large for every day: `make explore` runs
//! these.
//!
//! # Left out on purpose
//! - Liveness: every run in which too many messages are lost stands still.
//! - Snapshots that move, reads and membership: no such input is given. A node that needs what
//!   others have trimmed gets nothing.
//! - Symmetry: node ids break ties in ballots, so nodes are not alike to a machine. A person can say
//!   where they are, with [`Explore::allowing`].
//! - Codecs, sessions and real disks: the simulator drives these.
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
