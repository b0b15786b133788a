//! Arguments of `synod dev`.

use crate::settings::StoreKind;
use std::path::PathBuf;

/// Run a cluster of real processes on this machine, to try things out.
///
/// Sets up a folder with certificates and settings (made once, then used again), runs each node
/// as a process of its own until Ctrl-C, and prints a line that begins with `ready` once the cluster
/// serves. Kill a node and watch: kill -9 PID. Node 1's clients are at the client port, node 2's
/// at the next, and so on; so etcdctl finds node 1 without a flag.
#[derive(Clone, Debug, clap::Args)]
pub struct Dev {
    /// How many nodes; 3 for a new folder.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: Option<u16>,

    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "synod-dev")]
    pub data: PathBuf,

    /// The first node's port for clients (TCP); 2379 for a new folder.
    #[arg(long, value_name = "PORT")]
    pub client_port: Option<u16>,

    /// The first node's port for the other nodes (UDP); for a new folder, the client port's number.
    #[arg(long, value_name = "PORT")]
    pub peer_port: Option<u16>,

    /// The consensus protocol: raft, multi-paxos or basic-paxos; raft for a new folder.
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<String>,

    /// Where the nodes keep their data; rocksdb for a new folder, or memory in a build without it.
    #[arg(long, value_name = "STORE", ignore_case = true)]
    pub store: Option<StoreKind>,
}
