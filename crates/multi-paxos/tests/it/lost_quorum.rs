//! Two of three nodes lose their disks: no schedule lets a node mix slots of two histories.

use crate::cluster::*;
use std::collections::{BTreeMap, BTreeSet};
use synod_multi_paxos::consensus::{FatalError, HistoryDigest, Input, ProtocolEvent, Saved, Write};
use synod_multi_paxos::types::{Ballot, Instant, Membership, NodeId, Slot, Value, Values};
use synod_multi_paxos::{
    Accept, Commit, Config, ElectionState, HardState, Heartbeat, HeartbeatReply, Learn, Learned,
    Limits, Message, MultiPaxos, Prepare, Promise, Report, Timer, View,
};

/// Number of slots that the survivor, n1, has applied. The second holds a no-op, which may be in any history.
const OLD: u64 = 6;

/// Returns the survivor's disk, with applied slots and accepted ones after them. A ballot that a wiped node
/// uses again is not detected in undecided slots, so these have a ballot of their own.
fn old(applied: u64, accepted: u64) -> Saved<MultiPaxos> {
    let ballot = ballot(if accepted == 0 { 1 } else { 1000 }, 2);
    let mut saved = Saved::default();
    saved.apply(&Write::HardState(HardState { promised: ballot }));
    for slot in 1..=applied + accepted {
        let mut run = run(slot, ballot, &[&format!("old {slot}")]);
        if slot == 2 {
            run.values = Values::noop();
        }
        saved.apply(&Write::Put(run));
    }
    saved.applied = Slot(applied);
    saved
}

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

