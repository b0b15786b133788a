//! Tests of the suite.

use super::steps::{
    OBSERVATION, STEP_TIMEOUT, converge, crash, default_config, healthy, leader, others, put, run,
    server, until, write,
};
use crate::faults::kind::Fault;
use crate::faults::schedule::Schedule;
use crate::plan::Plan;
use crate::rng::SimRng;
use crate::runner::run::{record, replay, run_seed};
use crate::runner::spec::{RunKind, RunOptions, RunReport};
use goldenfile::Mint;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use synod_consensus::{Protocol, Role};
use synod_types::{Membership, NodeId, Slot};

/// Number of seeds that the suite runs; a campaign runs thousands.
const SEEDS: u64 = 20;
/// Number of load runs.
const LOAD_SEEDS: u64 = 16;

/// A healthy cluster elects one leader that all nodes follow. In a protocol without leaders every
/// node serves its own clients.
pub fn elects_a_leader<P: Protocol>() {
    for nodes in [3, 5] {
        let mut cluster = healthy::<P>(nodes);
        let leader = leader(&mut cluster);
        run(&mut cluster, Duration::from_secs(1));
        for node in others(&cluster, &[]) {
            let status = cluster.status(node).expect("no node crashed");
            if status.role == Role::Peer {
                assert_eq!(cluster.leader(), None);
                assert_eq!(status.leader, Some(node));
            } else {
                assert_eq!(status.leader, Some(leader), "{node:?}");
                assert_eq!(status.role == Role::Leader, node == leader, "{node:?}");
            }
        }
    }
}

/// Every node accepts writes, and every node applies them.
pub fn commits_writes_from_every_node<P: Protocol>() {
    let mut cluster = healthy::<P>(3);
    for node in others(&cluster, &[]) {
        write(&mut cluster, node, b'a' + node.0 as u8, b"here");
    }
    until(&mut cluster, "convergence", |cluster| cluster.has_converged());
    for node in others(&cluster, &[]) {
        for key in 1..=3 {
            assert_eq!(cluster.value(node, b'a' + key).as_deref(), Some(&b"here"[..]));
        }
    }
    converge(cluster);
}

/// A cluster of five nodes commits while its leader and another node are down.
pub fn commits_without_a_minority<P: Protocol>() {
    let mut cluster = healthy::<P>(5);
    let first = leader(&mut cluster);
    write(&mut cluster, first, b'a', b"before");
    let second = others(&cluster, &[first])[0];
    crash(&mut cluster, first);
    crash(&mut cluster, second);
    let alive = others(&cluster, &[first, second]);
    write(&mut cluster, alive[0], b'b', b"after");
    assert!(alive.iter().all(|node| Some(*node) != cluster.leader() || *node != first));
    cluster.heal();
    converge(cluster);
}

/// Without a majority no write is acknowledged. When the majority is back, the cluster commits
/// again.
pub fn commits_nothing_without_a_majority<P: Protocol>() {
    let mut cluster = healthy::<P>(3);
    let first = leader(&mut cluster);
    write(&mut cluster, first, b'a', b"before");
    for node in others(&cluster, &[first]) {
        crash(&mut cluster, node);
    }
    let chosen = cluster.chosen();
    let operation = put(&mut cluster, first, b'a', b"minority");
    run(&mut cluster, OBSERVATION);
    assert!(!cluster.is_done(operation), "a write was acknowledged without a majority");
    assert_eq!(cluster.chosen(), chosen);
    cluster.heal();
    write(&mut cluster, first, b'b', b"after");
    converge(cluster);
}

/// Acknowledged writes survive a crash of all nodes at once.
pub fn keeps_acknowledged_writes_when_all_restart<P: Protocol>() {
    let mut cluster = healthy::<P>(3);
    let first = leader(&mut cluster);
    for round in 0..5_u8 {
        write(&mut cluster, first, b'a' + round, &[b'0' + round]);
        for node in others(&cluster, &[]) {
            crash(&mut cluster, node);
        }
        assert_eq!(cluster.leader(), None);
        cluster.heal();
        until(&mut cluster, "a restart", |cluster| cluster.status(first).is_some());
    }
    let seen = cluster.chosen();
    write(&mut cluster, first, b'z', b"end");
    until(&mut cluster, "convergence", |cluster| cluster.has_converged());
    assert!(cluster.chosen() > seen);
    for node in others(&cluster, &[]) {
        for round in 0..5_u8 {
            let value = cluster.value(node, b'a' + round);
            assert_eq!(value.as_deref(), Some(&[b'0' + round][..]), "{node:?}");
        }
    }
    converge(cluster);
}

