//! Register of the example `register`, made of the roles, over a network that loses, duplicates and
//! reorders messages: all results must be linearizable.

#[allow(dead_code)] // The example's `main` and `run` are not used here.
#[path = "../../examples/register.rs"]
mod example;

use crate::cluster::members;
use example::{Change, State};
use synod_basic_paxos::{Acceptor, Proposer, Verdict};
use synod_checker::{History, Op, OpId, Options, Outcome, Verdict as Judgement, check};
use synod_types::{Ballot, NodeId};

const NODES: usize = 3;
const EVENTS: usize = 1500;

/// Planted bug.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// A read completes after phase 1, with a value that may never be chosen.
    ReadsInOnePhase,
    /// A retried change takes effect twice.
    ForgetsOutcomes,
}

#[derive(Clone)]
enum Flight {
    Prepare(Ballot),
    Promise(Ballot, Option<(Ballot, State)>),
    Accept(Ballot, State),
    Accepted(Ballot),
    Nack(Ballot, Ballot),
}

/// Node: an acceptor, a proposer, and its client's pending operation.
struct Node {
    acceptor: Acceptor<State>,
    proposer: Proposer<State>,
    /// Client of the operation; a new one after each restart.
    client: u64,
    number: u64,
    open: Option<(Change, OpId)>,
}

struct Trial {
    flaw: Flaw,
    random: u64,
    nodes: Vec<Node>,
    wire: Vec<(usize, usize, Flight)>,
    history: History,
    done: usize,
}

fn id(index: usize) -> NodeId {
    NodeId(index as u64 + 1)
}

fn proposer(index: usize) -> Proposer<State> {
    Proposer::new(id(index), members(NODES as u64, 0), State::default())
}

impl Trial {
    fn new(seed: u64, flaw: Flaw) -> Self {
        let node = |index| Node {
            acceptor: Acceptor::new(),
            proposer: proposer(index),
            client: index as u64,
            number: 0,
            open: None,
        };
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let nodes = (0..NODES).map(node).collect();
        Self { flaw, random, nodes, wire: Vec::new(), history: History::new(), done: 0 }
    }

    fn roll(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % below
    }

    fn run(mut self) -> (History, usize) {
        for _ in 0..EVENTS {
            let (kind, at) = (self.roll(100), self.roll(NODES));
            match kind {
                0 => self.restart(at),
                1..=9 => self.invoke(at),
                10..=14 => self.begin(at),
                _ if self.wire.is_empty() => {}
                15..=22 => {
                    let lost = self.roll(self.wire.len());
                    self.wire.swap_remove(lost);
                }
                _ => self.deliver(kind < 30),
            }
        }
        (self.history, self.done)
    }

    /// Begins an operation of the client, unless one is pending.
    fn invoke(&mut self, at: usize) {
        let change = match self.roll(3) {
            0 => Change::Read,
            // Few values, so that a compare-and-set may succeed.
            _ => Change::Set(self.roll(3) as u64, self.roll(3) as u64),
        };
        let node = &mut self.nodes[at];
        if node.open.is_some() {
            return;
        }
        let op = match change {
            Change::Read => Op::get("x"),
            Change::Set(from, to) => Op::cas("x", from, to),
        };
        node.number += 1;
        node.open = Some((change, self.history.invoke(node.client, op)));
        self.begin(at);
    }

    /// Begins a new ballot for the pending operation. The own acceptor promises before any node receives it.
    fn begin(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.open.is_none() {
            return;
        }
        node.proposer.observe(node.acceptor.promised());
        let ballot = node.proposer.prepare();
        assert_eq!(node.acceptor.prepare(ballot), Verdict::Granted { changed: true });
        self.wire.extend((0..NODES).map(|to| (at, to, Flight::Prepare(ballot))));
    }

