//! Opening of the stores that the settings name.

use crate::settings::{NodeSettings, StoreKind};
use synod_runtime::{DataDirError, Stores, open_data_dir};
use synod_storage::StoreIdentity;
use synod_types::NodeId;

/// Opens the stores that the settings name, or creates them if the data folder is new.
///
/// # Errors
/// If the folder cannot be used, belongs to another node, cluster or protocol, was written by a
/// newer version or under other members, or is damaged.
pub fn open(settings: &NodeSettings) -> Result<Stores, DataDirError> {
    match settings.store {
        StoreKind::Memory => Ok(Stores::in_memory()),
        StoreKind::Rocksdb => {
            let identity = StoreIdentity { cluster: settings.cluster, node: settings.node };
            let members = settings.members.iter().map(|member| NodeId(member.id));
            open_data_dir(&settings.data, settings.protocol.name(), identity, members)
        }
    }
}
