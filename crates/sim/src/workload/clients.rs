//! Clients: what they ask for, and what became of it.

use crate::check::answers::{Operation, OperationState};
use crate::cluster::inbox::Incoming;
use crate::cluster::{Cluster, Happening};
use crate::rng::Dice;
use crate::violation::Checked;
use crate::workload::kv::{Command, value_in};
use crate::workload::operations::{self, Heard};
use bytes::Bytes;
use std::collections::BTreeSet;
use synod_checker::Op;
use synod_consensus::Protocol;
use synod_replica::{Event, Token};
use synod_types::{Instant, NodeId, Slot};

/// No more operations than this are under way at once.
const MOST_OPEN: usize = 300;

/// Every operation of a run.
#[derive(Debug)]
pub(crate) struct Clients {
    operations: Vec<Operation>,
    /// No more than this many begin by themselves while faults fire.
    pub(crate) most: u64,
    /// Those under way, by the node that took them.
    open: Vec<BTreeSet<u64>>,
    open_count: usize,
    done: u64,
    /// What was last said of each key.
    pub(crate) heard: Heard,
    /// The highest slot acknowledged to anyone.
    pub(crate) floor: Slot,
    /// When the newest operation that was done had begun.
    pub(crate) newest_begin_done: Instant,
    begun: Vec<Instant>,
    /// From here on every operation must be done.
    pub(crate) must_serve: Option<Instant>,
    /// Whether limits are small enough that a node at work may refuse an operation as busy.
    pub(crate) may_refuse: bool,
    /// An operation that should have been done and was not.
    pub(crate) unserved: Option<u64>,
}

impl Clients {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            operations: Vec::new(),
            most: u64::MAX,
            open: vec![BTreeSet::new(); nodes],
            open_count: 0,
            done: 0,
            heard: Heard::default(),
            floor: Slot::ZERO,
            newest_begin_done: Instant::ZERO,
            begun: Vec::new(),
            must_serve: None,
            may_refuse: false,
            unserved: None,
        }
    }

    /// How many were acknowledged.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// How many are under way.
    pub(crate) fn open(&self) -> usize {
        self.open_count
    }

    /// Whether any is under way.
    pub(crate) fn is_loaded(&self) -> bool {
        self.open_count > 0
    }

    /// How many have begun: the number of the next.
    pub(crate) fn count(&self) -> u64 {
        self.operations.len() as u64
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Operation> {
        self.operations.get(usize::try_from(id).ok()?)
    }

    /// An operation begins at a node; its number.
    pub(crate) fn begin(&mut self, now: Instant, node: usize) -> u64 {
        let id = self.operations.len() as u64;
        let operation = Operation {
            node: NodeId(node as u64 + 1),
            floor: self.floor,
            state: OperationState::Open,
        };
        self.operations.push(operation);
        self.begun.push(now);
        self.open[node].insert(id);
        self.open_count += 1;
        id
    }

    /// An operation ends.
    pub(crate) fn finish(&mut self, id: u64, state: OperationState) {
        let index = usize::try_from(id).expect("known operations");
        let operation = &mut self.operations[index];
        operation.state = state;
        let node = usize::try_from(operation.node.0 - 1).expect("known nodes");
        if !self.open[node].remove(&id) {
            return;
        }
        self.open_count -= 1;
        if let OperationState::Done(slot) = state {
            self.done += 1;
            self.floor = self.floor.max(slot);
            self.newest_begin_done = self.newest_begin_done.max(self.begun[index]);
        } else if self.must_serve.is_some_and(|from| self.begun[index] >= from)
            && !(self.may_refuse && state == OperationState::Refused { busy: true })
        {
            self.unserved.get_or_insert(id);
        }
    }

    /// A node's clients lose their connections: what they were waiting for.
    pub(crate) fn node_died(&mut self, node: usize) -> BTreeSet<u64> {
        let waiting = self.open[node].clone();
        waiting.iter().for_each(|id| self.finish(*id, OperationState::Unknown));
        waiting
    }
}

impl<P: Protocol> Cluster<P> {
    /// When operations come next; those of each arrival have dice of their own.
    pub(crate) fn schedule_clients(&mut self) {
        if let Some(pause) = &self.plan.clients.pause {
            let at = self.now + self.client_dice.duration(pause);
            self.queue.push(at, Happening::Clients);
        }
    }

    /// Some operations come together, to one node.
    pub(crate) fn on_clients(&mut self) -> Checked {
        self.schedule_clients();
        let mut dice = self.client_dice.split();
        let up: Vec<_> =
            self.core.iter().copied().filter(|node| self.nodes[*node].is_up()).collect();
        if up.is_empty() {
            return Ok(());
        }
        let node = *dice.pick(&up);
        let mut burst = dice.within(self.plan.clients.burst.clone());
        let due = self.plan.clients.target * self.now.0 / 1_000_000_000;
        burst += (due.saturating_sub(self.clients.done()) / 4).min(12);
        let room = MOST_OPEN.saturating_sub(self.clients.open()) as u64;
        let most = if self.troubled { self.clients.most } else { u64::MAX };
        let left = most.saturating_sub(self.clients.count());
        for _ in 0..burst.min(room).min(left) {
            let event = self.operation(node, &mut dice);
            self.ask(node, event);
        }
        self.settle(node)
    }