type History = BTreeMap<Slot, Value>;

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Command(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

/// Cluster with messages in flight in any order, and nodes that stop at a fatal error.
struct Run {
    nodes: BTreeMap<NodeId, Node>,
    flying: Vec<(NodeId, NodeId, Message)>,
    /// Values of the applied slots, before and after the restart.
    histories: BTreeMap<NodeId, History>,
    /// Commands accepted by a node before it learnt a chosen slot that contradicts the survivor: phase 1 finds
    /// them like any undecided values, and they are proposed after its slots.
    undecided: BTreeSet<String>,
    cut: BTreeSet<NodeId>,
    now: Instant,
    random: Random,
    tickets: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        // Some messages carry one value, and some logs are sent in parts.
        let limits = match random.below(2) {
            0 => Limits { accept_bytes: 1, chunk_bytes: 10, ..Limits::default() },
            _ => Limits::default(),
        };
        let config = |id| Config::new(id, members(3)).unwrap().with_limits(limits.clone()).unwrap();
        let saved = old(OLD, random.below(4) as u64);
        let slots = (1..=OLD).map(Slot);
        let history = slots.map(|slot| (slot, saved.log.get(slot).unwrap().1.to_value()));
        let histories = BTreeMap::from([(N1, history.collect())]);
        let nodes = [(N1, saved), (N2, Saved::default()), (N3, Saved::default())];
        let nodes = nodes.map(|(id, saved)| (id, start_node(config(id), saved)));
        let mut run = Self {
            nodes: nodes.into_iter().collect(),
            flying: Vec::new(),
            histories,
            undecided: BTreeSet::new(),
            cut: BTreeSet::from([N1]),
            now: Instant(1_000_000_000),
            random,
            tickets: 0,
        };
        for id in [N1, N2, N3] {
            run.collect(id);
        }
        run
    }

    fn is_stopped(&self, id: NodeId) -> bool {
        self.nodes[&id].outputs.fatal.is_some()
    }

    fn contradicts_survivor(&self, id: NodeId) -> bool {
        let survivor = &self.histories[&N1];
        let differs = |(slot, value)| survivor.get(slot).is_some_and(|mine| mine != value);
        self.histories[&id].iter().any(differs)
    }

    fn step(&mut self, id: NodeId, input: Input<MultiPaxos>) {
        let now = self.now;
        self.nodes.get_mut(&id).unwrap().step(now, input);
        self.collect(id);
    }

    /// Collects a node's sent messages and chosen values.
    fn collect(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let chosen: Vec<_> = node.outputs.chosen.drain(..).collect();
        let sent: Vec<_> = node.outputs.sent.drain(..).collect();
        let history = self.histories.entry(id).or_default();
        let mut learns_old = false;
        for run in chosen {
            let slots = (run.first.0..).map(Slot);
            let values: Vec<_> = run.values.iter().map(|value| value.to_value()).collect();
            let is_old = |value: &Value| text(value).is_some_and(|it| it.starts_with("old"));
            learns_old |= values.iter().any(is_old);
            history.extend(slots.zip(values));
        }
        let brings_them =
            |message: &Message| matches!(message, Message::Promise(_) | Message::Prepare(_));
        let brings = sent.iter().any(|(to, message)| *to == N1 && brings_them(message));
        if id != N1 && (learns_old || (brings && !self.contradicts_survivor(id))) {
            let held = self.nodes[&id].disk.log.runs().flat_map(|run| run.values.iter());
            self.undecided.extend(held.filter_map(|value| text(&value.to_value())));
        }
        self.flying.extend(sent.into_iter().map(|(to, message)| (id, to, message)));
        self.look();
    }

    /// Checks that two histories which share a command share all slots before it. Commands of the survivor
    /// do not count: they may be chosen after its own slots, with the vote of a node that has learnt none.
    fn look(&self) {
        for one in self.histories.values() {
            for other in self.histories.values() {
                let shared = |(slot, value): &(&Slot, &Value)| {
                    let bound = |it: String| !it.starts_with("n1") && !self.undecided.contains(&it);
                    text(value).is_some_and(bound) && other.get(slot) == Some(*value)
                };
                let Some((last, _)) = one.iter().rfind(shared) else { continue };
                let same = one.range(..=*last).eq(other.range(..=*last));
                assert!(same, "a mixture: {one:?} and {other:?}");
            }
        }
    }

    fn propose(&mut self, id: NodeId) {
        self.tickets += 1;
        let (now, ticket) = (self.now, self.tickets);
        self.nodes.get_mut(&id).unwrap().propose(now, ticket, &format!("n{} {ticket}", id.0));
        self.collect(id);
    }

    fn fire(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let timers: Vec<_> = node.timers.keys().copied().collect();
        let Some(timer) = timers.get(self.random.below(timers.len().max(1))).copied() else {
            return;
        };
        node.timers.remove(&timer);
        self.step(id, Input::Timeout(timer));
    }

    fn deliver(&mut self, is_kept: bool) {
        if self.flying.is_empty() {
            return;
        }
        let index = self.random.below(self.flying.len());
        let (from, to, message) = match is_kept {
            true => self.flying[index].clone(),
            false => self.flying.swap_remove(index),
        };
        if !self.cut.contains(&from) && !self.cut.contains(&to) {
            self.step(to, Input::Message { from, message });
        }
    }

    /// Applies a random event.
    fn act(&mut self) {
        let id = NodeId(1 + self.random.below(3) as u64);
        self.now = Instant(self.now.0 + 1_000_000 * self.random.below(20) as u64);
        match self.random.below(40) {
            0..4 => self.propose(id),
            4..7 => self.fire(id),
            7 => self.deliver(true),
            _ => self.deliver(false),
        }
    }

    /// Makes every node that still runs send its requests and receive the replies.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.now = Instant(self.now.0 + 400_000_000);
            for id in [N1, N2, N3] {
                self.fire(id);
                while !self.flying.is_empty() {
                    self.deliver(false);
                }
            }
        }
    }
}

#[test]
fn no_schedule_mixes_the_histories_of_a_survivor_and_two_wiped_nodes() {
    let (mut survivor_stopped, mut wiped_went_on, mut survivor_went_on) = (0, 0, 0);
    let (mut wiped_stopped, mut undecided) = (0, 0);
    // The environment variable `SCHEDULES` overrides the number.
    let number = std::env::var("SCHEDULES").map_or(600, |it| it.parse().unwrap());
    for seed in 0..number {
        let mut run = Run::new(seed);
        for _ in 0..run.random.below(400) {
            run.act();
        }
        // The survivor is connected to both of them, or to one of them first.
        run.cut = [BTreeSet::new(), BTreeSet::from([N2]), BTreeSet::from([N3])]
            [run.random.below(3)]
        .clone();
        for _ in 0..400 {
            run.act();
        }
        run.cut.clear();
        for _ in 0..100 {
            run.act();
        }
        run.settle();
        let stopped = [N1, N2, N3].map(|id| run.is_stopped(id));
        survivor_stopped += u32::from(stopped[0]);
        survivor_went_on += u32::from(!stopped[0] && run.histories[&N1].len() > OLD as usize);
        wiped_stopped += u32::from(stopped[1] || stopped[2]);
        wiped_went_on += u32::from(!stopped[1] && !stopped[2]);
        undecided += u32::from(!run.undecided.is_empty());
        // The nodes that still run have one history and make a quorum.
        let running = run.histories.iter().filter(|(id, _)| !run.is_stopped(**id));
        let running: Vec<_> = running.map(|(_, history)| history).collect();
        assert!(running.len() >= 2, "seed {seed}: {stopped:?}");
        for pair in running.windows(2) {
            let common = Slot(pair[0].len().min(pair[1].len()) as u64);
            let same = pair[0].range(..=common).eq(pair[1].range(..=common));
            assert!(same, "seed {seed}: two histories go on");
        }
    }
    println!(
        "of {number}: survivor stopped {survivor_stopped}, went on {survivor_went_on}; a wiped node \
         stopped {wiped_stopped}, none {wiped_went_on}; undecided commands {undecided}"
    );
    assert!(survivor_stopped > 200, "both wiped nodes have another history");
    assert!(survivor_went_on > 20, "nodes that know nothing learn");
    assert!(wiped_went_on > 200, "they are a majority");
    assert!(u64::from(undecided) < number / 4, "most schedules are judged whole");
}

