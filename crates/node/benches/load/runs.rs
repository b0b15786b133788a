//! The runs: each with its load, its measurements and its goal.

use crate::load::{Load, Replies, read_all_request};
use crate::machine;
use crate::support::{Nodes, Shape, page, status, wait_for};
use crate::wan::Wan;
use bytes::Bytes;
use clap::builder::PossibleValuesParser;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use synod_etcd_api::proto::etcdserverpb as pb;
use synod_etcd_api::proto::etcdserverpb::request_op::Request as Op;
use synod_node::server::NodeReport;

/// One run.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    /// Rate of the loopback in megabits per second, if limited.
    pub(crate) mbit: Option<u32>,
    pub(crate) load: fn(&str) -> Outcome,
}

/// Measurements of a run, and whether it met its goal.
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) met: bool,
}

pub(crate) const ALL: &[Run] = &[
    Run { name: "burst", mbit: Some(200), load: burst },
    Run { name: "away", mbit: Some(100), load: away },
    Run { name: "reads", mbit: None, load: reads },
    Run { name: "disk", mbit: None, load: slow_disk },
    Run { name: "ranges", mbit: None, load: ranges },
    Run { name: "wiped", mbit: None, load: wiped },
    Run { name: "restart", mbit: None, load: restart },
    Run { name: "wan", mbit: None, load: wan },
];

const MB: f64 = 1e6;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time from a burst until throughput has recovered.
const MAX_RECOVERY: Duration = Duration::from_secs(5);
/// Time span of the measurement after a burst: more than the timeout of the burst's writes.
const MEASURED: Duration = Duration::from_secs(20);
const NODES: [usize; 3] = [0, 1, 2];

/// Returns a parser for the names of runs.
pub(crate) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|run| run.name))
}

fn start(protocol: &str) -> Nodes {
    let shape = Shape { protocol, store: "rocksdb", settings: "" };
    let mut nodes = Nodes::new(&shape, |_, _, _| None);
    nodes.start_all();
    nodes.leader(&NODES);
    nodes
}

/// Run `burst`: adds a burst of forty megabytes to a steady load, on links of 200 Mbit/s.
fn burst(protocol: &str) -> Outcome {
    const WRITES: usize = 40;
    let nodes = start(protocol);
    let load = Load::new(&nodes.ports);
    load.offer(250, 16 << 10);
    sleep(10);
    let now = Instant::now();
    let before = load.rate(now - Duration::from_secs(6), now);
    let burst = load.send_burst(WRITES, 1 << 20);
    let recovery = load.recovery_time(burst.sent, before * 0.9, MEASURED);
    let acknowledged = load.acknowledged(burst);
    let amplification = sent(&nodes) / (copies(protocol, 2.0 / 3.0) * load.bytes() as f64);
    let text = format!(
        "{:.1} MB/s before, {}; {acknowledged} of {WRITES} writes of the burst acknowledged, {:.1} % \
         of the other writes failed ({}); {amplification:.2} bytes sent per byte needed",
        before / MB,
        recovery_text(recovery, "throughput recovered", MEASURED),
        100.0 * load.failed_share(),
        load.failed(),
    );
    // The link is too slow to transmit the whole burst within the timeout of all clients.
    let met = recovery.is_some_and(|recovery| recovery <= MAX_RECOVERY)
        && acknowledged * 4 >= WRITES * 3
        && amplification <= 1.2;
    Outcome { text, met }
}

