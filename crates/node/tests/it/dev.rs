//! `synod dev`, the development cluster.

use crate::support::{
    Guarded, PROTOCOLS, failure, free_ports, is_running, one_at_a_time, page, run, show_if_failed,
    signal, status, stdout, synod, wait_for,
};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use synod_node::server::NodeReport;
use tempfile::TempDir;

const STORE: &str = if cfg!(feature = "rocksdb") { "rocksdb" } else { "memory" };
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running `synod dev`.
struct Dev {
    supervisor: Guarded,
    lines: Receiver<String>,
    /// The printed process ids, in the order of the nodes.
    processes: Vec<u32>,
    ports: Vec<u16>,
    data: PathBuf,
}

impl Dev {
    /// Starts three nodes on a new or existing folder, and waits for the ready line.
    fn start(data: &Path, port: u16) -> Self {
        Self::start_with(dev_command(data, port), data, port)
    }

    /// Starts the supervisor with this command, and waits for the ready line.
    fn start_with(command: Command, data: &Path, port: u16) -> Self {
        let mut dev = Self::spawn(command, data, port);
        dev.wait_until_ready();
        dev
    }

    /// Starts the supervisor without waiting.
    fn spawn(mut command: Command, data: &Path, port: u16) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let (sender, lines) = channel();
        let printed = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            printed.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        let supervisor = Guarded(child);
        let ports = (port..port + 3).collect();
        Self { supervisor, lines, processes: vec![], ports, data: data.to_owned() }
    }

    fn wait_until_ready(&mut self) {
        loop {
            let line = self.line();
            if line.starts_with("ready") {
                break;
            }
            if line.starts_with("  node ") {
                let process = line.split_once("process ").expect("a process id").1;
                let process = process.split(' ').next().expect("a process id");
                self.processes.push(process.parse().expect("a process id"));
            }
        }
        assert_eq!(self.processes.len(), 3);
    }

    /// Starts a node outside the supervisor, with a separate log file.
    fn start_unsupervised(&self, node: usize, command: &mut Command) -> Guarded {
        let log = File::create(self.logs(node)[1].clone()).expect("a log file");
        let started = command.stdin(Stdio::null()).stderr(log).spawn();
        Guarded(started.expect("the program starts"))
    }

    /// Returns the logs of a node: that of the supervisor's process, and that of a restarted one.
    fn logs(&self, node: usize) -> [PathBuf; 2] {
        let folder = self.data.join(format!("node-{}", node + 1));
        ["node.log", "again.log"].map(|name| folder.join(name))
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).expect("a line in time")
    }

    fn endpoints(&self) -> String {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// Returns a client command with the endpoints of all nodes.
    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = synod();
        command.args(&arguments[..1]).args(["--endpoints", &self.endpoints()]);
        command.args(&arguments[1..]);
        command
    }

    fn leader(&self) -> usize {
        let reports = || self.ports.iter().filter_map(|port| status(*port));
        wait_for("a leader", TIMEOUT, || reports().find(NodeReport::is_proposer)).node as usize - 1
    }

    /// Stops the cluster with SIGTERM.
    fn stop(mut self) {
        self.supervisor.signal("TERM");
        assert_eq!(self.supervisor.wait(TIMEOUT).code(), Some(0));
        assert!(self.all_ended());
    }

    /// Returns whether all nodes have exited and no port is in use.
    fn all_ended(&self) -> bool {
        let ports_are_closed =
            self.ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_err());
        ports_are_closed && !self.processes.iter().any(|process| is_running(*process))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        show_if_failed((0..3).flat_map(|node| self.logs(node)));
    }
}

fn dev_command(data: &Path, port: u16) -> Command {
    let mut command = synod();
    command.args(["dev", "--store", STORE, "--client-port", &port.to_string(), "--data"]);
    command.arg(data).stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

fn folder() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a folder");
    let data = parent.path().join("cluster");
    (parent, data)
}

#[test]
fn cluster_serves_and_sigterm_stops_all_nodes() {
    let _turn = one_at_a_time();
    PROTOCOLS.iter().for_each(|protocol| check_serves_and_stops(protocol));
}

