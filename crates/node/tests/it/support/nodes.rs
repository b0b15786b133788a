//! Nodes as processes of their own, on one machine.

use super::{Guarded, client, free_ports, status, synod, tail, wait_for};
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use synod_node::server::NodeReport;
use synod_transport::certs::CertificateAuthority;
use synod_types::{ClusterId, NodeId};
use tempfile::TempDir;

const CLUSTER: u64 = 7;

/// How nodes are set up.
#[derive(Clone, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) protocol: &'a str,
    pub(crate) store: &'a str,
    /// More lines for every settings file.
    pub(crate) settings: &'a str,
}

/// Three nodes with certificates, settings and data; none runs until it is started.
pub(crate) struct Nodes {
    folder: TempDir,
    processes: Vec<Option<Guarded>>,
    /// Which peer is named next where nobody leads.
    turn: usize,
    /// The ports for clients, by node.
    pub(crate) ports: Vec<u16>,
    /// The ports that the nodes listen on for their peers.
    pub(crate) peers: Vec<u16>,
}

impl Nodes {
    /// Sets three nodes up. `way(a, b)` is the port under which node a finds node b, both counted
    /// from 0; by default the one that b listens on.
    pub(crate) fn new(
        shape: &Shape<'_>,
        way: impl Fn(&Nodes, usize, usize) -> Option<u16>,
    ) -> Self {
        let first = free_ports(3);
        let nodes = Self {
            folder: tempfile::tempdir().expect("a folder"),
            processes: vec![None, None, None],
            turn: 0,
            ports: (first..first + 3).collect(),
            peers: (first..first + 3).collect(),
        };
        let authority = CertificateAuthority::new(ClusterId(CLUSTER)).expect("an authority");
        fs::write(nodes.file("ca.pem"), authority.certificate_pem()).expect("a file");
        for index in 0..3 {
            let id = index as u64 + 1;
            let issued = authority.issue_node(ClusterId(CLUSTER), NodeId(id)).expect("issued");
            fs::write(nodes.file(&format!("{id}.pem")), issued.certificate).expect("a file");
            fs::write(nodes.file(&format!("{id}.key")), issued.key).expect("a file");
            let settings = nodes.settings(shape, index, &way);
            fs::write(nodes.file(&format!("{id}.toml")), settings).expect("a file");
        }
        nodes
    }

    fn settings(
        &self,
        shape: &Shape<'_>,
        index: usize,
        way: &impl Fn(&Nodes, usize, usize) -> Option<u16>,
    ) -> String {
        let id = index + 1;
        let members: String = (0..3)
            .map(|other| {
                let peer = way(self, index, other).unwrap_or(self.peers[other]);
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

    /// A file of this cluster.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that starts a node.
    pub(crate) fn command(&self, index: usize) -> Command {
        let mut command = synod();
        command.args(["start", "--config"]).arg(self.file(&format!("{}.toml", index + 1)));
        command
    }

    /// Starts a node, or starts it again.
    pub(crate) fn start(&mut self, index: usize) {
        let log = OpenOptions::new().create(true).append(true).open(self.log(index));
        let log = log.expect("a log file");
        let mut command = self.command(index);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.processes[index] = Some(Guarded(command.spawn().expect("the program starts")));
    }

    pub(crate) fn start_all(&mut self) {
        (0..3).for_each(|index| self.start(index));
    }

    /// Kills a node with SIGKILL: nothing of it is finished or saved.
    pub(crate) fn kill(&mut self, index: usize) {
        drop(self.processes[index].take().expect("the node runs"));
    }

    /// The running process of a node.
    pub(crate) fn process(&mut self, index: usize) -> &mut Guarded {
        self.processes[index].as_mut().expect("the node runs")
    }

    fn log(&self, index: usize) -> PathBuf {
        self.file(&format!("{}.log", index + 1))
    }

    /// What a running node knows of itself. Fails if the node has ended by itself.
    pub(crate) fn report(&mut self, index: usize) -> Option<NodeReport> {
        let log = tail(&self.log(index));
        if let Some(process) = &mut self.processes[index]
            && let Some(code) = process.ended()
        {
            panic!("node {} ended by itself, {code}:\n{log}", index + 1);
        }
        status(self.ports[index])
    }

    /// Waits for a node, among `among`, that leads and that another one of them follows. Among
    /// peers, where nobody leads, for two that are there; names each of them in turn.
    pub(crate) fn leader(&mut self, among: &[usize]) -> usize {
        self.turn += 1;
        let mut by_turn = among.to_vec();
        by_turn.rotate_left(self.turn % among.len());
        wait_for("a leader is followed", Duration::from_secs(60), || {
            let reports: Vec<_> = among.iter().map(|index| self.report(*index)).collect();
            let is_followed = |index: &usize| {
                let reports = || reports.iter().flatten();
                let own = reports().find(|report| report.node == *index as u64 + 1)?;
                let follows = |report: &&NodeReport| match own.role.as_str() {
                    "peer" => report.role == "peer",
                    _ => report.leader == Some(own.node) && report.term == own.term,
                };
                (own.orders() && reports().filter(follows).count() >= 2).then_some(*index)
            };
            by_turn.iter().find_map(is_followed)
        })
    }

    /// Waits until all nodes have applied equally far with equal digests; returns how far.
    pub(crate) fn wait_until_equal(&self, patience: Duration) -> u64 {
        client::wait_until_equal(&self.ports, patience)
    }
}