/// Run `away`: pauses a follower for ten seconds under load, on links of 100 Mbit/s.
fn away(protocol: &str) -> Outcome {
    const AWAY: u64 = 10;
    let mut nodes = start(protocol);
    let leader = nodes.leader(&NODES);
    let follower = (leader + 1) % 3;
    let others: Vec<u16> =
        NODES.iter().filter(|it| **it != follower).map(|it| nodes.ports[*it]).collect();
    let load = Load::new(&others);
    load.offer(100, 16 << 10);
    sleep(5);
    let before = load.rate(Instant::now() - Duration::from_secs(4), Instant::now());
    nodes.process(follower).signal("STOP");
    sleep(AWAY);
    nodes.process(follower).signal("CONT");
    let since = Instant::now();
    let caught_up = || {
        let applied = |node: usize| status(nodes.ports[node]).map_or(0, |report| report.applied);
        // Read the leader's slot first: the follower may lag only by the writes since then.
        let goal = applied(leader);
        goal > 0 && applied(follower) + 50 >= goal
    };
    let mut recovery = None;
    while recovery.is_none() && since.elapsed() < TIMEOUT {
        recovery = caught_up().then(|| since.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    // The bytes between clients and nodes use the loopback as well.
    let spare = 100.0 * MB / 8.0 - before * (1.0 + copies(protocol, 0.5));
    let goal = 2.0 * before * AWAY as f64 / spare;
    let text = format!(
        "{:.1} MB/s; paused for {AWAY} s, {} (goal {goal:.1} s); {:.2} bytes sent per byte needed, \
         {} writes failed",
        before / MB,
        recovery_text(recovery, "caught up", TIMEOUT),
        sent(&nodes) / (copies(protocol, 0.5) * load.bytes() as f64),
        load.failed()
    );
    Outcome { text, met: recovery.is_some_and(|recovery| recovery.as_secs_f64() <= goal) }
}

/// Minimum number of complete replies of 24 MB per second, of all readers together.
const MIN_REPLIES: f64 = 1.0;

/// Run `reads`: eight clients read all 24 MB continuously while eight others write; then 64 clients read from
/// one node.
fn reads(protocol: &str) -> Outcome {
    let nodes = start(protocol);
    let preload = Load::new(&nodes.ports);
    for _ in 0..10 {
        // A thousand keys of 24 KB.
        assert_eq!(preload.burst(100, 24 << 10), 100, "the store is filled");
    }
    let load = Load::new(&nodes.ports);
    load.clients(8, 256);
    sleep(8);
    let now = Instant::now();
    let quiet = (now - Duration::from_secs(5), now);
    let term = highest_term(&nodes);
    let readers = Load::in_background(&nodes.ports);
    let replies = readers.readers(8, true);
    let since = Instant::now();
    sleep(12);
    let now = Instant::now();
    let busy = (now - Duration::from_secs(10), now);
    let read = replies_per_second(&replies, since);
    drop(readers);
    sleep(2);
    let crowd = Load::in_background(&nodes.ports[..1]);
    let crowd_replies = crowd.readers(64, false);
    let crowd_since = Instant::now();
    sleep(15);
    let crowded = (crowd_since, Instant::now());
    let crowd_read = replies_per_second(&crowd_replies, crowd_since);
    let elections = highest_term(&nodes) - term;
    let rate = |(from, to)| load.writes_per_second(from, to);
    let p99 = |(from, to)| load.p99(from, to);
    let text = format!(
        "{:.0} puts/s, p99 {:?}; with 8 readers {:.0} puts/s, p99 {:?} ({}); with 64 readers of one \
         node {:.0} puts/s, p99 {:?} ({}); {elections} elections",
        rate(quiet),
        p99(quiet),
        rate(busy),
        p99(busy),
        replies_text(read),
        rate(crowded),
        p99(crowded),
        replies_text(crowd_read),
    );
    let met = rate(busy) >= rate(quiet) / 2.0
        && p99(busy) < p99(quiet) * 5
        && rate(crowded) > 0.0
        && read.0 >= MIN_REPLIES
        && crowd_read.0 >= MIN_REPLIES
        && elections == 0;
    Outcome { text, met }
}

/// Returns the numbers of complete replies and of failed reads per second since an instant.
fn replies_per_second(replies: &Replies, since: Instant) -> (f64, f64) {
    let seconds = since.elapsed().as_secs_f64();
    let rate = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / seconds;
    (rate(&replies.whole), rate(&replies.failed))
}

fn replies_text((whole, failed): (f64, f64)) -> String {
    format!("{whole:.1} replies/s, {failed:.1}/s rejected or failed")
}

/// Run `disk`: three hundred clients write values of 100 KB continuously, on disks of 10 MB/s.
fn slow_disk(protocol: &str) -> Outcome {
    const RATE: u64 = 10_000_000;
    let shape = Shape { protocol, store: "rocksdb", settings: "" };
    let mut nodes = Nodes::new(&shape, |_, _, _| None);
    for index in NODES {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("--node").arg(nodes.file(&format!("{}.toml", index + 1)));
        command.args(["--rate", &RATE.to_string()]);
        nodes.start_as(index, command);
    }
    nodes.leader(&NODES);
    let term = highest_term(&nodes);
    let load = Load::new(&nodes.ports);
    load.clients(300, 100_000);
    sleep(40);
    let now = Instant::now();
    let rate = load.rate(now - Duration::from_secs(30), now);
    let elections = highest_term(&nodes) - term;
    let text = format!(
        "{:.1} MB/s of a disk's {:.0}, {:.0} puts/s, p99 {:?}; {elections} elections, {} writes failed",
        rate / MB,
        RATE as f64 / MB,
        rate / 1e5,
        load.p99(now - Duration::from_secs(30), now),
        load.failed()
    );
    Outcome { text, met: elections == 0 && rate >= 0.8 * RATE as f64 }
}

/// Run `ranges`: executes a transaction of 127 reads of all keys and one write, on a store of 1 MiB.
fn ranges(protocol: &str) -> Outcome {
    let mut nodes = start(protocol);
    let load = Load::new(&nodes.ports);
    assert_eq!(load.burst(64, 16 << 10), 64, "the store is filled");
    let memory = |nodes: &mut Nodes| {
        NODES.map(|index| machine::resident_bytes(nodes.process(index).0.id())).iter().sum::<u64>()
    };
    let before = memory(&mut nodes);
    let op = |request| pb::RequestOp { request: Some(request) };
    let mut success = vec![op(Op::RequestRange(read_all_request(false))); 127];
    success.push(op(Op::RequestPut(pb::PutRequest { key: "k".into(), ..Default::default() })));
    let request = pb::TxnRequest { success, ..Default::default() };
    let reply = load.with(0, |mut client| async move { client.txn(request).await });
    let reply = match reply {
        Ok(_) => "completed".to_owned(),
        Err(status) => format!("rejected ({:?}: {})", status.code(), status.message()),
    };
    let grown = memory(&mut nodes).saturating_sub(before) as f64 / 3.0 / MB;
    let text = format!("{reply}; {grown:.0} MB more memory per node");
    Outcome { text, met: grown < 40.0 }
}

/// Run `wiped`: wipes two of three stopped nodes and starts all. The third node must not serve a mixture of
/// its own history and the new one.
fn wiped(protocol: &str) -> Outcome {
    let mut nodes = start(protocol);
    let survivor = 0;
    let old = Load::new(&nodes.ports);
    assert_eq!(old.burst(100, 1000), 100, "the store is filled");
    nodes.wait_until_equal(TIMEOUT);
    // Wait until the applied state is saved to disk, so that the survivor has all of it.
    sleep(8);
    nodes.kill_all();
    for index in [1, 2] {
        std::fs::remove_dir_all(nodes.file(&format!("data-{}", index + 1))).expect("a folder");
    }
    NODES.iter().for_each(|index| nodes.start(*index));
    wait_for("the wiped nodes serve", TIMEOUT, || status(nodes.ports[1]));
    let new = Load::new(&nodes.ports[1..]);
    let acknowledged = new.burst(200, 500);
    sleep(5);
    let (met, result) = if nodes.process(survivor).ended().is_some() {
        (true, format!("stopped: {}", nodes.error_line(survivor)))
    } else {
        let compare = || {
            let all_keys = NODES.map(|index| keys(&nodes, index));
            compare_keys(&all_keys[survivor], &all_keys[1..], (&old.prefix(), &new.prefix()))
        };
        // Compare again after a failure: the node may only lag, and then it catches up.
        let mut comparison = compare();
        for _ in 0..15 {
            if comparison.0 {
                break;
            }
            sleep(1);
            comparison = compare();
        }
        comparison
    };
    let text = format!(
        "two of three wiped, {acknowledged} of 200 new writes acknowledged; third node: {result}"
    );
    Outcome { text, met }
}

/// Returns all keys of a node, or its error.
fn keys(nodes: &Nodes, index: usize) -> Result<BTreeSet<Bytes>, String> {
    let load = Load::new(&nodes.ports);
    let reply =
        load.with(index, |mut client| async move { client.range(read_all_request(true)).await });
    let kvs = reply.map_err(|status| status.message().to_owned())?.into_inner().kvs;
    Ok(kvs.into_iter().map(|kv| kv.key).collect())
}

/// Compares the survivor's keys with those of its peers. It serves a mixture if it has both old keys
/// that a peer lacks and new keys that this peer has: no key is deleted.
fn compare_keys(
    survivor: &Result<BTreeSet<Bytes>, String>,
    peers: &[Result<BTreeSet<Bytes>, String>],
    (old, new): (&str, &str),
) -> (bool, String) {
    let survivor = match survivor {
        Ok(keys) => keys,
        Err(error) => return (true, format!("rejects reads: {error}")),
    };
    let with = |prefix: &str| -> Vec<&Bytes> {
        survivor.iter().filter(|key| key.starts_with(prefix.as_bytes())).collect()
    };
    let (old, new) = (with(old), with(new));
    let is_mixed = |peer: &BTreeSet<Bytes>| {
        new.iter().any(|key| peer.contains(*key)) && old.iter().any(|key| !peer.contains(*key))
    };
    let (kept, added) = (old.len(), new.len());
    if peers.iter().flatten().any(is_mixed) {
        (false, format!("SERVES A MIXTURE: {kept} old keys and {added} of another history"))
    } else if kept < 100 {
        (false, format!("LOST STATE: {kept} of 100 old keys are left"))
    } else if added == 0 {
        (true, "keeps its state and accepts no new entries".to_owned())
    } else {
        (true, format!("continues its history: all old keys and {added} new ones"))
    }
}

/// Run `restart`: restarts all nodes with a long log.
fn restart(protocol: &str) -> Outcome {
    let entries: u64 =
        std::env::var("ENTRIES").ok().and_then(|it| it.parse().ok()).unwrap_or(500_000);
    let mut nodes = start(protocol);
    {
        let load = Load::new(&nodes.ports);
        load.clients(512, 100);
        wait_for("the log is long", Duration::from_secs(900), || {
            status(nodes.ports[0]).filter(|report| report.applied >= entries)
        });
    }
    nodes.wait_until_equal(TIMEOUT);
    // Wait until the applied state is saved to disk.
    sleep(8);
    nodes.kill_all();
    NODES.iter().for_each(|index| nodes.start(*index));
    let since = Instant::now();
    wait_for("all nodes reply", Duration::from_secs(120), || {
        NODES.iter().all(|index| status(nodes.ports[*index]).is_some()).then_some(())
    });
    let up = since.elapsed();
    wait_for("all nodes follow the same leader", TIMEOUT, || {
        has_common_leader(&nodes).then_some(())
    });
    let led = since.elapsed();
    let load = Load::new(&nodes.ports);
    assert_eq!(load.burst(1, 10), 1, "the cluster serves");
    let served = since.elapsed();
    let sent = sent(&nodes);
    let text = format!(
        "{entries} entries: a leader {:.2} s after the last node's start and {:.2} s after the last \
         node's first reply; a write {:.2} s after that; {:.2} MB sent",
        led.as_secs_f64(),
        (led - up).as_secs_f64(),
        (served - led).as_secs_f64(),
        sent / MB
    );
    // A node replies once its store is open, which takes longer with a longer log.
    Outcome { text, met: led - up <= Duration::from_secs(1) && sent < 1.0 * MB }
}

/// Returns whether all nodes follow the same leader, or are peers of Basic Paxos.
fn has_common_leader(nodes: &Nodes) -> bool {
    let reports: Option<Vec<_>> = nodes.ports.iter().map(|port| status(*port)).collect();
    let Some(reports) = reports else { return false };
    let first = &reports[0];
    let agrees = |it: &NodeReport| it.leader == first.leader && it.term == first.term;
    let is_peer = |it: &NodeReport| it.role == "peer";
    reports.iter().all(is_peer) || first.leader.is_some() && reports.iter().all(agrees)
}

/// Run `wan`: links with a round trip of 60 ms and 1 % packet loss. Measures the maximum throughput, then puts
/// on half of it as a steady load, then adds ten seconds of that load as one burst.
fn wan(protocol: &str) -> Outcome {
    const VALUE: usize = 16 << 10;
    let links = Wan::new(Duration::from_millis(30));
    let shape = Shape { protocol, store: "rocksdb", settings: "" };
    let mut nodes = Nodes::new(&shape, |_, from, to| (from != to).then(|| links.port(from, to)));
    links.open(&nodes.peers);
    nodes.start_all();
    nodes.leader(&NODES);
    let term = highest_term(&nodes);
    links.lose(10);
    let max = {
        let load = Load::new(&nodes.ports);
        load.clients(256, VALUE);
        sleep(15);
        let now = Instant::now();
        load.rate(now - Duration::from_secs(8), now)
    };
    sleep(3);
    let before_sent = sent(&nodes);
    let load = Load::new(&nodes.ports);
    let per_second = ((max / 2.0 / VALUE as f64) as u32).max(1);
    let offered = f64::from(per_second) * VALUE as f64;
    load.offer(per_second, VALUE);
    sleep(15);
    let now = Instant::now();
    let steady = load.rate(now - Duration::from_secs(8), now);
    let writes = (offered * 10.0) as usize >> 20;
    let burst = load.send_burst(writes, 1 << 20);
    let recovery = load.recovery_time(burst.sent, offered * 0.9, MEASURED * 2);
    let acknowledged = load.acknowledged(burst);
    let elections = highest_term(&nodes) - term;
    let needed = copies(protocol, 2.0 / 3.0) * load.bytes() as f64;
    let amplification = (sent(&nodes) - before_sent) / needed;
    let text = format!(
        "{:.2} MB/s at most, with {:.1} % packet loss; then {:.2} of {:.2} MB/s; after a burst of \
         {writes} MB {}; {acknowledged} writes of the burst acknowledged, {:.1} % of the other writes \
         failed; {amplification:.2} bytes sent per byte needed; {elections} elections",
        max / MB,
        100.0 * links.lost_share(),
        steady / MB,
        offered / MB,
        recovery_text(recovery, "throughput recovered", MEASURED * 2),
        100.0 * load.failed_share(),
    );
    let met = steady >= offered * 0.9
        && recovery.is_some_and(|recovery| recovery <= MAX_RECOVERY)
        && amplification <= 1.2
        && elections == 0;
    Outcome { text, met }
}

/// Returns the number of transmissions of a write between nodes: to two followers, and to the leader for
/// the share `forwarded` of writes that other nodes receive. Basic Paxos forwards nothing.
fn copies(protocol: &str, forwarded: f64) -> f64 {
    if protocol == "basic-paxos" { 2.0 } else { 2.0 + forwarded }
}

/// Returns the bytes of frames that all nodes have sent to their peers.
fn sent(nodes: &Nodes) -> f64 {
    let of = |port: &u16| {
        let metrics = page(*port, "/metrics").body;
        let lines = metrics.lines().filter(|line| line.starts_with("synod_peer_sent_bytes_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    nodes.ports.iter().map(of).sum()
}

/// Returns the highest term of the nodes.
fn highest_term(nodes: &Nodes) -> u64 {
    nodes.ports.iter().filter_map(|port| status(*port)).map(|report| report.term).max().unwrap_or(0)
}

fn recovery_text(after: Option<Duration>, what: &str, within: Duration) -> String {
    let mut text = String::new();
    let _ = match after {
        Some(after) => write!(text, "{what} after {:.1} s", after.as_secs_f64()),
        None => write!(text, "NOT {what} within {within:?}"),
    };
    text
}

fn sleep(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}
