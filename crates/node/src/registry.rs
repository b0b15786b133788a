//! The replica and the simulation of each [`ProtocolKind`].

use crate::protocol::ProtocolKind;
use crate::settings::NodeSettings;
use std::sync::Arc;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::{ClusterTiming, Protocol};
use synod_kv::KvStore;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_runtime::{Replica, StartError, Stores};
use synod_sim::search::Target;
use synod_transport::Transport;
use synod_types::{Membership, NodeId};

/// Starts the replica of the protocol that the settings name.
///
/// # Errors
/// If the protocol rejects the settings, or the stores are of another node, cluster or protocol.
pub async fn start(
    settings: &NodeSettings,
    stores: Stores,
    transport: Arc<dyn Transport>,
) -> anyhow::Result<Replica> {
    match settings.protocol {
        ProtocolKind::Raft => start_protocol::<Raft>(settings, stores, transport).await,
        ProtocolKind::MultiPaxos => start_protocol::<MultiPaxos>(settings, stores, transport).await,
        ProtocolKind::BasicPaxos => start_protocol::<BasicPaxos>(settings, stores, transport).await,
    }
}

async fn start_protocol<P: Protocol>(
    settings: &NodeSettings,
    stores: Stores,
    transport: Arc<dyn Transport>,
) -> anyhow::Result<Replica> {
    let timing = ClusterTiming {
        election: settings.timing.election.clone(),
        heartbeat: settings.timing.heartbeat,
        request: settings.request_timeout,
    };
    let members = settings.members.iter().map(|member| (NodeId(member.id), member.peer.clone()));
    let started = Replica::builder::<P>(settings.cluster, settings.node)
        .members(members)
        .configure(move |config| P::with_cluster_timing(config, &timing))
        .stores(stores.log, stores.state)
        .transport(transport)
        .request_timeout(settings.request_timeout)
        .start_untyped(KvStore::new())
        .await;
    started.map_err(|error| match error {
        StartError::Open(error) => {
            let data = settings.data.display();
            anyhow::Error::new(error).context(format!("cannot start from the data in {data}"))
        }
        other => other.into(),
    })
}

/// Returns the simulation of a protocol, for searches and replays.
///
/// # Errors
/// If the protocol is unknown.
pub fn simulator(protocol: &str) -> anyhow::Result<Target> {
    let kind = protocol.parse::<ProtocolKind>().map_err(anyhow::Error::msg)?;
    let replay_command = format!("synod sim --protocol {protocol}");
    Ok(match kind {
        ProtocolKind::Raft => Target::new::<Raft>(replay_command, default_config::<Raft>),
        ProtocolKind::MultiPaxos => {
            Target::new::<MultiPaxos>(replay_command, default_config::<MultiPaxos>)
        }
        ProtocolKind::BasicPaxos => {
            Target::new::<BasicPaxos>(replay_command, default_config::<BasicPaxos>)
        }
    })
}

fn default_config<P: Protocol>(node: NodeId, members: &Membership) -> P::Config {
    P::config(node, members).expect("the simulator's nodes are members")
}
