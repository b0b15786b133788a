//! Clients in a closed loop: each submits its next write when the last one is acknowledged.

use super::profile::{Profile, value};
use crate::check::replies::OperationState;
use crate::cluster::Cluster;
use crate::violation::Violation;
use crate::workload::kv::Command;
use std::ops::Range;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_replica::{Driver, Event, Token};
use synod_types::{Instant, NodeId};

/// All proposers, and their measurements.
#[derive(Debug)]
pub(super) struct Proposers {
    all: Vec<Proposer>,
    /// Pause of a proposer after a rejection.
    pause: Duration,
    /// Latency of each acknowledged write.
    latencies: Vec<Duration>,
    failed: u64,
}

#[derive(Debug)]
struct Proposer {
    node: NodeId,
    /// Pending write.
    operation: Option<u64>,
    /// Time of the first attempt at the pending write.
    first_attempt: Option<Instant>,
    /// Time of the next attempt, at the earliest.
    not_before: Instant,
    served: bool,
}

impl Proposers {
    pub(super) fn new(profile: &Profile, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let pause = (profile.one_way() * 2).max(Duration::from_millis(1));
        let mut proposers = Self { all: Vec::new(), pause, latencies: Vec::new(), failed: 0 };
        proposers.join(nodes);
        proposers
    }

    /// Adds proposers at these nodes. Returns their indices.
    pub(super) fn join(&mut self, nodes: impl IntoIterator<Item = NodeId>) -> Range<usize> {
        let first = self.all.len();
        self.all.extend(nodes.into_iter().map(Proposer::new));
        first..self.all.len()
    }

    /// Removes the proposers at a dead node.
    pub(super) fn leave(&mut self, node: NodeId) {
        self.all.retain(|proposer| proposer.node != node);
    }

    /// Discards the measurements so far.
    pub(super) fn reset(&mut self) {
        self.latencies.clear();
        self.failed = 0;
    }

    /// Returns the latency of each acknowledged write.
    pub(super) fn latencies(&self) -> &[Duration] {
        &self.latencies
    }

    /// Returns the number of attempts that failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Returns whether a write of any of these proposers was acknowledged.
    pub(super) fn served(&self, indices: Range<usize>) -> bool {
        self.all[indices].iter().any(|proposer| proposer.served)
    }

    /// Submits writes until `enough` returns true or `most` has passed. Returns the result of
    /// `enough`.
    pub(super) fn run<P: Protocol>(
        &mut self,
        cluster: &mut Cluster<P>,
        most: Duration,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<bool, Violation> {
        let end = cluster.now() + most;
        while !enough(self) {
            self.submit_writes(cluster)?;
            let waiting = self.all.iter().filter(|proposer| proposer.operation.is_none());
            let idle_until = waiting.map(|proposer| proposer.not_before).min();
            let next = [cluster.world.queue.next(), idle_until].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                cluster.run_for(end - cluster.now())?;
                return Ok(false);
            };
            if cluster.world.queue.next() == Some(next) {
                cluster.step().map_err(|found| cluster.with_time(*found))?;
            } else {
                cluster.run_for(next - cluster.now())?;
            }
            self.collect(cluster);
        }
        Ok(true)
    }

    /// Submits a write of each proposer without a pending one. A driver takes simultaneous writes
    /// in one round, as the real node's loop takes all waiting requests.
    fn submit_writes<P: Protocol>(&mut self, cluster: &mut Cluster<P>) -> Result<(), Violation> {
        let now = cluster.now();
        let due = |proposer: &Proposer| proposer.operation.is_none() && proposer.not_before <= now;
        while let Some(node) = self.all.iter().find(|it| due(it)).map(|it| it.node) {
            for proposer in self.all.iter_mut().filter(|it| it.node == node && due(it)) {
                proposer.operation = Some(cluster.offer(node));
                proposer.first_attempt.get_or_insert(now);
            }
            let index = Cluster::<P>::index(node);
            cluster.settle(index).map_err(|found| cluster.with_time(*found))?;
        }
        Ok(())
    }

    /// Records the results of completed writes.
    fn collect<P: Protocol>(&mut self, cluster: &Cluster<P>) {
        let pending = self.all.iter().filter(|proposer| proposer.operation.is_some()).count();
        if cluster.workload.clients.pending() >= pending {
            return;
        }
        let now = cluster.now();
        for proposer in &mut self.all {
            let operation = proposer.operation.and_then(|id| cluster.workload.clients.get(id));
            match operation.map(|operation| operation.state) {
                None | Some(OperationState::Pending) => {}
                Some(OperationState::Done(_)) => {
                    let first_attempt = proposer.first_attempt.take().unwrap_or(now);
                    self.latencies.push(now - first_attempt);
                    (proposer.operation, proposer.served) = (None, true);
                }
                Some(OperationState::Rejected { .. } | OperationState::Unknown) => {
                    proposer.operation = None;
                    proposer.not_before = now + self.pause;
                    self.failed += 1;
                }
            }
        }
    }
}

impl Proposer {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            operation: None,
            first_attempt: None,
            not_before: Instant::ZERO,
            served: false,
        }
    }
}

impl<P: Protocol> Cluster<P> {
    /// Passes a write to a node in the current round. Returns the write's id.
    fn offer(&mut self, node: NodeId) -> u64 {
        let index = Self::index(node);
        let id = self.workload.clients.begin(self.world.now, index);
        let Some(running) = self.world.nodes[index].running.as_mut() else {
            self.workload.clients.finish(id, OperationState::Rejected { busy: false });
            return id;
        };
        let deadline = self.world.now + self.world.plan.clients.timeout.end;
        let key = b'a' + (id % self.world.plan.clients.keys) as u8;
        let command = Command::put(id, key, value()).encode();
        running
            .replica
            .handle(self.world.now, Event::Request { token: Token(id), command, deadline });
        id
    }
}
