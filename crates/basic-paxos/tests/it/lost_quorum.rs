//! Two of three nodes lose their disks: no schedule makes a node mix slots of two histories.

use crate::cluster::*;
use std::collections::{BTreeMap, BTreeSet};
use synod_basic_paxos::{Many, MessageBatch, Timer};
use synod_consensus::{Input, Saved};
use synod_types::{Instant, NodeId, Slot, Ticket, Value};

/// Slots that the survivor, n1, has applied.
const OLD: u64 = 6;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % bound as u64) as usize
    }
}

/// Cluster with whole batches in flight, in any order, and nodes that stop at a contradiction.
struct Run {
    nodes: BTreeMap<NodeId, Node<Many>>,
    batches: Vec<(NodeId, NodeId, MessageBatch)>,
    /// Values of the applied slots, before and after the restart.
    histories: BTreeMap<NodeId, BTreeMap<Slot, Value>>,
    cut: BTreeSet<NodeId>,
    now: Instant,
    random: Random,
    tickets: u64,
}

/// Returns the survivor's value of a slot: commands, and a no-op, which may be in any history.
fn old(slot: u64) -> String {
    if slot == 2 { "noop".into() } else { format!("old {slot}") }
}

impl Run {
    fn new(seed: u64) -> Self {
        let slots: Vec<_> = (1..=OLD).map(|slot| (slot, old(slot))).collect();
        let votes: Vec<_> = slots.iter().map(|(slot, text)| (*slot, b(1, 2), &**text)).collect();
        let applied = Saved { applied: Slot(OLD), ..disk(OLD, &[], &votes) };
        let mut applied_log = applied.log.clone();
        applied_log.put(synod_consensus::Run {
            first: Slot(2),
            stamp: b(1, 2),
            values: synod_types::Values::noop(),
        });
        let survivor = lone_node(config(N1, 3), Saved { log: applied_log.clone(), ..applied });
        let wiped = [N2, N3].map(|id| (id, lone_node(config(id, 3), Saved::default())));
        let held = (1..=OLD).map(Slot);
        let held = held.map(|slot| (slot, applied_log.get(slot).unwrap().1.to_value()));
        let mut run = Self {
            nodes: wiped.into_iter().chain([(N1, survivor)]).collect(),
            batches: Vec::new(),
            histories: BTreeMap::from([(N1, held.collect())]),
            cut: BTreeSet::from([N1]),
            now: Instant(1_000_000_000),
            random: Random(seed),
            tickets: 0,
        };
        for id in [N1, N2, N3] {
            run.step(id, Input::Start);
        }
        run
    }

    fn step(&mut self, id: NodeId, input: Input<synod_basic_paxos::BasicPaxos>) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.step(self.now, input);
        let sent = std::mem::take(&mut node.outputs.sent);
        self.batches.extend(sent.into_iter().map(|(to, batch)| (id, to, batch)));
        // A node that stops applies nothing of its last step.
        if node.outputs.fatal.is_none() {
            let history = self.histories.entry(id).or_default();
            history.extend(node.chosen());
            self.check_histories();
        }
    }

    fn has_stopped(&self, id: NodeId) -> bool {
        self.nodes[&id].outputs.fatal.is_some()
    }

    /// Checks that two histories which share a command share all slots before it. Commands of the survivor
    /// do not count: they may be chosen after its own slots, with the vote of a node that has learnt none.
    fn check_histories(&self) {
        for one in self.histories.values() {
            for other in self.histories.values() {
                let shared = |(slot, value): &(&Slot, &Value)| {
                    matches!(value, Value::Command(_))
                        && !text(value).starts_with("n1")
                        && other.get(slot) == Some(*value)
                };
                let Some((last, _)) = one.iter().rfind(shared) else { continue };
                let same = one.range(..=*last).eq(other.range(..=*last));
                assert!(same, "mixed histories: {one:?} and {other:?}");
            }
        }
    }

    fn propose(&mut self, id: NodeId) {
        self.tickets += 1;
        let command = format!("{id} {}", self.tickets).into_bytes().into();
        self.step(id, Input::Propose { ticket: Ticket(self.tickets), command });
    }

    fn fire(&mut self, id: NodeId) {
        if self.has_stopped(id) {
            return;
        }
        let timers: Vec<_> = self.nodes[&id].timers.keys().copied().collect();
        let timer: Timer = timers[self.random.below(timers.len())];
        self.nodes.get_mut(&id).unwrap().timers.remove(&timer);
        self.step(id, Input::Timeout(timer));
    }

    fn deliver(&mut self, is_kept: bool) {
        if self.batches.is_empty() {
            return;
        }
        let index = self.random.below(self.batches.len());
        let (from, to, message) = match is_kept {
            true => self.batches[index].clone(),
            false => self.batches.swap_remove(index),
        };
        if !self.cut.contains(&from) && !self.cut.contains(&to) {
            self.step(to, Input::Message { from, message });
        }
    }

    /// Applies a random event.
    fn act(&mut self) {
        let id = NodeId(1 + self.random.below(3) as u64);
        self.now = Instant(self.now.0 + 1_000_000 * self.random.below(30) as u64);
        match self.random.below(20) {
            0 => self.propose(id),
            1..3 => self.fire(id),
            3 => self.deliver(true),
            _ => self.deliver(false),
        }
    }
}

