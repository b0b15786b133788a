//! Errors of stores.

use std::path::PathBuf;
use synod_types::{ClusterId, NodeId};

/// Error of a store. Every error is final for this process: after a failed write the content of the
/// disk is unknown, so the node must stop and must not retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system or the database reported an error.
    #[error("{path}: {reason}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Message of the operating system or the database.
        reason: String,
    },
    /// The stored content differs from the written content.
    #[error(
        "{path}: damaged: {reason}; do not start this node on it: restore the folder or \
         replace the node"
    )]
    Damaged {
        /// File or folder.
        path: PathBuf,
        /// Description of the damage.
        reason: String,
    },
    /// The folder does not contain a store of this kind.
    #[error("{path}: not a Synod store: {reason}")]
    Foreign {
        /// Folder of the store.
        path: PathBuf,
        /// Description of the content.
        reason: String,
    },
    /// The store belongs to another node or another cluster.
    #[error(
        "{path}: belongs to node {found_node} of cluster {found_cluster}, \
         not to node {node} of cluster {cluster}: check the node's configuration"
    )]
    WrongIdentity {
        /// Folder of the store.
        path: PathBuf,
        /// Node that the store belongs to.
        found_node: NodeId,
        /// Cluster that the store belongs to.
        found_cluster: ClusterId,
        /// Node that tried to open the store.
        node: NodeId,
        /// Cluster of the node that tried to open the store.
        cluster: ClusterId,
    },
    /// The store was written by a newer version of Synod.
    #[error(
        "{path}: written in format {found}, but this version of Synod supports formats up to \
         {known}: start a newer version"
    )]
    TooNew {
        /// Folder of the store.
        path: PathBuf,
        /// Format of the store.
        found: u32,
        /// Newest supported format.
        known: u32,
    },
}
