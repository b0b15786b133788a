//! OmniPaxos with its own memory storage (the crate `omnipaxos_storage`).

use crate::contender::{Contender, Shape, commands};
use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::{LogEntry, NodeId};
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::hint::black_box;

/// Number of entries between two trims of the logs.
const TRIM_EVERY: usize = 4096;

/// One entry of the log: a command.
#[derive(Clone, Debug)]
struct Command(Bytes);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

type Node = OmniPaxos<Command, MemoryStorage<Command>>;

/// A cluster of OmniPaxos nodes; node `i` has the id `i + 1`.
pub struct Omni {
    nodes: Vec<Node>,
    leader: usize,
    /// Number of decided entries that each node has read.
    read: Vec<usize>,
    trimmed: usize,
    commands: Vec<Bytes>,
    outgoing: Vec<Message<Command>>,
}

impl Omni {
    /// Builds the cluster and advances time until a leader is elected.
    ///
    /// # Panics
    /// If no leader is elected within a thousand ticks.
    pub fn elect(shape: Shape) -> Self {
        let ids: Vec<NodeId> = (1..=shape.nodes as NodeId).collect();
        let nodes: Vec<Node> = ids.iter().map(|id| node(*id, &ids, shape.batch)).collect();
        let mut omni = Self {
            read: vec![0; nodes.len()],
            nodes,
            leader: 0,
            trimmed: 0,
            commands: commands(shape),
            outgoing: Vec::new(),
        };
        for _ in 0..1000 {
            omni.nodes.iter_mut().for_each(OmniPaxos::tick);
            omni.deliver();
            if let Some((leader, true)) = omni.nodes[0].get_current_leader() {
                omni.leader = leader as usize - 1;
                return omni;
            }
        }
        panic!("no leader was elected within 1000 ticks");
    }

    /// Delivers messages until none is in flight.
    fn deliver(&mut self) {
        loop {
            let mut idle = true;
            for sender in 0..self.nodes.len() {
                let mut messages = std::mem::take(&mut self.outgoing);
                self.nodes[sender].take_outgoing_messages(&mut messages);
                for message in messages.drain(..) {
                    idle = false;
                    let receiver = message.get_receiver() as usize - 1;
                    self.nodes[receiver].handle_incoming(message);
                }
                self.outgoing = messages;
            }
            if idle {
                return;
            }
        }
    }

    /// Reads the newly decided entries on every node, as an application would.
    fn read_decided(&mut self) {
        for (node, read) in self.nodes.iter().zip(&mut self.read) {
            for entry in node.read_decided_suffix(*read).unwrap_or_default() {
                let LogEntry::Decided(Command(command)) = entry else {
                    panic!("an entry of the decided suffix is not decided")
                };
                black_box(command);
                *read += 1;
            }
        }
    }

    /// Every [`TRIM_EVERY`] entries, removes the log entries that all nodes have accepted.
    fn trim(&mut self) {
        if self.read[self.leader] < self.trimmed + TRIM_EVERY {
            return;
        }
        self.nodes[self.leader].trim(None).expect("the leader trims decided entries");
        self.deliver();
        self.trimmed = self.nodes[self.leader].get_compacted_idx();
    }
}

impl Contender for Omni {
    fn round(&mut self) -> u64 {
        let before = self.read[self.leader];
        for command in &self.commands {
            let command = Command(command.clone());
            self.nodes[self.leader].append(command).expect("the leader accepts commands");
        }
        self.deliver();
        self.read_decided();
        let decided = self.read[self.leader] - before;
        assert_eq!(decided, self.commands.len(), "a batch was not decided in its round");
        assert!(self.read.iter().all(|read| *read == self.read[0]), "a node lags: {:?}", self.read);
        self.trim();
        decided as u64
    }
}

/// Returns a node whose batch size is that of the workload.
fn node(pid: NodeId, ids: &[NodeId], batch: usize) -> Node {
    let cluster_config =
        ClusterConfig { configuration_id: 1, nodes: ids.to_vec(), ..ClusterConfig::default() };
    let server_config = ServerConfig { pid, batch_size: batch, ..ServerConfig::default() };
    OmniPaxosConfig { cluster_config, server_config }
        .build(MemoryStorage::default())
        .expect("the settings are valid")
}
