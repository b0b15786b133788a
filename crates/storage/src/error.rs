//! What can go wrong with a store.

use std::path::PathBuf;
use synod_types::{ClusterId, NodeId};

/// Why a store cannot go on. Every one is final for this process: after a failed write the disk's
/// content is unknown, so the node must stop and must not try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system or the database refused.
    #[error("{path}: {reason}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// What is stored is not what was written.
    #[error(
        "{path}: damaged: {reason}; do not start this node on it: restore the folder or \
         replace the node"
    )]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The folder holds something else than a store of this kind.
    #[error("{path}: not a Synod store: {reason}")]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The store belongs to another node or another cluster.
    #[error(
        "{path}: belongs to node {found_node} of cluster {found_cluster}, \
         not to node {node} of cluster {cluster}"
    )]
    WrongIdentity {
        /// The folder.
        path: PathBuf,
        /// Whom the store belongs to.
        found_node: NodeId,
        /// And of which cluster.
        found_cluster: ClusterId,
        /// Who opened it.
        node: NodeId,
        /// And of which cluster.
        cluster: ClusterId,
    },
    /// A newer version of Synod wrote the store.
    #[error(
        "{path}: written in format {found}, this program reads up to format {known}: \
         run a newer version"
    )]
    TooNew {
        /// The folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
}
