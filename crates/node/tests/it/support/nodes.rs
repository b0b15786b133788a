//! Nodes in separate processes on one machine.

use super::{Guarded, client, free_ports, signal, status, synod, tail, traced, wait_for};
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use synod_node::server::NodeReport;
use synod_transport::certificates::CertificateAuthority;
use synod_types::{ClusterId, NodeId};
use tempfile::TempDir;

const CLUSTER: u64 = 7;

/// Settings of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) protocol: &'a str,
    pub(crate) store: &'a str,
    /// Additional lines of every settings file.
    pub(crate) settings: &'a str,
}

/// Nodes with certificates, settings and data folders. A node runs after `start`.
pub(crate) struct Nodes {
    folder: TempDir,
    processes: Vec<Option<Guarded>>,
    /// Number of calls of `leader`, which returns another node at each call in Basic Paxos.
    turn: usize,
    /// The nodes' ports for clients.
    pub(crate) ports: Vec<u16>,
    /// The nodes' ports for peers.
    pub(crate) peers: Vec<u16>,
}

impl Nodes {
    /// Sets up three nodes. `route(nodes, a, b)` returns the port at which node a dials node b, both
    /// counted from 0; `None` selects the port that b listens on.
    pub(crate) fn new(
        shape: &Shape<'_>,
        route: impl Fn(&Nodes, usize, usize) -> Option<u16>,
    ) -> Self {
        Self::sized(3, shape, route)
    }

    /// Sets up a cluster of one node, with short election timeouts. Acknowledged writes exist only on its
    /// disk.
    pub(crate) fn single(protocol: &str) -> Self {
        let settings = "election-min = \"50ms\"\nelection-max = \"100ms\"\nheartbeat = \"10ms\"";
        Self::sized(1, &Shape { protocol, store: "rocksdb", settings }, |_, _, _| None)
    }

    fn sized(
        count: u16,
        shape: &Shape<'_>,
        route: impl Fn(&Nodes, usize, usize) -> Option<u16>,
    ) -> Self {
        let first = free_ports(count);
        let nodes = Self {
            folder: tempfile::tempdir().expect("a folder"),
            processes: (0..count).map(|_| None).collect(),
            turn: 0,
            ports: (first..first + count).collect(),
            peers: (first..first + count).collect(),
        };
        let authority = CertificateAuthority::new(ClusterId(CLUSTER)).expect("an authority");
        fs::write(nodes.file("ca.pem"), authority.certificate_pem()).expect("a file");
        for index in 0..usize::from(count) {
            let id = index as u64 + 1;
            let issued = authority.issue_node(ClusterId(CLUSTER), NodeId(id)).expect("issued");
            fs::write(nodes.file(&format!("{id}.pem")), issued.certificate).expect("a file");
            fs::write(nodes.file(&format!("{id}.key")), issued.key).expect("a file");
            let settings = nodes.settings(shape, index, &route);
            fs::write(nodes.file(&format!("{id}.toml")), settings).expect("a file");
        }
        nodes
    }

    fn settings(
        &self,
        shape: &Shape<'_>,
        index: usize,
        route: &impl Fn(&Nodes, usize, usize) -> Option<u16>,
    ) -> String {
        let id = index + 1;
        let members: String = (0..self.ports.len())
            .map(|other| {
                let peer = route(self, index, other).unwrap_or(self.peers[other]);
                let (other, client) = (other + 1, self.ports[other]);
                format!(
                    "{{ id = {other}, peer = \"127.0.0.1:{peer}\", \
                     client = \"http://127.0.0.1:{client}\" }},"
                )
            })
            .collect();
        let Shape { protocol, store, settings } = shape;
        format!(
            "node = {id}\ncluster = {CLUSTER}\nmembers = [{members}]\n\
             listen-clients = \"127.0.0.1:{}\"\nlisten-peers = \"127.0.0.1:{}\"\n\
             data = \"data-{id}\"\nca = \"ca.pem\"\ncert = \"{id}.pem\"\nkey = \"{id}.key\"\n\
             protocol = \"{protocol}\"\nstore = \"{store}\"\nlog-format = \"compact\"\n{settings}\n",
            self.ports[index], self.peers[index]
        )
    }