/// Returns a survivor that has applied six slots.
fn survivor() -> Node {
    start_node(Config::new(N1, members(3)).unwrap(), old(6, 0))
}

/// Returns a node with another history through a slot, under the ballots of n2.
fn other(id: NodeId, through: u64) -> Node {
    let mut saved = Saved::<MultiPaxos>::default();
    saved.apply(&Write::HardState(HardState { promised: ballot(9, 2) }));
    for slot in 1..=through {
        saved.apply(&Write::Put(run(slot, ballot(9, 2), &[&format!("new {slot}")])));
    }
    saved.applied = Slot(through);
    start_node(Config::new(id, members(id.0.max(3))).unwrap(), saved)
}

/// Returns the view of a node without chosen slots.
fn idle() -> View {
    let (ballot, leader, state) = (Ballot::ZERO, None, ElectionState::Following);
    let (commit, digest) = (Slot::ZERO, HistoryDigest::NO_COMMAND);
    View {
        ballot,
        leader,
        state,
        has_quorum: false,
        has_live_leader: false,
        commit,
        digest,
        priority: 0,
    }
}

/// Returns the view of a node that follows n2.
fn view(node: &Node) -> Message {
    let commit = node.status().commit;
    let digest = HistoryDigest::of(&node.disk.log, commit);
    let state = if node.id() == N2 { ElectionState::Leading } else { ElectionState::Following };
    let ballot = ballot(9, 2);
    let leader = Some(ballot);
    let (has_quorum, has_live_leader) = (true, true);
    let view =
        View { ballot, leader, state, has_quorum, has_live_leader, commit, digest, priority: 0 };
    Message::Heartbeat(Heartbeat { round: 1, view })
}

fn to(node: NodeId, answers: Vec<(NodeId, Message)>) -> Vec<Message> {
    answers.into_iter().filter(|(to, _)| *to == node).map(|(_, message)| message).collect()
}

/// One contradiction does not stop a node: two of three may still share its history.
fn assert_ignored_then_stopped(mut node: Node, by: NodeId) {
    assert_eq!(node.outputs.fatal, None);
    let refused = |note: &_| matches!(note, ProtocolEvent::Ignored { from, .. } if *from == by);
    assert!(node.outputs.notes.iter().any(refused), "{:?}", node.outputs.notes);
    assert_eq!(node.outputs.chosen, [], "nothing of the other history");
    let third = NodeId(5 - by.0);
    node.receive(Instant::ZERO, third, view(&other(third, 3)));
    assert_eq!(node.outputs.fatal, Some(FatalError::Contradicted { slot: Slot(3), by: third }));
}

#[test]
fn lagging_survivor_pulls_no_values_of_another_history() {
    let (mut survivor, mut leader) = (survivor(), other(N2, 12));
    assert_eq!(to(N2, survivor.receive(Instant::ZERO, N2, view(&leader))).len(), 1, "one reply");
    let sent = to(N2, survivor.receive(Instant::ZERO, N2, view(&leader)));
    let request = sent.into_iter().find(|message| matches!(message, Message::Learn(_)));
    for answer in to(N1, leader.receive(Instant::ZERO, N1, request.expect("it lags"))) {
        survivor.receive(Instant::ZERO, N2, answer);
    }
    assert_ignored_then_stopped(survivor, N2);
}

