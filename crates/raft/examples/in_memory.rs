//! Three Raft nodes in one thread, with memory for disks and a queue for a network.

use std::collections::VecDeque;
use synod_raft::consensus::{Input, Outbox, Protocol, Saved, TimerChange};
use synod_raft::types::{Instant, Membership, NodeId, Ticket};
use synod_raft::{Config, Message, Raft, Timer};

struct Node {
    core: Raft,
    disk: Saved<Raft>,
    outbox: Outbox<Raft>,
    timer: Option<Timer>,
}

type Network = VecDeque<(NodeId, NodeId, Message)>;
impl Node {
    fn step(&mut self, me: NodeId, now: Instant, input: Input<Raft>, network: &mut Network) {
        self.core.step(now, input, &mut self.outbox.effects());
        self.core.flush(now, &mut self.outbox.effects());
        for write in self.outbox.writes.drain(..) {
            self.disk.apply(&write); // Durable at once, so every message may leave now.
        }
        network.extend(self.outbox.sends.drain(..).map(|(to, message)| (me, to, message)));
        for run in self.outbox.chosen.drain(..) {
            println!("node {me} applies {:?} from slot {}", run.values, run.first);
        }
        for change in self.outbox.timers.drain(..) {
            if let TimerChange::Set(timer, _) = change {
                self.timer = Some(timer);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = Membership::new((1..=3).map(NodeId), [])?;
    let (now, mut network, mut nodes) = (Instant::ZERO, Network::new(), Vec::new());
    let (disk, outbox) = (Saved::default(), Outbox::default());
    for id in members.voters() {
        let core = Raft::recover(Config::new(*id, members.clone())?, Saved::default())?;
        let mut node = Node { core, disk: disk.clone(), outbox: outbox.clone(), timer: None };
        node.step(*id, now, Input::Start, &mut network);
        nodes.push(node);
    }
    let election = nodes[0].timer.take().expect("a follower waits for a leader");
    nodes[0].step(NodeId(1), now, Input::Timeout(election), &mut network);
    deliver(&mut nodes, &mut network);
    let propose = Input::Propose { ticket: Ticket(1), command: b"hello".to_vec().into() };
    nodes[0].step(NodeId(1), now, propose, &mut network);
    deliver(&mut nodes, &mut network);
    assert!(nodes.iter().all(|node| node.core.status().commit == nodes[0].disk.log.last()));
    Ok(())
}

fn deliver(nodes: &mut [Node], network: &mut Network) {
    while let Some((from, to, message)) = network.pop_front() {
        let node = &mut nodes[to.0 as usize - 1];
        node.step(to, Instant::ZERO, Input::Message { from, message }, network);
    }
}
