//! Arguments of `synod dev`.

use crate::settings::StoreKind;
use std::path::PathBuf;

/// Run a development cluster on this machine, one process per node.
///
/// Creates a folder with certificates and settings, or reuses it, and runs the nodes until Ctrl-C.
/// Prints a line that begins with `ready` once the cluster serves clients. To watch a failover, kill
/// a node: kill -9 PID. Node 1 listens for clients on the client port, node 2 on the next port, and so
/// on. With the default port, etcdctl reaches node 1 without --endpoints.
#[derive(Clone, Debug, clap::Args)]
pub struct Dev {
    /// Number of nodes. Default for a new folder: 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: Option<u16>,

    /// Folder of the cluster's certificates, settings, data and logs.
    #[arg(long, value_name = "DIR", default_value = "synod-dev")]
    pub data: PathBuf,

    /// Node 1's port for clients (TCP). Default for a new folder: 2379.
    #[arg(long, value_name = "PORT")]
    pub client_port: Option<u16>,

    /// Node 1's port for peers (UDP). Default for a new folder: the same
    /// number as the client port.
    #[arg(long, value_name = "PORT")]
    pub peer_port: Option<u16>,

    /// Consensus protocol: raft, multi-paxos or basic-paxos. Default for a new folder: raft.
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<String>,

    /// Storage of log and state. Default for a new folder: rocksdb, or memory in a build without
    /// RocksDB.
    #[arg(long, value_name = "STORE", ignore_case = true)]
    pub store: Option<StoreKind>,
}
