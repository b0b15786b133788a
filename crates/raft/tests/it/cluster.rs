//! The shared test cluster, with the configurations, logs and elections of Raft.

use std::ops::{Deref, DerefMut};
use synod_consensus::{Role, Run, RunLog, Saved};
use synod_explore::{CoreChecks, TestCluster};
use synod_raft::{Config, HardState, Limits, Position, Raft, Timer};
use synod_types::{Instant, Membership, NodeId, Slot, Term, Value};

/// Time at which a cluster starts.
const START: Instant = Instant(1_000_000_000);

pub const N1: NodeId = NodeId(1);
pub const N2: NodeId = NodeId(2);
pub const N3: NodeId = NodeId(3);
pub const N4: NodeId = NodeId(4);
pub const N5: NodeId = NodeId(5);

pub fn members(voters: u64, learners: u64) -> Membership {
    let all = |from, to| (from..=to).map(NodeId);
    Membership::new(all(1, voters), all(voters + 1, voters + learners)).unwrap()
}

pub fn config(id: NodeId, voters: u64) -> Config {
    Config::new(id, members(voters, 0)).unwrap()
}

/// Returns a log with one entry of each of these terms, from slot 1 on, as in the paper's figures.
pub fn log(terms: &[u64]) -> RunLog<Term> {
    let mut log = RunLog::default();
    for (index, term) in terms.iter().enumerate() {
        log.put(run(1 + index as u64, *term, &[&format!("{}@{term}", index + 1)]));
    }
    log
}

pub fn run(first: u64, term: u64, commands: &[&str]) -> Run<Term> {
    let value = |command: &&str| Value::Command(command.as_bytes().to_vec().into());
    Run { first: Slot(first), stamp: Term(term), values: commands.iter().map(value).collect() }
}

pub fn at(slot: u64, term: u64) -> Position {
    Position { slot: Slot(slot), term: Term(term) }
}

pub fn saved(term: u64, vote: Option<NodeId>, terms: &[u64]) -> Saved<Raft> {
    let hard_state = HardState { term: Term(term), vote };
    Saved { hard_state, log: log(terms), ..Saved::default() }
}

/// Returns the terms in a log, slot by slot from its base.
pub fn terms(log: &RunLog<Term>) -> Vec<u64> {
    log.runs().flat_map(|run| vec![run.stamp.0; run.values.len()]).collect()
}

pub struct Cluster(TestCluster<Raft>);

impl Deref for Cluster {
    type Target = TestCluster<Raft>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Cluster {
    /// Creates a cluster of `voters` new nodes and starts them.
    pub fn new(voters: u64) -> Self {
        Self::with(voters, |config| config)
    }

    pub fn with(voters: u64, settings: impl Fn(Config) -> Config) -> Self {
        let all = (1..=voters).map(NodeId);
        Self::from_disks(all.map(|id| (settings(config(id, voters)), Saved::default())).collect())
    }

    pub fn with_limits(voters: u64, limits: &Limits) -> Self {
        Self::with(voters, |config| config.with_limits(limits.clone()).unwrap())
    }

    /// Creates a cluster whose nodes restart from these disks.
    pub fn from_disks(disks: Vec<(Config, Saved<Raft>)>) -> Self {
        let checks = CoreChecks { invariants: Raft::check_invariants, ..CoreChecks::default() };
        let nodes = disks.into_iter().map(|(config, disk)| (config.id(), config, disk));
        Self(TestCluster::new(checks, |message| vec![message], START, nodes))
    }

    pub fn term(&self, id: NodeId) -> u64 {
        self.status(id).ballot.round
    }

    pub fn leads(&self, id: NodeId) -> bool {
        self.status(id).role == Role::Leader
    }

    /// Fires a node's election timer until the node leads: twice if a voter is in a later term.
    pub fn elect(&mut self, id: NodeId) {
        for _ in 0..2 {
            self.advance(1_000);
            self.timeout(id, Timer::Election);
            self.deliver();
            if self.leads(id) {
                return;
            }
        }
        panic!("{id:?} was not elected: {:?}", self.status(id));
    }

    /// Fires a leader's heartbeat timer, and delivers all messages until none is in flight.
    pub fn heartbeat(&mut self, id: NodeId) {
        self.advance(50);
        self.timeout(id, Timer::Heartbeat);
        self.deliver();
    }
}