    /// A request reaches a node that is up: at once, or when it is no longer paused.
    pub(crate) fn ask(&mut self, node: usize, event: Event) {
        if self.plan.capacity.is_some() {
            self.enqueue(node, Incoming::Call(event));
            return;
        }
        let this = &mut self.nodes[node];
        let life = this.life;
        if let Some(waiting) = this.paused() {
            waiting.push(Happening::Request { node, life, event });
        } else if let Some(running) = this.running.as_mut() {
            let local = this.clock.read(self.now);
            synod_replica::Driver::handle(&mut running.replica, local, event);
        }
    }

    pub(crate) fn on_request(&mut self, node: usize, life: u64, event: Event) -> Checked {
        if self.nodes[node].life != life {
            return Ok(());
        }
        self.ask(node, event);
        self.settle(node)
    }

    /// An operation of any kind begins, or one that came to nothing is asked for again.
    fn operation(&mut self, node: usize, dice: &mut Dice) -> Event {
        // What an operation says is no matter of when it comes and of which sort it is.
        let mut words = dice.clone().split();
        let local = self.nodes[node].clock.read(self.now);
        let deadline = local + dice.duration(&self.plan.clients.patience);
        let at = self.nodes[node].id;
        let id = self.clients.begin(self.now, node);
        let (sort, keys) = (dice.below(100), self.plan.clients.keys);
        let is_read = sort < 15;
        let key = if is_read { words.below(keys) } else { dice.below(keys) };
        let seen = &mut self.checks.seen;
        let waiting = if words.percent(50) { seen.ask_again((id, at), is_read) } else { None };
        let op = waiting.unwrap_or_else(|| {
            let value = format!("{id}.{}", padding(&mut words, self.plan.clients.padding));
            let op = match sort {
                15..45 => Op::put(operations::key(key), value),
                45..75 => {
                    operations::transaction(&mut words, (key, keys), &value, &self.clients.heard)
                }
                90.. => Op::delete(operations::key(key)),
                _ => operations::read(&mut words, key, keys),
            };
            seen.ask(self.now, (id, at), op.clone(), (is_read, words.percent(50)));
            op
        });
        if is_read {
            return Event::Read { token: Token(id), deadline };
        }
        let command = Command { id, body: operations::command(&op) }.encode();
        Event::Request { token: Token(id), command, deadline }
    }

    /// A caller's own command: `value` for the key `key`. Its number is for
    /// [`is_done`](Self::is_done).
    ///
    /// # Errors
    /// The first violation.
    pub fn put(&mut self, node: NodeId, key: u8, value: &[u8]) -> Result<u64, crate::Violation> {
        let index = Self::index(node);
        let id = self.clients.begin(self.now, index);
        if !self.nodes[index].is_up() {
            self.clients.finish(id, OperationState::Refused { busy: false });
            return Ok(id);
        }
        let deadline = self.now + self.plan.clients.patience.end;
        let op = Op::put(vec![key], value);
        self.checks.seen.ask(self.now, (id, node), op, (false, false));
        let command = Command::put(id, key, value.to_vec()).encode();
        let event = Event::Request { token: Token(id), command, deadline };
        self.drive(index, event).map_err(|found| self.dated(*found))?;
        Ok(id)
    }

    /// A caller's own linearizable read. It is done when the node's applied state is recent
    /// enough; [`value`](Self::value) then shows it.
    ///
    /// # Errors
    /// The first violation.
    pub fn read(&mut self, node: NodeId) -> Result<u64, crate::Violation> {
        let index = Self::index(node);
        let id = self.clients.begin(self.now, index);
        if !self.nodes[index].is_up() {
            self.clients.finish(id, OperationState::Refused { busy: false });
            return Ok(id);
        }
        let deadline = self.now + self.plan.clients.patience.end;
        let event = Event::Read { token: Token(id), deadline };
        self.drive(index, event).map_err(|found| self.dated(*found))?;
        Ok(id)
    }

    /// Whether an operation was acknowledged.
    #[must_use]
    pub fn is_done(&self, operation: u64) -> bool {
        let operation = self.clients.get(operation);
        operation.is_some_and(|it| matches!(it.state, OperationState::Done(_)))
    }

    /// The value that a node's applied state holds for a key; `None` while it is dead.
    #[must_use]
    pub fn value(&self, node: NodeId, key: u8) -> Option<Bytes> {
        let running = self.nodes[Self::index(node)].running.as_ref()?;
        value_in(|query| running.applier.query(query), key)
    }
}