    /// Restarts the proposer without its state. The outcome of its client's operation stays unknown.
    fn restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.proposer = proposer(at);
        node.client += 10;
        if let Some((_, call)) = node.open.take() {
            self.history.abandon(call).unwrap();
        }
    }

    fn deliver(&mut self, again: bool) {
        let at = self.roll(self.wire.len());
        let (from, to, flight) = self.wire.swap_remove(at);
        if again {
            self.wire.push((from, to, flight.clone()));
        }
        let node = &mut self.nodes[to];
        let nack = |ballot, promised| vec![(to, from, Flight::Nack(ballot, promised))];
        let replies = match flight {
            Flight::Prepare(ballot) => match node.acceptor.prepare(ballot) {
                Verdict::Rejected { promised } => nack(ballot, promised),
                _ => {
                    let vote = node.acceptor.accepted().cloned();
                    vec![(to, from, Flight::Promise(ballot, vote))]
                }
            },
            Flight::Accept(ballot, state) => match node.acceptor.accept(ballot, state) {
                Verdict::Rejected { promised } => nack(ballot, promised),
                Verdict::Contradiction => panic!("{ballot} has two values"),
                Verdict::Granted { .. } => vec![(to, from, Flight::Accepted(ballot))],
            },
            Flight::Promise(ballot, vote) => self.on_promise(from, to, ballot, vote),
            Flight::Accepted(ballot) => {
                if let Some(state) = node.proposer.on_accepted(id(from), ballot) {
                    self.complete(to, &state);
                }
                Vec::new()
            }
            Flight::Nack(ballot, promised) => {
                node.proposer.on_nack(id(from), ballot, promised);
                Vec::new()
            }
        };
        self.wire.extend(replies);
    }

    fn on_promise(
        &mut self,
        from: usize,
        at: usize,
        ballot: Ballot,
        vote: Option<(Ballot, State)>,
    ) -> Vec<(usize, usize, Flight)> {
        let (node, flaw) = (&mut self.nodes[at], self.flaw);
        let Some((change, _)) = node.open else { return Vec::new() };
        let (client, number) = (node.client, node.number);
        let made = |mut state: State| {
            if flaw == Flaw::ForgetsOutcomes {
                state.outcomes.clear();
            }
            state.after(client, number, change)
        };
        let Some(state) = node.proposer.on_promise_then(id(from), ballot, vote, made) else {
            return Vec::new();
        };
        if flaw == Flaw::ReadsInOnePhase && change == Change::Read {
            self.complete(at, &state);
            return Vec::new();
        }
        (0..NODES).map(|to| (at, to, Flight::Accept(ballot, state.clone()))).collect()
    }

    /// Completes the client's operation.
    fn complete(&mut self, at: usize, state: &State) {
        let node = &mut self.nodes[at];
        let Some((change, call)) = node.open.take() else { return };
        self.done += 1;
        match change {
            Change::Read => self.history.complete(call, Outcome::Read(state.value.into())),
            Change::Set(..) if state.outcomes[&node.client] == (node.number, true) => {
                self.history.complete(call, Outcome::Done)
            }
            Change::Set(..) => self.history.fail(call),
        }
        .unwrap();
    }
}

/// Returns the checker's verdict on a trial, and the number of completed operations.
fn judge(seed: u64, flaw: Flaw) -> (Judgement, usize) {
    let (history, done) = Trial::new(seed, flaw).run();
    (check(&history, &Options { init: 0_u64.into(), ..Options::default() }), done)
}

#[test]
fn register_made_of_the_roles_is_linearizable() {
    let mut completed = 0;
    for seed in 0..300 {
        let (judgement, done) = judge(seed, Flaw::None);
        assert_eq!(judgement, Judgement::Linearizable, "seed {seed}");
        completed += done;
    }
    assert!(completed > 300 * 10, "{completed} operations completed");
}

/// The same trials detect a register without one of its rules.
#[test]
fn register_with_one_phase_reads_or_without_outcomes_is_not_linearizable() {
    for flaw in [Flaw::ReadsInOnePhase, Flaw::ForgetsOutcomes] {
        let illegal = |seed: &u64| matches!(judge(*seed, flaw).0, Judgement::Illegal(_));
        assert!((0..300).any(|seed| illegal(&seed)), "no trial is illegal");
    }
}
