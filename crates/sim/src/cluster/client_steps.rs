//! Clients of a cluster: arrivals of operations, replies, and operations that a test submits.

use super::Cluster;
use super::event::{LoadArrival, SimEvent};
use super::inbox::InboxEvent;
use super::world::World;
use crate::check::Checks;
use crate::check::history::Invocation;
use crate::check::replies::{self, Operation, OperationState};
use crate::plan::load::LoadPlan;
use crate::violation::{Checked, Violation, ViolationKind, violation};
use crate::workload::kv::{Command, read_reply, value_in};
use crate::workload::operations;
use bytes::Bytes;
use synod_checker::{Op, Outcome as ClientOutcome};
use synod_consensus::{Protocol, Refusal};
use synod_kv as kv;
use synod_replica::{Driver, Event, Outcome, Response, Token};
use synod_types::NodeId;

impl<P: Protocol> Cluster<P> {
    /// Handles a burst of operations that arrives at a node.
    pub(crate) fn on_client_arrival(&mut self) -> Checked {
        self.workload.schedule_arrival(&mut self.world);
        let is_under_faults = self.faults.is_active;
        let Some(mut burst) = self.workload.draw_burst(&self.world, is_under_faults) else {
            return Ok(());
        };
        for _ in 0..burst.size {
            let history = &mut self.checks.history;
            let event = self.workload.draw_operation(&self.world, history, &mut burst);
            self.submit(burst.node, event);
        }
        self.settle(burst.node)
    }

    /// Passes a request to a running node: at once, or when it is no longer paused.
    pub(crate) fn submit(&mut self, node: usize, event: Event) {
        if self.world.plan.capacity.is_some() {
            self.world.enqueue(node, InboxEvent::Call(event));
            return;
        }
        let this = &mut self.world.nodes[node];
        let boot = this.boot;
        if let Some(waiting) = this.paused() {
            waiting.push(SimEvent::ClientRequest { node, boot, event });
        } else if let Some(running) = this.running.as_mut() {
            let local = this.clock.read(self.world.now);
            running.replica.handle(local, event);
        }
    }

    /// Passes a deferred request to its node.
    pub(crate) fn on_client_request(&mut self, node: usize, boot: u64, event: Event) -> Checked {
        if self.world.nodes[node].boot != boot {
            return Ok(());
        }
        self.submit(node, event);
        self.settle(node)
    }

    /// Handles an operation of a load run.
    pub(crate) fn on_load_arrival(&mut self, arrival: LoadArrival) -> Checked {
        let Some(plan) = self.world.plan.load.clone() else { return Ok(()) };
        match arrival {
            LoadArrival::Write if !self.workload.load.is_over => {
                self.submit_load_write(&plan);
                self.world.queue.push(
                    self.world.now + plan.write_interval(),
                    SimEvent::LoadArrival(LoadArrival::Write),
                );
            }
            LoadArrival::Read { node } if self.world.now < self.workload.load.reads_until => {
                self.world.read_load(node, plan.read_bytes);
            }
            _ => {}
        }
        Ok(())
    }

    fn submit_load_write(&mut self, plan: &LoadPlan) {
        if let Some((node, event)) = self.workload.begin_load_write(&self.world, plan) {
            self.submit(node, event);
        }
    }

    /// Starts the sustained load.
    pub(crate) fn begin_load(&mut self) {
        self.workload.load.since = Some(self.world.now);
        self.world.queue.push(self.world.now, SimEvent::LoadArrival(LoadArrival::Write));
    }

    /// Submits writes of this many bytes at once.
    pub(crate) fn submit_load_burst(&mut self, plan: &LoadPlan, bytes: u64) {
        for _ in 0..bytes.div_ceil(plan.value) {
            self.submit_load_write(plan);
        }
    }

