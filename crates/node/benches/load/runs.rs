//! The runs: what is loaded how, what is measured, and the goal.

use crate::load::{Load, everything};
use crate::machine;
use crate::support::{Nodes, Shape, page, status, wait_for};
use clap::builder::PossibleValuesParser;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use synod_etcd_api::proto::etcdserverpb as pb;
use synod_etcd_api::proto::etcdserverpb::request_op::Request as Op;

/// One run.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    /// Bound of the loopback, in megabits a second.
    pub(crate) mbit: Option<u32>,
    pub(crate) load: fn(&str) -> Outcome,
}

/// The measurement of a run, and its verdict.
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
];

const MB: f64 = 1e6;
const PATIENCE: Duration = Duration::from_secs(60);
const NODES: [usize; 3] = [0, 1, 2];

/// The names of all runs, for the command line.
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

/// A steady load, and forty megabytes at once on links of 200 Mbit/s.
fn burst(protocol: &str) -> Outcome {
    let nodes = start(protocol);
    let load = Load::new(&nodes.ports);
    load.offer(250, 16 << 10);
    sleep(10);
    let now = Instant::now();
    let before = load.rate(now - Duration::from_secs(6), now);
    let acknowledged = load.burst(40, 1 << 20);
    let ended = Instant::now();
    let back = load.back_after(ended, before * 0.9, Duration::from_secs(60));
    let amplification = sent(&nodes) / (copies(protocol, 2.0 / 3.0) * load.bytes() as f64);
    let text = format!(
        "{:.1} MB/s before, {acknowledged} of 40 MB acknowledged after {:.1} s, {}; {amplification:.2} \
         bytes sent for each byte needed, {} writes failed",
        before / MB,
        (ended - now).as_secs_f64(),
        said(back, "throughput back"),
        load.failed(),
    );
    let met = back.is_some_and(|back| back <= Duration::from_secs(5)) && amplification <= 1.2;
    Outcome { text, met }
}

/// A follower stops for ten seconds under load, on links of 100 Mbit/s.
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
        // The other one is asked first: at most what is written meanwhile may be missing.
        let goal = applied(leader);
        goal > 0 && applied(follower) + 50 >= goal
    };
    let mut back = None;
    while back.is_none() && since.elapsed() < PATIENCE {
        back = caught_up().then(|| since.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    // The client's own bytes cross the loopback, too.
    let spare = 100.0 * MB / 8.0 - before * (1.0 + copies(protocol, 0.5));
    let goal = 2.0 * before * AWAY as f64 / spare;
    let text = format!(
        "{:.1} MB/s; away for {AWAY} s, {} (goal {goal:.1} s); {:.2} bytes sent for each byte needed, \
         {} writes failed",
        before / MB,
        said(back, "caught up"),
        sent(&nodes) / (copies(protocol, 0.5) * load.bytes() as f64),
        load.failed()
    );
    Outcome { text, met: back.is_some_and(|back| back.as_secs_f64() <= goal) }
}

/// Eight clients read 24 MB each without pause while eight others write; then 64 reads at once.
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
    let term = terms(&nodes);
    let readers = Load::new(&nodes.ports);
    let replies = readers.readers(8, true);
    sleep(12);
    let now = Instant::now();
    let busy = (now - Duration::from_secs(10), now);
    let read = replies.load(Ordering::Relaxed);
    drop(readers);
    sleep(2);
    let crowd = Load::new(&nodes.ports[..1]);
    let crowd_since = Instant::now();
    let crowd_replies = crowd.readers(64, false);
    sleep(15);
    let crowded = (crowd_since, Instant::now());
    let moved = terms(&nodes) - term;
    let rate = |(from, to)| load.writes_per_second(from, to);
    let p99 = |(from, to)| load.p99(from, to);
    let text = format!(
        "{:.0} puts/s, p99 {:?}; beside 8 readers {:.0} puts/s, p99 {:?} ({read} replies); beside 64 \
         readers of one node {:.0} puts/s, p99 {:?} ({} replies); {moved} elections",
        rate(quiet),
        p99(quiet),
        rate(busy),
        p99(busy),
        rate(crowded),
        p99(crowded),
        crowd_replies.load(Ordering::Relaxed),
    );
    let met = rate(busy) >= rate(quiet) / 2.0 && p99(busy) < p99(quiet) * 5 && moved == 0;
    Outcome { text, met }
}

/// Three hundred clients write 100 KB each on disks of 10 MB/s.
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
    let term = terms(&nodes);
    let load = Load::new(&nodes.ports);
    load.clients(300, 100_000);
    sleep(40);
    let now = Instant::now();
    let rate = load.rate(now - Duration::from_secs(30), now);
    let moved = terms(&nodes) - term;
    let text = format!(
        "{:.1} MB/s of a disk's {:.0}, {:.0} puts/s, p99 {:?}; {moved} elections, {} writes failed",
        rate / MB,
        RATE as f64 / MB,
        rate / 1e5,
        load.p99(now - Duration::from_secs(30), now),
        load.failed()
    );
    Outcome { text, met: moved == 0 && rate >= 0.8 * RATE as f64 }
}

