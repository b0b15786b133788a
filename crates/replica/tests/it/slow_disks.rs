//! Throughput of three Raft replicas on slow disks, on a virtual clock.

use crate::scripted::Recorder;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use synod_raft::{Config, Raft};
use synod_replica::{
    Applied, Applier, ChosenRun, Driver, Event, Outcome, ReplicaCore, ReplicaSettings, Seq, Token,
};
use synod_storage::{BootId, MemoryState};
use synod_types::{ClusterId, Incarnation, Instant, Membership, NodeId, Slot};

const NODES: u64 = 3;
/// Disk of 1 MB/s. The bounds of the driver are scaled down likewise.
const DISK_BYTES_A_SECOND: u64 = 1_000_000;
const COMMAND_BYTES: usize = 10_000;
const CLIENTS: u64 = 300;
const MERGED_BYTES: usize = 200_000;
const SYNC: Duration = Duration::from_millis(2);
const LATENCY: Duration = Duration::from_micros(200);

struct Node {
    replica: ReplicaCore<Raft>,
    applier: Applier,
    wake: Option<Instant>,
    /// Batches that wait for the disk, as number and size in bytes.
    batches: VecDeque<(Seq, usize)>,
    /// Number of the last batch in the present write.
    writing: Option<Seq>,
    written_bytes: u64,
}

enum TestEvent {
    Frame(NodeId, Bytes),
    Wake,
    DiskDone,
    Apply(Vec<ChosenRun>),
    Client(u64),
}

struct Cluster {
    now: Instant,
    nodes: Vec<Node>,
    queue: BTreeMap<(Instant, u64), (usize, TestEvent)>,
    queued: u64,
    /// Client of each outstanding request.
    requests: BTreeMap<(usize, Token), u64>,
    tokens: u64,
    done: u64,
    failed: u64,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            now: Instant(1),
            nodes: Vec::new(),
            queue: BTreeMap::new(),
            queued: 0,
            requests: BTreeMap::new(),
            tokens: 0,
            done: 0,
            failed: 0,
        };
        let members = Membership::new((1..=NODES).map(NodeId), []).unwrap();
        for id in (1..=NODES).map(NodeId) {
            let boot_id = BootId { incarnation: Incarnation(id.0), boot: 1 };
            let settings = ReplicaSettings {
                unwritten_bytes: 400_000,
                forward_window: 400_000,
                forward_bytes: 25_000,
                ..ReplicaSettings::new(ClusterId(1), id, boot_id, id.0)
            };
            let (machine, store) = (Box::<Recorder>::default(), Box::new(MemoryState::new()));
            let applier = Applier::open(machine, store, settings.session()).unwrap();
            let config = Config::new(id, members.clone()).unwrap();
            let saved = synod_storage::StoredGroup::default();
            let replica =
                ReplicaCore::open(cluster.now, settings, config, &saved, Slot::ZERO).unwrap();
            let (batches, writing) = (VecDeque::new(), None);
            let node = Node { replica, applier, wake: None, batches, writing, written_bytes: 0 };
            cluster.nodes.push(node);
        }
        (0..cluster.nodes.len()).for_each(|node| cluster.carry_out(node));
        for client in 0..CLIENTS {
            let at = Duration::from_secs(2) + Duration::from_micros(client);
            cluster.push(at, (client % NODES) as usize, TestEvent::Client(client));
        }
        cluster
    }

    fn push(&mut self, after: Duration, node: usize, event: TestEvent) {
        self.queued += 1;
        self.queue.insert((self.now + after, self.queued), (node, event));
    }

    fn run_until(&mut self, end: Instant) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), (node, event)) = entry.remove_entry();
            self.now = at;
            self.handle(node, event);
            self.carry_out(node);
        }
    }

    fn handle(&mut self, index: usize, event: TestEvent) {
        let (now, node) = (self.now, &mut self.nodes[index]);
        let event = match event {
            TestEvent::Frame(from, frame) => Event::Frame { from, frame },
            TestEvent::Wake if node.wake.is_none_or(|wake| wake > now) => return,
            TestEvent::Wake => Event::Wake,
            TestEvent::DiskDone => Event::Written(node.writing.take().unwrap()),
            TestEvent::Apply(runs) => {
                let mut applied = Applied::default();
                runs.iter().for_each(|run| node.applier.apply(run, &mut applied).unwrap());
                Event::Applied(applied)
            }
            TestEvent::Client(client) => {
                self.tokens += 1;
                let token = Token(self.tokens);
                self.requests.insert((index, token), client);
                let command = Bytes::from(vec![client as u8; COMMAND_BYTES]);
                Event::Request { token, command, deadline: now + Duration::from_secs(30) }
            }
        };
        node.replica.handle(now, event);
    }

    /// Carries out the actions of a node.
    fn carry_out(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let actions = node.replica.take(now);
        if let Some((seq, batch)) = actions.batch {
            node.batches.push_back((seq, batch.byte_len()));
        }
        let wake = std::mem::replace(&mut node.wake, actions.wake);
        self.write(index);
        if !actions.apply.is_empty() {
            self.push(Duration::from_millis(1), index, TestEvent::Apply(actions.apply));
        }
        for (to, _, frame) in actions.frames {
            let from = NodeId(index as u64 + 1);
            self.push(LATENCY, to.0 as usize - 1, TestEvent::Frame(from, frame));
        }
        if let Some(at) = self.nodes[index].wake.filter(|at| wake != Some(*at)) {
            self.push(at - now, index, TestEvent::Wake);
        }
        for response in actions.responses {
            let client = self.requests.remove(&(index, response.token)).unwrap();
            let pause = match response.outcome {
                Outcome::Done(..) => {
                    self.done += 1;
                    Duration::from_millis(1)
                }
                _ => {
                    self.failed += 1;
                    Duration::from_millis(100)
                }
            };
            self.push(pause, index, TestEvent::Client(client));
        }
    }

    /// Starts the next write, if the disk is idle, of as many batches as the writer merges.
    fn write(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.writing.is_some() {
            return;
        }
        let mut bytes = 0;
        while let Some((seq, more)) =
            node.batches.pop_front_if(|(_, more)| bytes == 0 || bytes + *more <= MERGED_BYTES)
        {
            bytes += more;
            node.writing = Some(seq);
        }
        if node.writing.is_some() {
            node.written_bytes += bytes as u64;
            let time = Duration::from_nanos(bytes as u64 * 1_000_000_000 / DISK_BYTES_A_SECOND);
            self.push(SYNC + time, index, TestEvent::DiskDone);
        }
    }
}

#[test]
fn slow_disks_are_used_to_80_percent_without_elections_or_stalls() {
    let mut cluster = Cluster::new();
    cluster.run_until(Instant(1) + Duration::from_secs(2));
    let before = cluster.nodes[0].replica.status();
    assert!(before.leader.is_some(), "{before:?}");
    cluster.run_until(Instant(1) + Duration::from_secs(32));
    for node in &cluster.nodes {
        let status = node.replica.status();
        assert_eq!((status.ballot, status.leader), (before.ballot, before.leader));
        assert_eq!(node.replica.counters().stalls, 0);
    }
    let useful = cluster.done * COMMAND_BYTES as u64;
    let possible = 30 * DISK_BYTES_A_SECOND;
    assert!(useful >= possible * 8 / 10, "{useful} bytes of {possible}");
    assert_eq!(cluster.failed, 0);
    for node in &cluster.nodes {
        let written = node.written_bytes;
        assert!(written <= useful * 11 / 10 + 4_000_000, "{written} written for {useful}");
    }
}
