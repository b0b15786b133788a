//! What `synod dev` tells its user.

use super::folder::{Folder, NodeDir};
use crate::server::NodeReport;
use crate::settings::StoreKind;
use std::fmt::Display;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// How much of a log is looked at for its last line.
const TAIL: usize = 4096;

/// All nodes are started.
pub(super) fn started(folder: &Folder, node_dirs: &[NodeDir], processes: &[u32], program: &Path) {
    let plan = &folder.plan;
    let nodes = if plan.nodes == 1 { "node" } else { "nodes" };
    say(format_args!(
        "Synod: {} {nodes} in {} ({}, {}), cluster {}\n",
        plan.nodes,
        folder.path.display(),
        plan.protocol,
        plan.store,
        plan.cluster
    ));
    for (node_dir, process) in node_dirs.iter().zip(processes) {
        let NodeDir { node, clients, peers, folder } = node_dir;
        say(format_args!(
            "  node {node}  clients {clients}  peers {peers}/udp  process {process}  {}",
            folder.display()
        ));
    }
    let program = short(program);
    // The commands ask three nodes from port 2379 if they are not told which.
    let endpoints = match (plan.client_port, plan.nodes) {
        (2379, 3) => String::new(),
        _ => format!(" --endpoints {}", endpoints(node_dirs)),
    };
    say("\nTry, in another shell:");
    say(format_args!("  {program} put{endpoints} hello world"));
    say(format_args!("  {program} get{endpoints} hello"));
    say(format_args!("  {program} status{endpoints}\n"));
}

/// The ports are taken by nodes of an earlier run, which end by themselves.
pub(super) fn waiting(processes: impl Iterator<Item = u32>) {
    let processes: Vec<_> = processes.map(|process| process.to_string()).collect();
    say(format_args!("Waiting for the nodes of an earlier run to end: {}", processes.join(", ")));
}

/// A node serves: the leader, or one of peers.
pub(super) fn ready(node: &NodeReport) {
    let what = if node.role == "peer" { "serves, and nobody leads" } else { "leads" };
    say(format_args!("ready: node {} {what}; Ctrl-C ends all", node.node));
}

/// A node has ended without being told to.
pub(super) fn ended(
    folder: &Folder,
    node_dir: &NodeDir,
    process: u32,
    status: ExitStatus,
    program: &Path,
) {
    let how = match status.signal() {
        Some(signal) => format!("was killed by signal {signal}"),
        None => format!("ended ({status}): {}", last_words(node_dir)),
    };
    let node = node_dir.node;
    if folder.plan.store == StoreKind::Memory {
        return say(format_args!(
            "node {node} (process {process}) {how}; it has forgotten its votes, so the others would \
             not let it in again: to have it back, stop all and run `synod dev` again"
        ));
    }
    say(format_args!(
        "node {node} (process {process}) {how}; to start it again:\n  {} start --config {}",
        short(program),
        node_dir.settings().display()
    ));
}

/// The last line of a node's log.
pub(super) fn last_words(node_dir: &NodeDir) -> String {
    let log = std::fs::read(node_dir.log()).unwrap_or_default();
    let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(TAIL)..]).into_owned();
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let line = line.map(|line| line.strip_prefix("synod: ").unwrap_or(line));
    line.map_or_else(|| format!("see {}", node_dir.log().display()), str::to_owned)
}

/// The path as a user in the current folder would write it.
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

/// A line for the user. That nobody reads it is no reason to end a cluster.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