/// Transactions of 127 reads of everything and one write, on a store of a mebibyte.
fn ranges(protocol: &str) -> Outcome {
    let mut nodes = start(protocol);
    let load = Load::new(&nodes.ports);
    assert_eq!(load.burst(64, 16 << 10), 64, "the store is filled");
    let memory = |nodes: &mut Nodes| {
        NODES.map(|index| machine::resident_bytes(nodes.process(index).0.id())).iter().sum::<u64>()
    };
    let before = memory(&mut nodes);
    let op = |request| pb::RequestOp { request: Some(request) };
    let mut success = vec![op(Op::RequestRange(everything(false))); 127];
    success.push(op(Op::RequestPut(pb::PutRequest { key: "k".into(), ..Default::default() })));
    let request = pb::TxnRequest { success, ..Default::default() };
    let answer = load.with(0, |mut client| async move { client.txn(request).await });
    let answer = match answer {
        Ok(_) => "answered".to_owned(),
        Err(status) => format!("refused ({:?}: {})", status.code(), status.message()),
    };
    let grown = memory(&mut nodes).saturating_sub(before) as f64 / 3.0 / MB;
    let text = format!("{answer}; {grown:.0} MB more a node");
    Outcome { text, met: grown < 40.0 }
}

/// All nodes stop, two lose their data, all start: the third never serves a mixture of two
/// histories, which two nodes with different digests at one slot show.
fn wiped(protocol: &str) -> Outcome {
    let mut nodes = start(protocol);
    let survivor = 0;
    assert_eq!(Load::new(&nodes.ports).burst(100, 1000), 100, "the store is filled");
    nodes.wait_until_equal(PATIENCE);
    let before = status(nodes.ports[survivor]).expect("a node tells of itself");
    nodes.kill_all();
    for index in [1, 2] {
        std::fs::remove_dir_all(nodes.file(&format!("data-{}", index + 1))).expect("a folder");
    }
    NODES.iter().for_each(|index| nodes.start(*index));
    wait_for("the wiped nodes serve", PATIENCE, || status(nodes.ports[1]));
    let taken = Load::new(&nodes.ports[1..]).burst(200, 500);
    sleep(5);
    let (met, what) = if nodes.process(survivor).ended().is_some() {
        (true, format!("it stopped: {}", nodes.last_words(survivor)))
    } else {
        let [third, others @ ..] = NODES.map(|index| status(nodes.ports[index]));
        let third = third.expect("a node tells of itself");
        let mut others = others.into_iter().flatten();
        if third.digest == before.digest {
            (true, "it keeps its state and takes nothing new".to_owned())
        } else if others.any(|it| it.applied == third.applied && it.digest != third.digest) {
            (false, "IT SERVES A MIXTURE".to_owned())
        } else {
            (true, format!("its history goes on, applied through slot {}", third.applied))
        }
    };
    let text =
        format!("two of three wiped, {taken} of 200 new writes acknowledged; the third: {what}");
    Outcome { text, met }
}

/// All nodes start again on a long log.
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
    nodes.wait_until_equal(PATIENCE);
    // By then the state is on disk as far as it is applied.
    sleep(8);
    nodes.kill_all();
    let since = Instant::now();
    NODES.iter().for_each(|index| nodes.start(*index));
    wait_for("the last node listens", Duration::from_secs(120), || {
        NODES.iter().all(|index| status(nodes.ports[*index]).is_some()).then_some(())
    });
    let up = since.elapsed();
    nodes.leader(&NODES);
    let led = since.elapsed();
    let load = Load::new(&nodes.ports);
    assert_eq!(load.burst(1, 10), 1, "the cluster serves");
    let served = since.elapsed();
    let sent = sent(&nodes);
    let text = format!(
        "{entries} entries: nodes up after {:.1} s, a leader {:.2} s later, a write {:.2} s later; \
         {:.2} MB sent",
        up.as_secs_f64(),
        (led - up).as_secs_f64(),
        (served - up).as_secs_f64(),
        sent / MB
    );
    Outcome { text, met: led - up <= Duration::from_secs(1) && sent < 1.0 * MB }
}

/// Number of times that a write has to cross the network between the nodes: to two followers, and to the
/// leader where `forwarded` of the clients ask another node. Basic Paxos forwards nothing.
fn copies(protocol: &str, forwarded: f64) -> f64 {
    if protocol == "basic-paxos" { 2.0 } else { 2.0 + forwarded }
}

/// Bytes of frames that all nodes have sent to their peers.
fn sent(nodes: &Nodes) -> f64 {
    let of = |port: &u16| {
        let metrics = page(*port, "/metrics").body;
        let lines = metrics.lines().filter(|line| line.starts_with("synod_peer_sent_bytes_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    nodes.ports.iter().map(of).sum()
}

/// The highest term that a node stands in.
fn terms(nodes: &Nodes) -> u64 {
    nodes.ports.iter().filter_map(|port| status(*port)).map(|report| report.term).max().unwrap_or(0)
}

fn said(after: Option<Duration>, what: &str) -> String {
    let mut text = String::new();
    let _ = match after {
        Some(after) => write!(text, "{what} after {:.1} s", after.as_secs_f64()),
        None => write!(text, "NOT {what} within {PATIENCE:?}"),
    };
    text
}

fn sleep(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}