    /// Returns the path of a file in the cluster's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the command that starts a node.
    pub(crate) fn command(&self, index: usize) -> Command {
        let mut command = synod();
        command.args(["start", "--config"]).arg(self.file(&format!("{}.toml", index + 1)));
        command
    }

    /// Starts or restarts a node.
    pub(crate) fn start(&mut self, index: usize) {
        self.start_as(index, self.command(index));
    }

    /// Starts a node with faults in its system calls, injected by strace.
    pub(crate) fn start_with_faults(&mut self, index: usize, faults: &str) {
        self.start_as(index, traced(&self.command(index), faults, &self.file("trace")));
    }

    /// Starts a node with the caller's command.
    pub(crate) fn start_as(&mut self, index: usize, mut command: Command) {
        let log = OpenOptions::new().create(true).append(true).open(self.log(index));
        let log = log.expect("a log file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.processes[index] = Some(Guarded(command.spawn().expect("the program starts")));
    }

    pub(crate) fn start_all(&mut self) {
        (0..self.processes.len()).for_each(|index| self.start(index));
    }

    /// Kills all nodes at once.
    pub(crate) fn kill_all(&mut self) {
        for process in self.processes.iter().flatten() {
            signal(process.0.id(), "KILL");
        }
        self.processes.iter_mut().for_each(|process| drop(process.take()));
    }

    /// Kills a node with SIGKILL.
    pub(crate) fn kill(&mut self, index: usize) {
        drop(self.processes[index].take().expect("the node runs"));
    }

    /// Returns the running process of a node.
    pub(crate) fn process(&mut self, index: usize) -> &mut Guarded {
        self.processes[index].as_mut().expect("the node runs")
    }

    /// Waits until a node exits by itself.
    pub(crate) fn end(&mut self, index: usize) -> ExitStatus {
        let status = self.process(index).wait(Duration::from_secs(60));
        self.processes[index] = None;
        status
    }

    /// Returns the error line of a node that failed. Panics if the node panicked.
    pub(crate) fn error_line(&self, index: usize) -> String {
        let log = fs::read_to_string(self.log(index)).expect("a log file");
        assert!(!log.contains("panicked"), "{log}");
        let line = log.lines().last().unwrap_or_default();
        assert!(line.starts_with("synod: "), "the node exited without an error line:\n{log}");
        line.to_owned()
    }

    fn log(&self, index: usize) -> PathBuf {
        self.file(&format!("{}.log", index + 1))
    }

    /// Returns the status report of a running node. Panics if the node has exited.
    pub(crate) fn report(&mut self, index: usize) -> Option<NodeReport> {
        let log = tail(&self.log(index));
        if let Some(process) = &mut self.processes[index]
            && let Some(code) = process.ended()
        {
            panic!("node {} exited unexpectedly, {code}:\n{log}", index + 1);
        }
        status(self.ports[index])
    }

    /// Waits until one of the nodes `among` is the leader and another one follows it. Returns the leader. In
    /// Basic Paxos, waits until two of them serve, and returns another one of them at each call.
    pub(crate) fn leader(&mut self, among: &[usize]) -> usize {
        self.turn += 1;
        let mut by_turn = among.to_vec();
        by_turn.rotate_left(self.turn % among.len());
        wait_for("a node is the leader and another follows it", Duration::from_secs(60), || {
            let reports: Vec<_> = among.iter().map(|index| self.report(*index)).collect();
            let is_followed = |index: &usize| {
                let reports = || reports.iter().flatten();
                let own = reports().find(|report| report.node == *index as u64 + 1)?;
                let follows = |report: &&NodeReport| match own.role.as_str() {
                    "peer" => report.role == "peer",
                    _ => report.leader == Some(own.node) && report.term == own.term,
                };
                (own.is_proposer() && reports().filter(follows).count() >= 2).then_some(*index)
            };
            by_turn.iter().find_map(is_followed)
        })
    }

    /// Waits until all nodes have the same applied slot and digest; returns the slot.
    pub(crate) fn wait_until_equal(&self, limit: Duration) -> u64 {
        client::wait_until_equal(&self.ports, limit)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        super::show_if_failed((0..self.processes.len()).map(|index| self.log(index)));
    }
}