    /// Checks a node's reply and passes it to the client.
    pub(crate) fn on_reply(&mut self, node: usize, answer: &Response) -> Checked {
        let id = answer.token.0;
        let Some(operation) = self.workload.clients.get(id).cloned() else { return Ok(()) };
        replies::check_first(id, &operation, self.world.nodes[node].id)?;
        self.world.trace.record_reply(operation.node, id, &answer.outcome);
        let Checks { oracle, history, history_only, .. } = &mut self.checks;
        let state = match &answer.outcome {
            Outcome::Done(slot, reply) => {
                if !*history_only {
                    replies::check_done(id, &operation, *slot, reply, oracle)?;
                }
                self.complete(id, &operation, |op| {
                    let (replied_id, reply) = read_reply(reply)?;
                    operations::outcome(op, reply).filter(|_| replied_id == id)
                })?;
                OperationState::Done(*slot)
            }
            Outcome::Readable => {
                let Some(running) = self.world.nodes[node].running.as_ref() else { return Ok(()) };
                let applied = running.applier.applied();
                if !*history_only {
                    replies::check_read(&operation, applied)?;
                }
                let query =
                    history.op(id).map(|op| running.applier.query(&operations::query(op).encode()));
                self.complete(id, &operation, |op| {
                    operations::outcome(op, kv::Reply::decode(&query?.ok()?).ok()?)
                })?;
                OperationState::Done(applied)
            }
            Outcome::Refused(why) => {
                if !*history_only {
                    replies::check_rejected(id, &operation, oracle)?;
                }
                history.rejected(self.world.now, id);
                OperationState::Rejected { busy: *why == Refusal::Busy }
            }
            Outcome::Unknown => {
                history.abandoned(self.world.now, id);
                OperationState::Unknown
            }
        };
        self.workload.load.ended(self.world.now, id, state);
        self.workload.clients.finish(id, state);
        Ok(())
    }

    /// Records the outcome of a client's operation.
    fn complete(
        &mut self,
        id: u64,
        operation: &Operation,
        read: impl FnOnce(&Op) -> Option<ClientOutcome>,
    ) -> Checked {
        let Some(op) = self.checks.history.op(id) else { return Ok(()) };
        let Some(outcome) = read(op) else {
            let text = format!("the reply to operation {id} does not match {op}");
            return Err(violation(ViolationKind::FalseReply, [operation.node], text));
        };
        self.workload.clients.expected.observe(op, &outcome);
        self.checks.history.done(self.world.now, id, outcome);
        Ok(())
    }

    /// Submits a write for a test: `value` for the key `key`. Returns the operation's number for
    /// [`is_done`](Self::is_done).
    ///
    /// # Errors
    /// The first violation.
    pub fn put(&mut self, node: NodeId, key: u8, value: &[u8]) -> Result<u64, Violation> {
        let index = World::<P>::index(node);
        let id = self.workload.clients.begin(self.world.now, index);
        if !self.world.nodes[index].is_up() {
            self.workload.clients.finish(id, OperationState::Rejected { busy: false });
            return Ok(id);
        }
        let deadline = self.world.now + self.world.plan.clients.timeout.end;
        let op = Op::put(vec![key], value);
        let invocation = Invocation { op, is_read: false, retries: false };
        self.checks.history.invoke(self.world.now, id, node, invocation);
        let command = Command::put(id, key, value.to_vec()).encode();
        let event = Event::Request { token: Token(id), command, deadline };
        self.handle_event(index, event).map_err(|found| self.with_time(*found))?;
        Ok(id)
    }

    /// Submits a linearizable read for a test. It is done when the node's applied state is recent
    /// enough; [`value`](Self::value) then returns it.
    ///
    /// # Errors
    /// The first violation.
    pub fn read(&mut self, node: NodeId) -> Result<u64, Violation> {
        let index = World::<P>::index(node);
        let id = self.workload.clients.begin(self.world.now, index);
        if !self.world.nodes[index].is_up() {
            self.workload.clients.finish(id, OperationState::Rejected { busy: false });
            return Ok(id);
        }
        let deadline = self.world.now + self.world.plan.clients.timeout.end;
        let event = Event::Read { token: Token(id), deadline };
        self.handle_event(index, event).map_err(|found| self.with_time(*found))?;
        Ok(id)
    }

    /// Returns whether an operation was acknowledged.
    #[must_use]
    pub fn is_done(&self, operation: u64) -> bool {
        let operation = self.workload.clients.get(operation);
        operation.is_some_and(|it| matches!(it.state, OperationState::Done(_)))
    }

