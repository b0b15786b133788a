//! The protocols that this program knows, by name. Adding one is an arm in each function here.

use crate::settings::Settings;
use anyhow::{Context, bail};
use std::time::Duration;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_replica::{Driver, Replica};
use synod_sim::search::Subject;
use synod_storage::Saved;
use synod_types::{Instant, Membership, Slot};

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
        Raft::NAME => {
            let config = raft_config(recovery.settings).context("the settings cannot be used")?;
            open::<Raft>(recovery, config)
        }
        MultiPaxos::NAME => {
            let config = multi_paxos_config(recovery.settings);
            open::<MultiPaxos>(recovery, config.context("the settings cannot be used")?)
        }
        BasicPaxos::NAME => {
            let config = basic_paxos_config(recovery.settings);
            open::<BasicPaxos>(recovery, config.context("the settings cannot be used")?)
        }
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
        Raft::NAME => Ok(Subject::new::<Raft>(again, |node, members: &Membership| {
            let config = synod_raft::Config::new(node, members.clone());
            config.expect("the simulator's nodes are members")
        })),
        MultiPaxos::NAME => Ok(Subject::new::<MultiPaxos>(again, |node, members: &Membership| {
            let config = synod_multi_paxos::Config::new(node, members.clone());
            config.expect("the simulator's nodes are members")
        })),
        BasicPaxos::NAME => Ok(Subject::new::<BasicPaxos>(again, |node, members: &Membership| {
            let config = synod_basic_paxos::Config::new(node, members.clone());
            config.expect("the simulator's nodes are members")
        })),
        unknown => bail!(no_such(unknown)),
    }
}

fn no_such(protocol: &str) -> String {
    format!("there is no protocol {protocol:?}; known: {}", PROTOCOLS.join(", "))
}

fn open<P: Protocol>(recovery: Recovery<'_>, config: P::Config) -> anyhow::Result<Box<dyn Driver>> {
    let Recovery { now, replica, saved, applied, settings } = recovery;
    let replica = Replica::<P>::open(now, replica, config, saved, applied)
        .with_context(|| format!("the data in {} cannot be started on", settings.data.display()))?;
    Ok(Box::new(replica))
}

fn raft_config(settings: &Settings) -> Result<synod_raft::Config, synod_raft::ConfigError> {
    let timing = synod_raft::Timing {
        election: settings.timing.election.clone(),
        heartbeat: settings.timing.heartbeat,
    };
    synod_raft::Config::new(settings.node, settings.membership())?.with_timing(timing)
}

fn multi_paxos_config(
    settings: &Settings,
) -> Result<synod_multi_paxos::Config, synod_multi_paxos::ConfigError> {
    let timing = synod_multi_paxos::Timing {
        election: settings.timing.election.clone(),
        heartbeat: settings.timing.heartbeat,
    };
    synod_multi_paxos::Config::new(settings.node, settings.membership())?.with_timing(timing)
}

/// Nobody is elected and nobody's heart beats: the settings say how often a node asks the others
/// what it has missed, and how long it waits at most before it repeats itself. Round trips are
/// measured.
fn basic_paxos_config(
    settings: &Settings,
) -> Result<synod_basic_paxos::Config, synod_basic_paxos::ConfigError> {
    let hour = Duration::from_secs(3600);
    let timing = synod_basic_paxos::Timing {
        cap: settings.timing.election.end.min(hour),
        ask: settings.timing.heartbeat.min(hour),
        // At least half of its time is left to a command that gets a slot.
        queue: (settings.request_timeout / 2).clamp(Duration::from_millis(1), hour),
        ..synod_basic_paxos::Timing::default()
    };
    synod_basic_paxos::Config::new(settings.node, settings.membership())?.with_timing(timing)
}