#[test]
fn survivor_appends_no_slot_of_another_history_of_the_same_length() {
    let (mut survivor, leader) = (survivor(), other(N2, 6));
    let digest = Some(HistoryDigest::of(&leader.disk.log, Slot(6)));
    let run = run(7, ballot(9, 2), &["new 7"]);
    let answers = survivor.receive(
        Instant::ZERO,
        N2,
        Message::Accept(Accept { run, commit: Slot(6), digest }),
    );
    assert_eq!((answers, survivor.status().last), (Vec::new(), Slot(6)));
    let commit = Message::Commit(Commit { ballot: ballot(9, 2), commit: Slot(7) });
    assert_eq!(survivor.receive(Instant::ZERO, N2, commit), [], "its messages do not count");
    assert_ignored_then_stopped(survivor, N2);
}

#[test]
fn slots_of_a_leader_whose_history_was_not_compared_are_requested() {
    let (mut survivor, leader) = (survivor(), other(N2, 8));
    let digest = Some(HistoryDigest::of(&leader.disk.log, Slot(8)));
    // It accepts later slots, which does not make them chosen.
    let accept = |slot, digest| {
        let run = run(slot, ballot(9, 2), &[&format!("new {slot}")]);
        Message::Accept(Accept { run, commit: Slot(8), digest })
    };
    assert_eq!(survivor.receive(Instant::ZERO, N2, accept(9, digest)).len(), 1);
    for slot in [7, 8] {
        survivor.receive(Instant::ZERO, N2, accept(slot, None));
    }
    assert_eq!(survivor.status().commit, Slot(6), "slots 7 and 8 are accepted at 9.2");
    survivor.receive(Instant::ZERO, N2, view(&leader));
    let asked = survivor.receive(Instant::ZERO, N2, view(&leader));
    let asks =
        |(to, message): &(NodeId, Message)| *to == N2 && matches!(message, Message::Learn(_));
    assert!(asked.iter().any(asks), "{asked:?}");
}

#[test]
fn survivor_finds_no_values_of_another_history_in_phase_1() {
    for theirs in [3, 6, 12] {
        let (mut survivor, mut wiped) = (survivor(), other(N2, theirs));
        let own = run(theirs + 1, ballot(9, 2), &["not chosen"]);
        wiped.receive(
            Instant::ZERO,
            N2,
            Message::Accept(Accept { run: own, commit: Slot(0), digest: None }),
        );
        let prepare =
            Message::Prepare(Prepare { ballot: ballot(10, 1), from: Slot(7), held: Vec::new() });
        let later = Instant(9_000_000_000);
        let [promise @ Message::Promise(_)] = &to(N1, wiped.receive(later, N1, prepare))[..] else {
            panic!("it promises");
        };
        // It has pre-campaigned, and n3 replies with an empty history.
        survivor.step(Instant(0), Input::Timeout(Timer::Election));
        survivor.receive(Instant::ZERO, N2, promise.clone());
        assert_ignored_then_stopped(survivor, N2);
    }
}

/// The peer was wiped afterwards: it receives all slots from the first on.
#[test]
fn wiped_peer_is_no_contradiction() {
    let mut survivor = survivor();
    survivor.receive(Instant::ZERO, N2, view(&other(N2, 3)));
    let request = Message::Learn(Learn { from: Slot(1), through: Slot(9), held: Vec::new() });
    assert_eq!(survivor.receive(Instant::ZERO, N2, request.clone()), [], "it contradicts");
    let mut wiped = new_node(2, 3);
    let hello = wiped.outputs.sent.drain(..).find(|(to, _)| *to == N1).unwrap().1;
    assert_eq!(survivor.receive(Instant::ZERO, N2, hello).len(), 1);
    let answers = to(N2, survivor.receive(Instant::ZERO, N2, request));
    for answer in answers {
        wiped.receive(Instant::ZERO, N1, answer);
    }
    assert_eq!(wiped.status().commit, Slot(6));
}

/// The node with more slots compares, and sends the other one the values that it contradicts.
#[test]
fn peer_with_fewer_slots_is_sent_a_value_that_it_contradicts() {
    let (mut survivor, mut wiped) = (survivor(), other(N2, 3));
    let shown = to(N2, survivor.receive(Instant::ZERO, N2, view(&wiped)));
    let [Message::Learned(Learned { run, .. })] = &shown[..] else { panic!("{shown:?}") };
    assert!(run.first == Slot(3) && run.values.byte_len() <= 64, "{run:?}");
    assert_eq!(
        to(N1, wiped.receive(Instant::ZERO, N1, shown[0].clone())),
        [],
        "an answer is not answered"
    );
    let refused = |note: &_| matches!(note, ProtocolEvent::Ignored { from, .. } if *from == N1);
    assert!(wiped.outputs.notes.iter().any(refused), "{:?}", wiped.outputs.notes);
}

