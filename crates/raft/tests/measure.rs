//! Costs of Raft in the simulator: the message delays, messages and syncs that follow from the paper.

use synod_raft::types::{Membership, NodeId};
use synod_raft::{Config, Raft, Timing};
use synod_sim::measure::{
    ClientLoad, Effort, Profile, ProposerHome, SteadyState, Table, fail_over, steady,
};

const EFFORT: Effort = Effort { warm_up: 5, commands: 10, least: 100, seeds: 5 };

fn config(node: NodeId, members: &Membership, profile: &Profile) -> Config {
    let timing = Timing { election: profile.election.clone(), heartbeat: profile.heartbeat };
    Config::new(node, members.clone()).unwrap().with_timing(timing).unwrap()
}

fn load(nodes: u64, proposers: usize, first: ProposerHome) -> ClientLoad {
    ClientLoad { nodes, proposers, first }
}

fn run(profile: &Profile, load: ClientLoad) -> SteadyState {
    steady::<Raft>(config, profile, load, &EFFORT, 1).unwrap()
}

/// Returns the median and the worst latency, in one-way message delays.
fn delays(load: ClientLoad) -> [u128; 2] {
    let seen = run(&Profile::DELAYS, load).latencies;
    let unit = Profile::DELAYS.one_way().as_nanos();
    [seen.percentile(50), seen.worst()].map(|time| {
        let nanos = time.unwrap().as_nanos();
        assert_eq!(nanos % unit, 0, "no timer adds to the latency");
        nanos / unit
    })
}

#[test]
fn commit_takes_one_round_trip_at_the_leader_and_two_elsewhere() {
    for nodes in [3, 5] {
        assert_eq!(delays(load(nodes, 1, ProposerHome::Leader)), [2, 2]);
        // To the leader, from there to a majority and back, and then the commit index to the node.
        assert_eq!(delays(load(nodes, 1, ProposerHome::Elsewhere)), [4, 4]);
    }
    assert_eq!(
        delays(load(5, 64, ProposerHome::Leader)),
        [4, 4],
        "four of five proposers are at other nodes than the leader"
    );
}

#[test]
fn single_command_costs_an_append_an_ack_and_a_commit_for_each_follower() {
    for nodes in [3, 5] {
        let SteadyState { traffic, latencies, failed } =
            run(&Profile::LAN, load(nodes, 1, ProposerHome::Leader));
        let commands = latencies.len() as u64;
        assert_eq!((commands, failed), (EFFORT.least as u64, 0));
        let frames = commands * 3 * (nodes - 1);
        // Heartbeats add one message and its reply for each follower in 50 ms.
        assert!((frames..frames + frames / 20).contains(&traffic.frames), "{traffic:?}");
        assert_eq!(traffic.syncs, commands * nodes, "every disk syncs every command");
        let values = commands * 256 * (nodes - 1);
        assert!((values..values * 2).contains(&traffic.bytes), "{traffic:?}");
    }
}

#[test]
fn leader_syncs_at_the_same_time_as_its_followers() {
    let seen = run(&Profile::LAN, load(3, 1, ProposerHome::Leader)).latencies;
    let Profile { delay, sync, .. } = Profile::LAN;
    assert!(seen.percentile(0).unwrap() >= delay.start * 2 + sync, "{seen:?}");
    assert!(seen.worst().unwrap() <= delay.end * 2 + sync, "{seen:?}");
}

#[test]
fn concurrent_proposals_share_messages_and_syncs() {
    let each = |proposers| {
        let SteadyState { traffic, latencies, .. } =
            run(&Profile::LAN, load(3, proposers, ProposerHome::Leader));
        let commands = latencies.len() as u64;
        assert!(commands >= EFFORT.least as u64);
        (traffic.frames * 100 / commands, traffic.syncs * 100 / commands)
    };
    let (one, eight, many) = (each(1), each(8), each(64));
    assert!(eight.0 * 2 < one.0 && many.0 * 2 < eight.0, "{one:?} {eight:?} {many:?}");
    assert!(eight.1 * 2 < one.1 && many.1 * 2 < eight.1, "{one:?} {eight:?} {many:?}");
}

#[test]
fn failover_takes_about_an_election_timeout() {
    for profile in [Profile::LAN, Profile::WAN] {
        let load = load(3, 8, ProposerHome::Leader);
        let outages = fail_over::<Raft>(config, &profile, load, &EFFORT).unwrap();
        assert_eq!(outages.len() as u64, EFFORT.seeds);
        let median = outages.percentile(50).unwrap();
        // The last heartbeat may have arrived a whole interval before the crash of the leader.
        let least = profile.election.start - profile.heartbeat;
        assert!(outages.percentile(0).unwrap() >= least, "{outages:?}");
        assert!(median < profile.election.end + profile.one_way() * 10, "{outages:?}");
    }
}

#[test]
fn measurement_of_a_seed_is_reproducible() {
    let load = load(3, 8, ProposerHome::Elsewhere);
    assert_eq!(run(&Profile::WAN, load), run(&Profile::WAN, load));
    let outages = || fail_over::<Raft>(config, &Profile::LAN, load, &EFFORT).unwrap();
    assert_eq!(outages(), outages());
}

#[test]
fn table_has_a_row_for_every_load() {
    let mut table = Table::new(Effort::QUICK);
    table.add::<Raft>(config).unwrap();
    let loads: Vec<_> =
        table.rows().iter().map(|row| (row.load.nodes, row.load.proposers)).collect();
    let expected: Vec<_> = [3, 5].map(|nodes| [1, 1, 8, 64].map(|many| (nodes, many))).concat();
    assert_eq!(loads, expected);
    let text = table.to_string();
    assert_eq!(text.lines().filter(|line| line.starts_with("| raft |")).count(), loads.len());
}