fn check_serves_and_stops(protocol: &str) {
    let (_parent, data) = folder();
    let port = free_ports(3);
    let mut command = dev_command(&data, port);
    command.args(["--protocol", protocol]);
    let mut dev = Dev::start_with(command, &data, port);
    assert_eq!(stdout(&mut dev.client(&["put", "hello", "world"])), "OK\n");
    assert_eq!(stdout(&mut dev.client(&["get", "hello"])), "hello\nworld\n");
    let done = stdout(&mut dev.client(&[
        "txn",
        "--compare",
        "hello = world",
        "--then",
        "put hello 'all of you'",
        "--else",
        "del hello",
    ]));
    assert_eq!(done, "SUCCESS\n\nOK\n");
    assert_eq!(stdout(&mut dev.client(&["get", "--prefix", "h"])), "hello\nall of you\n");
    assert_eq!(stdout(&mut dev.client(&["del", "hello"])), "1\n");
    let table = stdout(&mut dev.client(&["status"]));
    assert_eq!(table.lines().count(), 4, "{table}");
    let (leaders, peers) = (table.matches(" leader ").count(), table.matches(" peer ").count());
    assert!(matches!((leaders, peers), (1, 0) | (0, 3)), "{protocol}: {table}");
    dev.supervisor.signal("TERM");
    assert_eq!(dev.supervisor.wait(TIMEOUT).code(), Some(0));
    assert!(dev.all_ended());
    assert!(dev.lines.try_iter().all(|line| !line.starts_with("ready")), "two ready lines");
}