/// The leader has failed. The slots before its first proposal are chosen, and no quorum holds them any more.
#[test]
fn chosen_slots_that_no_quorum_holds_are_not_filled_with_no_ops() {
    for (accepted, leader_commit, expected) in
        [(7, 6, false), (7, 0, true), (1, 1, true), (1, 2, false)]
    {
        for is_own in [true, false] {
            let mut candidate = new_node(1, 3);
            let runs = vec![run(accepted, ballot(1, 3), &["x"])];
            let through = Slot(accepted);
            let mut report = Report {
                runs,
                through,
                leader_commit: Slot(leader_commit),
                ..Report::empty(Slot(1))
            };
            let leads = Message::Commit(Commit { ballot: ballot(1, 3), commit: Slot(0) });
            candidate.receive(Instant::ZERO, N3, leads);
            if is_own {
                let accept = run(accepted, ballot(1, 3), &["x"]);
                let digest = Some(HistoryDigest::UNKNOWN);
                candidate.receive(
                    Instant::ZERO,
                    N3,
                    Message::Accept(Accept { run: accept, commit: Slot(leader_commit), digest }),
                );
                report = Report::empty(candidate.status().commit.next());
            }
            candidate.step(Instant(9_000_000_000), Input::Timeout(Timer::Election));
            let reply = Message::HeartbeatReply(HeartbeatReply { round: 2, view: idle() });
            let asked = candidate.receive(Instant(9_000_000_000), N2, reply);
            let ballot = candidate.promised();
            assert!(to(N2, asked).iter().any(|it| matches!(it, Message::Prepare(_))));
            let sent = candidate.receive(
                Instant(9_000_000_000),
                N2,
                Message::Promise(Promise { ballot, report }),
            );
            let proposes = to(N2, sent).iter().any(|it| matches!(it, Message::Accept(_)));
            assert_eq!(proposes, expected, "slot {accepted} of {leader_commit}, own {is_own}");
        }
    }
}

/// A learner has no vote, and stops when no quorum shares its history.
#[test]
fn node_stops_if_the_peers_without_contradictions_are_no_quorum() {
    let cases: [(u64, &[u64], bool); 6] = [
        (1, &[2, 3], false),
        (1, &[2, 3, 4], true),
        (1, &[2, 2, 2], false),
        (1, &[2, 3, 6], false),
        (6, &[2, 3], false),
        (6, &[2, 3, 4], true),
    ];
    for (me, peers, stops) in cases {
        let members = Membership::new((1..=5).map(NodeId), [NodeId(6), NodeId(7)]).unwrap();
        let mut node = start_node(Config::new(NodeId(me), members).unwrap(), old(6, 0));
        for peer in peers.iter().filter(|peer| **peer != me) {
            node.receive(Instant::ZERO, NodeId(*peer), view(&other(NodeId(*peer), 3)));
        }
        assert_eq!(node.outputs.fatal.is_some(), stops, "n{me} with {peers:?}");
    }
}

/// A single wiped node learns the others' history and stops none of them.
#[test]
fn one_wiped_node_stops_no_other() {
    let mut run = Run::new(1);
    let nodes = [(N1, old(6, 0)), (N2, old(5, 1)), (N3, Saved::default())];
    let config = |id| Config::new(id, members(3)).unwrap();
    run.nodes = nodes.map(|(id, saved)| (id, start_node(config(id), saved))).into();
    run.histories
        .insert(N2, run.histories[&N1].range(..=Slot(5)).map(|it| (*it.0, it.1.clone())).collect());
    run.cut.clear();
    for _ in 0..400 {
        run.act();
    }
    run.settle();
    assert!([N1, N2, N3].iter().all(|id| !run.is_stopped(*id)));
    let held = |slot| run.histories[&N3].get(&Slot(slot)).and_then(text);
    let expected = ["old 1", "", "old 3", "old 4", "old 5", "old 6"];
    let expected = expected.map(|it| (!it.is_empty()).then(|| it.to_owned()));
    assert_eq!([1, 2, 3, 4, 5, 6].map(held), expected);
}