/// A leader in a minority partition acknowledges nothing while the majority commits; after healing,
/// all nodes converge.
pub fn recovers_after_a_partition<P: Protocol>() {
    let mut cluster = healthy::<P>(5);
    let first = leader(&mut cluster);
    let few = [first, others(&cluster, &[first])[0]];
    let many = others(&cluster, &few);
    cluster.partition(&few, &many);
    let isolated = put(&mut cluster, first, b'a', b"few");
    write(&mut cluster, many[0], b'a', b"many");
    run(&mut cluster, OBSERVATION);
    assert!(!cluster.is_done(isolated), "a write was acknowledged without a majority");
    assert_ne!(cluster.status(first).map(|status| status.role), Some(Role::Leader));
    cluster.heal();
    write(&mut cluster, first, b'b', b"healed");
    until(&mut cluster, "convergence", |cluster| cluster.has_converged());
    let value = |node| cluster.value(node, b'a');
    assert!(many.iter().all(|node| value(*node) == value(first)));
    converge(cluster);
}

/// A cluster of one node commits.
pub fn single_node_commits<P: Protocol>() {
    let (mut cluster, node) = (healthy::<P>(1), NodeId(1));
    write(&mut cluster, node, b'a', b"1");
    crash(&mut cluster, node);
    cluster.heal();
    until(&mut cluster, "a restart", |cluster| cluster.status(node).is_some());
    write(&mut cluster, node, b'b', b"2");
    assert_eq!(cluster.value(node, b'a').as_deref(), Some(&b"1"[..]));
    assert!(cluster.chosen() >= Slot(2));
    converge(cluster);
}

/// Another node leads while the disk of the leader is stalled.
pub fn leader_with_a_stalled_disk_is_replaced<P: Protocol>() {
    let mut cluster = healthy::<P>(3);
    let first = leader(&mut cluster);
    write(&mut cluster, first, b'a', b"before");
    cluster.stall_disk(first, STEP_TIMEOUT * 2);
    put(&mut cluster, first, b'a', b"stalled");
    until(&mut cluster, "another leader", |cluster| server(cluster, Some(first)).is_some());
    let second = server(&cluster, Some(first)).expect("another node serves");
    write(&mut cluster, second, b'b', b"after");
    cluster.heal();
    converge(cluster);
}

fn search<P: Protocol>(seed: u64) -> RunReport {
    let report = run_seed::<P>(default_config::<P>, seed, &RunOptions::default());
    if let Some(found) = &report.violation {
        panic!("seed {seed}: {found}");
    }
    report
}

/// Twenty seeds find no violation, and at least three quarters of them count.
pub fn survives_a_search<P: Protocol>() {
    let counted = (0..SEEDS).filter(|seed| search::<P>(*seed).counted).count();
    assert!(counted as u64 >= SEEDS * 3 / 4, "{counted} of {SEEDS} seeds count");
}

/// Seeds give the same results in debug and release builds, and on all machines: their hashes equal
/// those of the file `hashes.txt` in `fixtures`. Changes of the messages that nodes send change the
/// hashes; `UPDATE_GOLDENFILES=1` in the environment rewrites the file.
pub fn pinned_seeds_are_equal_in_every_build<P: Protocol>(fixtures: impl AsRef<Path>) {
    let mut mint = Mint::new(fixtures);
    let mut file = mint.new_goldenfile("hashes.txt").expect("a temporary file can be created");
    writeln!(file, "# seed hash events operations").expect("the temporary file can be written");
    for seed in 0..8 {
        let report = search::<P>(seed);
        let (hash, events, ops) = (report.hash, report.events, report.ops);
        writeln!(file, "{seed} {hash:016x} {events} {ops}")
            .expect("the temporary file can be written");
    }
}