#[test]
fn no_schedule_mixes_the_histories_of_a_survivor_and_two_wiped_nodes() {
    let (mut survivors_stopped, mut wiped_continued, mut survivor_continued) = (0, 0, 0);
    for seed in 0..600 {
        let mut run = Run::new(seed);
        for _ in 0..run.random.below(200) {
            run.act();
        }
        run.cut.clear();
        let had = |run: &Run, id: NodeId| run.histories.get(&id).map_or(0, BTreeMap::len);
        let before = [N2, N3].map(|id| had(&run, id));
        for _ in 0..400 {
            run.act();
        }
        // Every node that still runs sends its requests and receives the replies.
        for _ in 0..60 {
            run.now = Instant(run.now.0 + 1_000_000_000);
            for id in [N1, N2, N3] {
                run.fire(id);
            }
            while !run.batches.is_empty() {
                run.deliver(false);
            }
        }
        let survives = !run.has_stopped(N1);
        survivors_stopped += u32::from(!survives);
        survivor_continued += u32::from(survives && before == [0, 0]);
        wiped_continued += u32::from(!run.has_stopped(N2) && !run.has_stopped(N3));
        // The nodes that still run have one history.
        let running = run.histories.iter().filter(|(id, _)| !run.has_stopped(**id));
        let running: Vec<_> = running.map(|(_, history)| history).collect();
        for pair in running.windows(2) {
            let common = Slot(pair[0].len().min(pair[1].len()) as u64);
            let same = pair[0].range(..=common).eq(pair[1].range(..=common));
            assert!(same, "seed {seed}: two histories continue");
        }
    }
    assert!(survivors_stopped > 200, "{survivors_stopped} of 600");
    assert!(wiped_continued > 200, "{wiped_continued} of 600");
    assert!(survivor_continued > 20, "{survivor_continued} of 600: empty nodes learn its history");
}

/// A single wiped node learns the others' history and stops none of them.
#[test]
fn one_wiped_node_stops_no_other() {
    let mut cluster = Cluster::<Many>::new(3);
    for (ticket, command) in ["a", "b", "c"].into_iter().enumerate() {
        cluster.propose(N1, ticket as u64, command);
        cluster.deliver();
    }
    let disks = [N1, N2].map(|id| (config(id, 3), cluster.nodes[&id].disk.clone()));
    let disks = disks.into_iter().chain([(config(N3, 3), Saved::default())]);
    let mut run = Run::new(1);
    run.nodes = disks.map(|(config, disk)| (config.id(), lone_node(config, disk))).collect();
    (run.histories, run.cut) = (BTreeMap::new(), BTreeSet::new());
    for id in [N1, N2, N3] {
        run.step(id, Input::Start);
    }
    run.propose(N3);
    for _ in 0..200 {
        run.act();
    }
    assert!(![N1, N2, N3].iter().any(|id| run.has_stopped(*id)));
    let held = |slot| run.histories[&N3].get(&Slot(slot)).map(text);
    assert_eq!([1, 2, 3].map(held), ["a", "b", "c"].map(|it| Some(it.to_owned())));
}
