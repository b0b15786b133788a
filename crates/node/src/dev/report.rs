//! Output of `synod dev`.

use super::folder::{Folder, NodeDir};
use crate::server::NodeReport;
use crate::settings::StoreKind;
use std::fmt::Display;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// Number of bytes at the end of a log in which its last line is searched.
const TAIL_BYTES: usize = 4096;

/// Reports that all processes are started, with their addresses.
pub(super) fn started(folder: &Folder, node_dirs: &[NodeDir], processes: &[u32], program: &Path) {
    let plan = &folder.plan;
    let nodes = if plan.nodes == 1 { "node" } else { "nodes" };
    print(format_args!(
        "Synod: {} {nodes} in {} ({}, {}), cluster {}\n",
        plan.nodes,
        folder.path.display(),
        plan.protocol,
        plan.store,
        plan.cluster
    ));
    for (node_dir, process) in node_dirs.iter().zip(processes) {
        let NodeDir { node, clients, peers, folder } = node_dir;
        print(format_args!(
            "  node {node}  clients {clients}  peers {peers}/udp  process {process}  {}",
            folder.display()
        ));
    }
    let program = short(program);
    // Commands without --endpoints use three nodes from port 2379.
    let endpoints = match (plan.client_port, plan.nodes) {
        (2379, 3) => String::new(),
        _ => format!(" --endpoints {}", endpoints(node_dirs)),
    };
    print("\nTry, in another shell:");
    print(format_args!("  {program} put{endpoints} hello world"));
    print(format_args!("  {program} get{endpoints} hello"));
    print(format_args!("  {program} status{endpoints}\n"));
}

/// Reports a wait for the processes of an earlier run, which exit by themselves.
pub(super) fn waiting(processes: impl Iterator<Item = u32>) {
    let processes: Vec<_> = processes.map(|process| process.to_string()).collect();
    print(format_args!(
        "Waiting for processes of an earlier run to exit: {}",
        processes.join(", ")
    ));
}

/// Reports that the cluster serves: a node is the leader, or a peer of Basic Paxos is up.
pub(super) fn ready(node: &NodeReport) {
    let state = if node.role == "peer" { "serves without a leader" } else { "is the leader" };
    print(format_args!("ready: node {} {state}; press Ctrl-C to stop all nodes", node.node));
}

/// Reports that a node's process has exited unexpectedly.
pub(super) fn exited(
    folder: &Folder,
    node_dir: &NodeDir,
    process: u32,
    status: ExitStatus,
    program: &Path,
) {
    let how = match status.signal() {
        Some(signal) => format!("was killed by signal {signal}"),
        None => format!("exited ({status}): {}", last_log_line(node_dir)),
    };
    let node = node_dir.node;
    if folder.plan.store == StoreKind::Memory {
        return print(format_args!(
            "node {node} (process {process}) {how}; its votes in memory are lost, so its peers would \
             drop its messages: to restart it, stop all nodes and run `synod dev` again"
        ));
    }
    print(format_args!(
        "node {node} (process {process}) {how}; to restart it:\n  {} start --config {}",
        short(program),
        node_dir.settings().display()
    ));
}

/// Returns the last line of a node's log.
pub(super) fn last_log_line(node_dir: &NodeDir) -> String {
    let log = std::fs::read(node_dir.log()).unwrap_or_default();
    let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let line = line.map(|line| line.strip_prefix("synod: ").unwrap_or(line));
    line.map_or_else(|| format!("see {}", node_dir.log().display()), str::to_owned)
}

/// Returns the path of the program, relative to the current folder if it is below that.
fn short(program: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match program.strip_prefix(here) {
        Ok(below) => format!("./{}", below.display()),
        Err(_) => program.display().to_string(),
    }
}

fn endpoints(node_dirs: &[NodeDir]) -> String {
    node_dirs.iter().map(|node_dir| node_dir.clients.to_string()).collect::<Vec<_>>().join(",")
}

/// Prints a line. Ignores an error, such as a closed pipe, which is no reason to stop the cluster.
fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