/// What makes a value longer: nothing for every second one, as the limits' other half is for
/// commands of one length.
fn padding(words: &mut Dice, most: u64) -> String {
    let length = if words.percent(50) { words.below(most + 1) } else { 0 };
    "-".repeat(usize::try_from(length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::violation::{Violation, ViolationKind};
    use std::time::Duration;
    use synod_raft::{Config, Raft};
    use synod_replica::{Answer, Outcome};

    const WHILE: Duration = Duration::from_secs(5);

    /// A leader that was cut off and deposed answers a read at once from the state that it has, as
    /// one does that does not ask whether it still leads.
    fn hasty_read(history_only: bool) -> Result<(), Violation> {
        let config = |id, members: &synod_types::Membership| {
            Config::new(id, members.clone()).expect("the nodes are members")
        };
        let mut cluster = Cluster::<Raft>::new(Plan::calm(3), 5, config);
        cluster.checks.history_only = history_only;
        cluster.run_for(WHILE)?;
        let deposed = cluster.leader().expect("somebody leads by now");
        let others: Vec<_> = cluster.members().all().filter(|node| *node != deposed).collect();
        let write = |cluster: &mut Cluster<Raft>, node, value: &[u8]| {
            let id = cluster.put(node, b'a', value)?;
            cluster.run_for(WHILE)?;
            assert!(cluster.is_done(id));
            Ok::<_, Violation>(())
        };
        write(&mut cluster, deposed, b"old")?;
        cluster.partition(&[deposed], &others);
        cluster.run_for(WHILE)?;
        write(&mut cluster, others[0], b"new")?;
        let index = Cluster::<Raft>::index(deposed);
        let id = cluster.clients.begin(cluster.now, index);
        cluster.checks.seen.ask(cluster.now, (id, deposed), Op::get("a"), (true, false));
        let answer = Answer { token: Token(id), outcome: Outcome::Readable };
        cluster.on_answer(index, &answer).map_err(|found| cluster.dated(*found))?;
        cluster.heal();
        cluster.run_for(WHILE)?;
        cluster.finish()
    }

    #[test]
    fn what_clients_saw_tells_of_a_stale_read_without_the_order_of_slots() {
        assert_eq!(hasty_read(false).unwrap_err().kind, ViolationKind::StaleRead);
        let found = hasty_read(true).unwrap_err();
        assert_eq!(found.kind, ViolationKind::NotLinearizable);
        assert!(found.explanation.contains(r#"2: get "a" -> "old""#), "{found}");
    }

    /// A node answers an operation `again` after it did, and finds the client gone or served.
    fn second_answer(again: &Outcome) -> ViolationKind {
        let config = |id, members: &synod_types::Membership| {
            Config::new(id, members.clone()).expect("the nodes are members")
        };
        let mut cluster = Cluster::<Raft>::new(Plan::calm(3), 5, config);
        cluster.run_for(WHILE).unwrap();
        let leader = cluster.leader().expect("a leader");
        let id = cluster.put(leader, b'a', b"once").unwrap();
        cluster.run_for(WHILE).unwrap();
        assert!(cluster.is_done(id));
        let answer = Answer { token: Token(id), outcome: again.clone() };
        let found = cluster.on_answer(Cluster::<Raft>::index(leader), &answer);
        found.expect_err("the second answer goes unnoticed").kind
    }

    #[test]
    fn client_that_is_answered_twice_is_found() {
        for again in [Outcome::Unknown, Outcome::Readable] {
            assert_eq!(second_answer(&again), ViolationKind::AnsweredTwice, "{again:?}");
        }
    }

    /// A command that was answered as unknown when its time ran out is answered again when it is
    /// done after all.
    #[test]
    fn answer_after_the_client_gave_up_is_found() {
        let config = |id, members: &synod_types::Membership| {
            Config::new(id, members.clone()).expect("the nodes are members")
        };
        let mut cluster = Cluster::<Raft>::new(Plan::calm(3), 5, config);
        cluster.run_for(WHILE).unwrap();
        let leader = cluster.leader().expect("a leader");
        let others: Vec<_> = cluster.members().all().filter(|node| *node != leader).collect();
        cluster.partition(&[leader], &others);
        let id = cluster.put(leader, b'a', b"late").unwrap();
        cluster.run_for(WHILE).unwrap();
        let operation = cluster.clients.get(id).expect("it has begun");
        assert_eq!(operation.state, OperationState::Unknown);
        let answer = Answer { token: Token(id), outcome: Outcome::Unknown };
        let found = cluster.on_answer(Cluster::<Raft>::index(leader), &answer).unwrap_err();
        assert_eq!(found.kind, ViolationKind::AnsweredTwice);
    }
}