/// Twenty seeds find no violation in clusters of four nodes with flexible quorums: three nodes for
/// phase 1, two for phase 2. `flexible` makes these settings. The simulator takes the quorums from
/// the protocol.
pub fn flexible_quorums_survive_a_search<P: Protocol>(flexible: fn(P::Config) -> P::Config) {
    let config = move |node, members: &Membership| flexible(default_config::<P>(node, members));
    let options = RunOptions { nodes: Some(4), ..RunOptions::default() };
    for seed in 100..120 {
        let report = run_seed::<P>(config, seed, &options);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

/// Under sustained load, throughput recovers after a burst or a fault, and bytes sent and written
/// per command do not multiply.
pub fn throughput_recovers_after_a_disturbance<P: Protocol>() {
    let options = RunOptions { kind: RunKind::Load, ..RunOptions::default() };
    for seed in 0..LOAD_SEEDS {
        let report = run_seed::<P>(default_config::<P>, seed, &options);
        assert_eq!(report.violation, None, "load run of seed {seed}");
        assert!(report.counted, "load run of seed {seed}");
    }
}

/// Runs of one seed are equal; runs of two seeds differ.
pub fn same_seed_gives_the_same_hash<P: Protocol>() {
    let (first, again) = (search::<P>(7), search::<P>(7));
    assert_eq!(first, again);
    assert_ne!(first.hash, search::<P>(8).hash);
}

/// Recorded faults, printed, parsed and replayed, reproduce the run; without them the run differs.
pub fn replays_its_own_schedule<P: Protocol>() {
    let options = RunOptions::default();
    for seed in 0..SEEDS / 2 {
        let (report, schedule) = record::<P>(default_config::<P>, seed, &options);
        let read: Schedule = schedule.to_string().parse().expect("the printed schedule is valid");
        assert_eq!(read, schedule, "seed {seed}");
        assert_eq!(replay::<P>(default_config::<P>, seed, &read, &options), report, "seed {seed}");
        let plain = replay::<P>(default_config::<P>, seed, &Schedule::default(), &options);
        assert_eq!((plain.violation, plain.faults.len()), (None, 0), "seed {seed}");
        assert_ne!(plain.hash, report.hash, "seed {seed}");
    }
}

/// A schedule with every kind of fault causes no violation, and each fault has an effect.
pub fn survives_one_of_each_fault<P: Protocol>() {
    let options = RunOptions { nodes: Some(5), ..RunOptions::default() };
    let mut fired = std::collections::BTreeSet::new();
    // Each run corrupts two disks of five for ever, which flexible quorums may not tolerate.
    let has_majorities = |seed: &u64| {
        let limits = Plan::draw(&mut SimRng::new(*seed), options.nodes).limits;
        limits.is_none_or(|limits| limits.bounds.quorums.is_none())
    };
    let seed = (3..).find(has_majorities).expect("most seeds draw no flexible quorums");
    for corruptions in
        [[Fault::TornWrite, Fault::BitFlip], [Fault::MisdirectedWrite, Fault::LoseAnyOrder]]
    {
        let schedule: Schedule = one_of_each(corruptions).parse().expect("a valid schedule");
        let report = replay::<P>(default_config::<P>, seed, &schedule, &options);
        assert_eq!(report.violation, None);
        for fault in corruptions {
            assert_eq!(report.faults.get(fault.name()), Some(&1), "{fault:?}");
        }
        fired.extend(report.faults.into_keys());
    }
    let missing = Fault::ALL.iter().filter(|fault| !fired.contains(fault.name()));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&Fault>::new());
}

fn one_of_each(corruptions: [Fault; 2]) -> String {
    let mut text = String::from(
        "at 0.000000000 skew 2 by 1000.0
         at 3.0 partition 1>4,1>5,4>1,5>1,2>4,2>5,4>2,5>2,3>4,3>5,4>3,5>3 for 1.0
         at 5.0 one_way 1>2,1>3,1>4,1>5 for 1.0
         at 7.0 isolate 2>1,2>3,2>4,2>5,1>2,3>2,4>2,5>2 for 1.0
         at 9.0 bridge 1>4,1>5,2>4,2>5,4>1,5>1,4>2,5>2 for 1.0
         at 11.0 ring 1>3,1>4,2>4,2>5,3>5,3>1,4>1,4>2,5>2,5>3 for 1.0
         at 13.0 clog 3>1,3>2,3>4,3>5 for 1.0
         at 15.0 pause 4 for 1.0
         at 17.0 slow_disk 1 for 1.0
         at 18.0 apply_stall 1 for 1.0
         at 18.0 disk_stall 3 for 3.0
         at 20.0 crash 3 keeps 0 0 drops_in_flight down 0.5
         at 20.6 crash_recovering 3 keeps 0 0 down 0.5
         at 21.2 slow_start 3 for 0.5
         at 22.0 fsync_error 1 keeps 0 all down 0.5 for 0.0
         at 24.0 disk_full 2 keeps 0 all down 0.5 for 1.0
         at 26.0 read_error 3 keeps 0 all down 0.5 for 1.0
         at 28.0 drift 1 ppm 200000 for 3.0
         at 30.0 jump_ahead 2 by 2.0
         at 32.0 jump_back 3 by 0.5
         at 34.0 crash_all 1 keeps 0 0 down 0.1 and 2 keeps 0 0 down 0.1 and 3 keeps 0 0 down 0.1 \
         and 4 keeps 0 0 down 0.1 and 5 keeps 0 0 down 0.1
        ",
    );
    for (index, fault) in corruptions.into_iter().enumerate() {
        let (second, node, name) = (36 + index, 4 + index, fault.name());
        let line = format!("at {second}.0 {name} {node} keeps 0 all down 0.1 seed 7\n");
        text.push_str(&line);
    }
    for (from, to) in (1..=5).flat_map(|from| (1..=5).map(move |to| (from, to))) {
        for (number, message_fault) in [
            (20, "loss"),
            (21, "duplicate 0.010000000"),
            (22, "delay_spike 1.000000000"),
            (23, "reorder"),
            (24, "replay 5.000000000"),
            (25, "corruption 77"),
        ] {
            text.push_str(&format!("message {from}>{to}#{number} {message_fault}\n"));
        }
    }
    text
}