#[test]
fn http_pages_show_health_status_and_metrics() {
    let _turn = one_at_a_time();
    let (_parent, data) = folder();
    let dev = Dev::start(&data, free_ports(3));
    stdout(&mut dev.client(&["put", "hello", "world"]));
    let page = |path: &str| page(dev.ports[1], path);
    wait_for("node 2 is ready", TIMEOUT, || (page("/readyz").code == 200).then_some(()));
    assert_eq!(page("/livez").body, "ok\n");
    assert_eq!(page("/health").body, r#"{"health":"true","reason":""}"#);
    assert_eq!(page("/nothing").code, 404);
    let metrics = page("/metrics").body;
    for name in [
        "synod_leader ",
        "synod_is_leader ",
        "synod_term ",
        "synod_commit_slot ",
        "synod_applied_slot ",
        "synod_log_sync_seconds_bucket",
        "synod_apply_seconds_bucket",
        "synod_frames_total ",
        "synod_peer_connected{peer=\"1\"} ",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name} is missing:\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn children_exit_when_the_supervisor_is_killed() {
    let _turn = one_at_a_time();
    let (_parent, data) = folder();
    let mut dev = Dev::start(&data, free_ports(3));
    dev.supervisor.signal("KILL");
    dev.supervisor.wait(TIMEOUT);
    wait_for("every child has exited", TIMEOUT, || dev.all_ended().then_some(()));
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "a restarted node needs its log: RocksDB")]
fn cluster_serves_without_a_killed_leader_and_the_printed_command_restarts_it() {
    let _turn = one_at_a_time();
    let (_parent, data) = folder();
    let mut dev = Dev::start(&data, free_ports(3));
    stdout(&mut dev.client(&["put", "hello", "world"]));
    let leader = dev.leader();
    signal(dev.processes[leader], "KILL");
    let line = dev.line();
    assert!(line.starts_with(&format!("node {} ", leader + 1)), "{line}");
    assert!(line.contains("was killed by signal 9"), "{line}");
    assert_eq!(stdout(&mut dev.client(&["put", "still", "there"])), "OK\n");
    let restart = dev.line();
    let mut words = restart.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    let mut node = dev.start_unsupervised(leader, command.args(words));
    wait_for("the node has caught up", TIMEOUT, || {
        assert_eq!(node.ended(), None, "the restarted node has exited");
        let reports: Option<Vec<_>> = dev.ports.iter().map(|port| status(*port)).collect();
        let reports = reports?;
        reports.iter().all(|report| report.digest == reports[0].digest).then_some(())
    });
    dev.supervisor.signal("INT");
    assert_eq!(dev.supervisor.wait(TIMEOUT).code(), Some(0));
    assert_eq!(node.ended(), None, "the restarted node is not the supervisor's child");
    node.signal("TERM");
    assert_eq!(node.wait(TIMEOUT).code(), Some(0));
}

#[test]
#[cfg_attr(feature = "rocksdb", ignore = "needs a node that loses its votes: memory")]
fn messages_of_a_node_that_lost_its_votes_are_dropped_with_a_warning() {
    let _turn = one_at_a_time();
    let (_parent, data) = folder();
    let mut dev = Dev::start(&data, free_ports(3));
    let leader = dev.leader();
    let follower = (leader + 1) % 3;
    // Once the follower has caught up, the leader has received messages from its store.
    stdout(&mut dev.client(&["put", "hello", "world"]));
    let digest = |node: usize| status(dev.ports[node]).map(|report| report.digest);
    wait_for("the follower has caught up", TIMEOUT, || {
        (digest(follower)? == digest(leader)?).then_some(())
    });
    signal(dev.processes[follower], "KILL");
    let line = dev.line();
    assert!(line.contains("its votes in memory are lost"), "{line}");
    let mut command = synod();
    command.args(["start", "--config"]).arg(data.join(format!("node-{}/node.toml", follower + 1)));
    let mut node = dev.start_unsupervised(follower, &mut command);
    let log = data.join(format!("node-{}/node.log", leader + 1));
    let warning = format!(
        "kept in memory, so its votes are lost; restore its data folder peer={}",
        follower + 1
    );
    wait_for("the leader logs a warning", TIMEOUT, || {
        let text = std::fs::read_to_string(&log).expect("a log");
        text.contains(&warning).then_some(())
    });
    node.signal("TERM");
    assert_eq!(node.wait(TIMEOUT).code(), Some(0));
    dev.supervisor.signal("INT");
    assert_eq!(dev.supervisor.wait(TIMEOUT).code(), Some(0));
}

#[test]
#[cfg_attr(not(feature = "rocksdb"), ignore = "data must survive a restart: RocksDB")]
fn restarted_cluster_has_its_data() {
    let _turn = one_at_a_time();
    let (_parent, data) = folder();
    let port = free_ports(3);
    let mut dev = Dev::start(&data, port);
    stdout(&mut dev.client(&["put", "hello", "world"]));
    dev.processes.iter().for_each(|process| signal(*process, "KILL"));
    assert_eq!(dev.supervisor.wait(TIMEOUT).code(), Some(1), "all nodes have exited");
    let dev = Dev::start(&data, port);
    assert_eq!(stdout(&mut dev.client(&["get", "hello"])), "hello\nworld\n");
    dev.stop();
    let error = failure(dev_command(&data, port).args(["--nodes", "5"]).stderr(Stdio::piped()));
    assert!(error.contains("was created with --nodes 3"), "{error}");
}

#[test]
fn start_waits_for_the_nodes_of_a_killed_supervisor() {
    let _turn = one_at_a_time();
    let (_parent, data) = folder();
    let port = free_ports(3);
    let mut first = Dev::start(&data, port);
    // Paused, so that they cannot exit before the next supervisor checks the ports.
    first.processes.iter().for_each(|process| signal(*process, "STOP"));
    first.supervisor.signal("KILL");
    first.supervisor.wait(TIMEOUT);
    let mut second = Dev::spawn(dev_command(&data, port), &data, port);
    let line = second.line();
    let processes: Vec<_> = first.processes.iter().map(ToString::to_string).collect();
    let expected = "Waiting for processes of an earlier run to exit: ".to_owned();
    assert_eq!(line, expected + &processes.join(", "));
    first.processes.iter().for_each(|process| signal(*process, "CONT"));
    second.wait_until_ready();
    second.stop();
}

#[test]
fn start_names_the_process_that_uses_its_folder() {
    let _turn = one_at_a_time();
    let (_parent, data) = folder();
    let port = free_ports(3);
    let mut dev = Dev::start(&data, port);
    let error = failure(dev_command(&data, port).stderr(Stdio::piped()));
    assert!(error.contains("another `synod dev` runs on"), "{error}");
    dev.supervisor.signal("TERM");
    assert_eq!(dev.supervisor.wait(TIMEOUT).code(), Some(0));

    // A node that a user started does not exit with a supervisor.
    let mut command = synod();
    command.args(["start", "--config"]).arg(data.join("node-2/node.toml"));
    let mut node = dev.start_unsupervised(1, &mut command);
    wait_for("node 2 serves", TIMEOUT, || status(port + 1));
    let error = failure(dev_command(&data, port).stderr(Stdio::piped()));
    let process = node.0.id();
    for part in [
        format!("cannot listen on port {} (TCP, for clients of node 2)", port + 1),
        format!("process {process} runs node 2 of this cluster, in {}/node-2", data.display()),
        format!("stop it with `kill {process}`"),
    ] {
        assert!(error.contains(&part), "{error}");
    }
    node.signal("TERM");
    assert_eq!(node.wait(TIMEOUT).code(), Some(0));
}

#[test]
fn port_in_use_is_named_before_any_child_starts() {
    let (_parent, data) = folder();
    let port = free_ports(3);
    let taken = TcpListener::bind(("127.0.0.1", port + 1)).expect("a free port");
    let error = failure(dev_command(&data, port).stderr(Stdio::piped()));
    let expected = format!("cannot listen on port {} (TCP, for clients of node 2)", port + 1);
    assert!(error.contains(&expected), "{error}");
    drop(taken);
    let logs = (1..=3).map(|node| data.join(format!("node-{node}/node.log")));
    assert!(logs.into_iter().all(|log| !log.exists()), "a child was started");
}

#[test]
fn node_that_cannot_start_stops_the_cluster_with_its_error() {
    let (_parent, data) = folder();
    let port = free_ports(3);
    Dev::start(&data, port).stop();
    let settings = data.join("node-2/node.toml");
    let text = std::fs::read_to_string(&settings).expect("settings");
    std::fs::write(&settings, format!("{text}\nshoe-size = 44\n")).expect("settings");
    let output = run(dev_command(&data, port).stderr(Stdio::piped()));
    let error = crate::support::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("synod: node 2 failed to start: "), "{error}");
    assert!(error.contains("unknown field `shoe-size`"), "{error}");
}