    /// Returns the value that a node's applied state holds for a key; `None` while the node is
    /// dead.
    #[must_use]
    pub fn value(&self, node: NodeId, key: u8) -> Option<Bytes> {
        let running = self.world.nodes[World::<P>::index(node)].running.as_ref()?;
        value_in(|query| running.applier.query(query).ok(), key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::violation::{Violation, ViolationKind};
    use std::time::Duration;
    use synod_raft::{Config, Raft};
    use synod_replica::{Outcome, Response};

    const PHASE: Duration = Duration::from_secs(5);

    /// A deposed leader in a minority partition serves a read at once from its state, without confirming
    /// its leadership.
    fn read_without_leadership_check(history_only: bool) -> Result<(), Violation> {
        let config = |id, members: &synod_types::Membership| {
            Config::new(id, members.clone()).expect("the nodes are members")
        };
        let mut cluster = Cluster::<Raft>::new(Plan::healthy(3), 5, config);
        cluster.checks.history_only = history_only;
        cluster.run_for(PHASE)?;
        let deposed = cluster.leader().expect("no leader elected");
        let others: Vec<_> = cluster.members().all().filter(|node| *node != deposed).collect();
        let write = |cluster: &mut Cluster<Raft>, node, value: &[u8]| {
            let id = cluster.put(node, b'a', value)?;
            cluster.run_for(PHASE)?;
            assert!(cluster.is_done(id));
            Ok::<_, Violation>(())
        };
        write(&mut cluster, deposed, b"old")?;
        cluster.partition(&[deposed], &others);
        cluster.run_for(PHASE)?;
        write(&mut cluster, others[0], b"new")?;
        let index = Cluster::<Raft>::index(deposed);
        let id = cluster.workload.clients.begin(cluster.world.now, index);
        let invocation = Invocation { op: Op::get("a"), is_read: true, retries: false };
        cluster.checks.history.invoke(cluster.world.now, id, deposed, invocation);
        let answer = Response { token: Token(id), outcome: Outcome::Readable };
        cluster.on_reply(index, &answer).map_err(|found| cluster.with_time(*found))?;
        cluster.heal();
        cluster.run_for(PHASE)?;
        cluster.finish()
    }

    #[test]
    fn stale_read_is_found_by_slots_and_by_history_alone() {
        assert_eq!(
            read_without_leadership_check(false).unwrap_err().kind,
            ViolationKind::StaleRead
        );
        let found = read_without_leadership_check(true).unwrap_err();
        assert_eq!(found.kind, ViolationKind::NotLinearizable);
        assert!(found.explanation.contains(r#"2: get "a" -> "old""#), "{found}");
    }

    /// Replies to a completed operation with `again`. Returns the violation.
    fn second_reply(again: &Outcome) -> ViolationKind {
        let config = |id, members: &synod_types::Membership| {
            Config::new(id, members.clone()).expect("the nodes are members")
        };
        let mut cluster = Cluster::<Raft>::new(Plan::healthy(3), 5, config);
        cluster.run_for(PHASE).unwrap();
        let leader = cluster.leader().expect("no leader elected");
        let id = cluster.put(leader, b'a', b"once").unwrap();
        cluster.run_for(PHASE).unwrap();
        assert!(cluster.is_done(id));
        let answer = Response { token: Token(id), outcome: again.clone() };
        let found = cluster.on_reply(Cluster::<Raft>::index(leader), &answer);
        found.expect_err("the second reply was not detected").kind
    }

    #[test]
    fn second_reply_to_an_operation_is_found() {
        for again in [Outcome::Unknown, Outcome::Readable] {
            assert_eq!(second_reply(&again), ViolationKind::DuplicateReply, "{again:?}");
        }
    }

    /// The command completes after its deadline, at which the client got `Unknown`.
    #[test]
    fn second_reply_after_the_deadline_is_found() {
        let config = |id, members: &synod_types::Membership| {
            Config::new(id, members.clone()).expect("the nodes are members")
        };
        let mut cluster = Cluster::<Raft>::new(Plan::healthy(3), 5, config);
        cluster.run_for(PHASE).unwrap();
        let leader = cluster.leader().expect("no leader elected");
        let others: Vec<_> = cluster.members().all().filter(|node| *node != leader).collect();
        cluster.partition(&[leader], &others);
        let id = cluster.put(leader, b'a', b"late").unwrap();
        cluster.run_for(PHASE).unwrap();
        let operation = cluster.workload.clients.get(id).expect("the operation was submitted");
        assert_eq!(operation.state, OperationState::Unknown);
        let answer = Response { token: Token(id), outcome: Outcome::Unknown };
        let found = cluster.on_reply(Cluster::<Raft>::index(leader), &answer).unwrap_err();
        assert_eq!(found.kind, ViolationKind::DuplicateReply);
    }
}
