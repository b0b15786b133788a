//! Protocol cores side by side in one thread: no disk, no network, no clock. What is left is the
//! core, its effects and the fence.

use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use synod_consensus::{Gate, Input, Message, Outbox, Protocol, Role, TimerChange};
use synod_replica::Held;
use synod_types::{Instant, NodeId, Seq, Slot, Ticket};

/// Slots that stay in a core's window when it is compacted; without compaction, page faults are
/// what is measured.
const KEPT: u64 = 1024;
const COMPACT_EVERY: u64 = 4096;

/// Cores that deliver to one another at once.
pub struct Cores<P: Protocol> {
    nodes: Vec<Node<P>>,
    wire: VecDeque<(NodeId, NodeId, P::Message)>,
    now: Instant,
    /// Who is offered the commands: the leader, or one of peers.
    leader: usize,
    tickets: u64,
}

struct Node<P: Protocol> {
    id: NodeId,
    core: P,
    outbox: Outbox<P>,
    held: Held<(NodeId, P::Message)>,
    newest: Seq,
    timers: Vec<P::Timer>,
    decided: Slot,
    compacted: Slot,
}

impl<P: Protocol> Cores<P> {
    /// Recovers a core from an empty disk for every setting, and lets the first one lead if the
    /// protocol has leaders.
    ///
    /// # Panics
    /// If the settings are refused, or the first node cannot win an undisturbed election.
    pub fn elect(configs: impl IntoIterator<Item = (NodeId, P::Config)>) -> Self {
        let nodes: Vec<_> = configs.into_iter().map(|(id, config)| Node::new(id, config)).collect();
        let mut cores =
            Self { nodes, wire: VecDeque::new(), now: Instant(1 << 40), leader: 0, tickets: 0 };
        for index in 0..cores.nodes.len() {
            cores.step(index, Input::Start);
        }
        cores.deliver();
        for _ in 0..20 {
            if matches!(cores.nodes[0].core.status().role, Role::Leader | Role::Peer) {
                cores.deliver();
                return cores;
            }
            // Long enough for every timer, and for every old leader to be forgotten.
            cores.now = cores.now + Duration::from_secs(10);
            for timer in std::mem::take(&mut cores.nodes[0].timers) {
                cores.step(0, Input::Timeout(timer));
                cores.deliver();
            }
        }
        panic!("the first node does not win: {:?}", cores.nodes[0].core.status());
    }

    /// Offers the commands to the leader together and goes on until all nodes have decided all
    /// they can. Returns how many slots the leader has decided since the start.
    ///
    /// # Panics
    /// If the leader did not decide every command.
    pub fn decide(&mut self, commands: &[Bytes]) -> u64 {
        let before = self.nodes[self.leader].decided;
        for command in commands {
            self.tickets += 1;
            let (ticket, command) = (Ticket(self.tickets), command.clone());
            let node = &mut self.nodes[self.leader];
            let input = Input::Propose { ticket, command };
            node.core.step(self.now, input, &mut node.outbox.effects());
        }
        self.turn(self.leader);
        self.deliver();
        let leader = &self.nodes[self.leader];
        assert_eq!(leader.decided, before.plus(commands.len()), "{:?}", leader.core.status());
        leader.decided.0
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.wire.pop_front() {
            let index = self.nodes.iter().position(|node| node.id == to).expect("a member");
            self.step(index, Input::Message { from, message });
        }
    }

    fn step(&mut self, index: usize, input: Input<P>) {
        let node = &mut self.nodes[index];
        node.core.step(self.now, input, &mut node.outbox.effects());
        self.turn(index);
    }

    /// What a driver does in one round: flush, number the writes, hold what must wait; then the
    /// disk answers and the fence opens.
    fn turn(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        loop {
            node.core.flush(self.now, &mut node.outbox.effects());
            node.absorb(&mut self.wire);
            let free: Vec<_> = node.held.release(node.newest).collect();
            let mut stepped = false;
            for (to, message) in free {
                if to == node.id {
                    let input = Input::Message { from: to, message };
                    node.core.step(self.now, input, &mut node.outbox.effects());
                    stepped = true;
                } else {
                    self.wire.push_back((node.id, to, message));
                }
            }
            if !stepped {
                break;
            }
        }
        if node.decided.0 >= node.compacted.0 + COMPACT_EVERY {
            node.compacted = Slot(node.decided.0 - KEPT);
            let input = Input::Compact { through: node.compacted };
            node.core.step(self.now, input, &mut node.outbox.effects());
            node.absorb(&mut self.wire);
        }
    }
}

impl<P: Protocol> Node<P> {
    fn new(id: NodeId, config: P::Config) -> Self {
        let saved = synod_consensus::Saved::default();
        let core = P::recover(config, saved).unwrap_or_else(|error| panic!("{error}"));
        Self {
            id,
            core,
            outbox: Outbox::default(),
            held: Held::default(),
            newest: Seq(0),
            timers: Vec::new(),
            decided: Slot::ZERO,
            compacted: Slot::ZERO,
        }
    }

    fn absorb(&mut self, wire: &mut VecDeque<(NodeId, NodeId, P::Message)>) {
        if !self.outbox.writes.is_empty() {
            self.newest = self.newest.next();
            self.outbox.writes.clear();
        }
        for (to, message) in self.outbox.sends.drain(..) {
            match message.gate() {
                Gate::Immediate if to != self.id => wire.push_back((self.id, to, message)),
                _ => self.held.push(self.newest, (to, message)),
            }
        }
        for run in self.outbox.chosen.drain(..) {
            self.decided = run.last();
        }
        for change in self.outbox.timers.drain(..) {
            let (TimerChange::Set(timer, _) | TimerChange::Cancel(timer)) = &change;
            self.timers.retain(|running| running != timer);
            if let TimerChange::Set(timer, _) = change {
                self.timers.push(timer);
            }
        }
        self.outbox.placed.clear();
        self.outbox.refused.clear();
        self.outbox.reads.clear();
        self.outbox.snapshots.clear();
        self.outbox.notes.clear();
        self.outbox.peers = None;
    }
}
