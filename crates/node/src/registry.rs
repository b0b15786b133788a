//! The protocols that this program knows, by name. Adding one is an arm in each function here.

use crate::settings::Settings;
use anyhow::{Context, bail};
use synod_basic_paxos::BasicPaxos;
use synod_consensus::{ClusterTiming, Protocol};
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_replica::{Driver, Replica};
use synod_sim::search::Subject;
use synod_storage::Saved;
use synod_types::{Instant, Membership, NodeId, Slot};

/// Every protocol that can be asked for.
pub const PROTOCOLS: &[&str] = &[Raft::NAME, MultiPaxos::NAME, BasicPaxos::NAME];

/// The protocol of a cluster whose settings name none.
pub const DEFAULT_PROTOCOL: &str = Raft::NAME;

/// What a replica is recovered from.
#[derive(Debug)]
pub struct Recovery<'a> {
    /// The time.
    pub now: Instant,
    /// The node's settings; they name the protocol.
    pub settings: &'a Settings,
    /// The driver's settings.
    pub replica: synod_replica::Settings,
    /// What the log store holds.
    pub saved: &'a Saved,
    /// How far the state store has applied.
    pub applied: Slot,
}

/// Recovers the replica of the protocol that the settings name.
///
/// # Errors
/// If there is no such protocol, it does not take the settings, or the stores hold something else.
pub fn recover(recovery: Recovery<'_>) -> anyhow::Result<Box<dyn Driver>> {
    match recovery.settings.protocol.as_str() {
        Raft::NAME => open::<Raft>(recovery),
        MultiPaxos::NAME => open::<MultiPaxos>(recovery),
        BasicPaxos::NAME => open::<BasicPaxos>(recovery),
        unknown => bail!(no_such(unknown)),
    }
}

/// The simulation of a protocol, for searches and replays.
///
/// # Errors
/// If there is no such protocol.
pub fn simulator(protocol: &str) -> anyhow::Result<Subject> {
    let again = format!("synod sim --protocol {protocol}");
    match protocol {
        Raft::NAME => Ok(Subject::new::<Raft>(again, default_config::<Raft>)),
        MultiPaxos::NAME => Ok(Subject::new::<MultiPaxos>(again, default_config::<MultiPaxos>)),
        BasicPaxos::NAME => Ok(Subject::new::<BasicPaxos>(again, default_config::<BasicPaxos>)),
        unknown => bail!(no_such(unknown)),
    }
}

fn no_such(protocol: &str) -> String {
    format!("there is no protocol {protocol:?}; known: {}", PROTOCOLS.join(", "))
}

fn default_config<P: Protocol>(node: NodeId, members: &Membership) -> P::Config {
    P::config(node, members).expect("the simulator's nodes are members")
}

fn open<P: Protocol>(recovery: Recovery<'_>) -> anyhow::Result<Box<dyn Driver>> {
    let Recovery { now, replica, saved, applied, settings } = recovery;
    let timing = ClusterTiming {
        election: settings.timing.election.clone(),
        heartbeat: settings.timing.heartbeat,
        request: settings.request_timeout,
    };
    let config = P::config(settings.node, &settings.membership())
        .and_then(|config| P::with_cluster_timing(config, &timing))
        .context("the settings cannot be used")?;
    let replica = Replica::<P>::open(now, replica, config, saved, applied)
        .with_context(|| format!("the data in {} cannot be started on", settings.data.display()))?;
    Ok(Box::new(replica))
}
