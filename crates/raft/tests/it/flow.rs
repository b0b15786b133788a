//! Flow control over slow links, lossy links and links that recover.

use crate::cluster::*;
use std::collections::VecDeque;
use std::time::Duration;
use synod_consensus::{Message as _, SendWindow};
use synod_raft::{
    Append, AppendAck, AppendConflict, Heartbeat, HeartbeatAck, Limits, Message, Timer,
};
use synod_types::{Instant, Lane, NodeId, Slot, Term};

/// Removes the messages from `N1` to `N3` that are in flight, and returns them.
fn to_n3(cluster: &mut Cluster) -> Vec<Message> {
    cluster.intercept(N1, N3)
}

fn is_append_with_entries(message: &Message) -> bool {
    matches!(message, Message::Append(Append { run, .. }) if !run.values.is_empty())
}

/// Heartbeats overtake appends in flight, as under overload.
#[test]
fn heartbeats_name_acknowledged_entries_only() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    for ticket in 0..5 {
        cluster.propose(N1, ticket, "x");
    }
    let in_flight = to_n3(&mut cluster);
    cluster.deliver();
    for _ in 0..5 {
        cluster.advance(50);
        cluster.timeout(N1, Timer::Heartbeat);
        for message in to_n3(&mut cluster) {
            assert!(!is_append_with_entries(&message), "retransmission: {}", message.describe());
            if message.lane() != Lane::Control {
                continue;
            }
            let Message::Heartbeat(Heartbeat { prev, commit, .. }) = message else {
                panic!("{message:?}")
            };
            assert_eq!((prev, commit), (at(1, 1), Slot(1)), "n3 has acknowledged the no-op only");
            let replies = cluster.replies(N1, N3, message);
            assert_eq!(replies, [Message::HeartbeatAck(HeartbeatAck { term: Term(1), round: 0 })]);
            cluster.inject(N3, N1, replies[0].clone());
        }
        cluster.deliver();
    }
    for append in in_flight {
        cluster.inject(N1, N3, append);
    }
    cluster.deliver();
    assert_eq!(cluster.commands(N3).len(), 5);
}

/// While acknowledgements are overdue the leader sends probes, with back-off, and adds no entries to the
/// queue of the path.
#[test]
fn silent_peer_gets_probes_without_entries() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.propose(N1, 1, "x");
    assert!(to_n3(&mut cluster).iter().any(is_append_with_entries));
    cluster.deliver();
    let mut probes = 0;
    for beat in 0..40 {
        cluster.advance(50);
        cluster.timeout(N1, Timer::Heartbeat);
        if beat < 20 {
            cluster.propose(N1, 2 + beat, "y");
        }
        for message in to_n3(&mut cluster) {
            assert!(!is_append_with_entries(&message), "{}", message.describe());
            probes += u32::from(matches!(message, Message::Append(_)));
        }
        cluster.deliver();
    }
    assert!((4..8).contains(&probes), "{probes} probes in 2 s");
    // The peer returns. Its reply to the next probe shows which entries it lacks.
    cluster.heartbeat(N1);
    cluster.heartbeat(N1);
    assert_eq!(cluster.commands(N3).len(), 21);
}

/// Returns a cluster whose leader searches for the last common entry with `N3`, for the first time in this
/// term. Each append has one command. Also returns the appends that are still in flight, and the append of
/// the search.
fn searching() -> (Cluster, Vec<Message>, Message) {
    let limits = Limits { append_bytes: 1, ..Limits::default() };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.elect(N1);
    for ticket in 0..4 {
        cluster.propose(N1, ticket, "x");
    }
    let mut appends = to_n3(&mut cluster);
    cluster.deliver();
    // The first append is lost, so each later one conflicts.
    appends.remove(0);
    let answers = cluster.replies(N1, N3, appends.remove(0));
    let [Message::AppendConflict(AppendConflict { probe: 0, at: Slot(2), .. })] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    cluster.inject(N3, N1, answers[0].clone());
    let search = to_n3(&mut cluster);
    let [Message::Append(Append { probe: 1, prev, .. })] = &search[..] else {
        panic!("{search:?}")
    };
    assert_eq!(prev.slot, Slot(1));
    (cluster, appends, search[0].clone())
}

/// Every append after a lost one conflicts. Only the first of these replies has an effect.
#[test]
fn further_conflicts_of_one_lost_append_cause_no_retransmission() {
    let (mut cluster, appends, search) = searching();
    let mut conflicts = Vec::new();
    for append in appends {
        let answers = cluster.replies(N1, N3, append);
        assert!(
            matches!(answers[..], [Message::AppendConflict(AppendConflict { probe: 0, .. })]),
            "{answers:?}"
        );
        assert_eq!(cluster.replies(N3, N1, answers[0].clone()), [], "of an earlier search");
        conflicts.extend(answers);
    }
    // The search ends, and new appends carry the other entries: the earlier conflicts are not replies to
    // them.
    cluster.inject(N1, N3, search);
    assert!(cluster.deliver_one(), "the reply to the search");
    let appends = to_n3(&mut cluster);
    assert_eq!(appends.iter().filter(|it| is_append_with_entries(it)).count(), 3, "{appends:?}");
    for conflict in conflicts {
        assert_eq!(cluster.replies(N3, N1, conflict), [], "of an earlier search");
    }
    appends.into_iter().for_each(|append| cluster.inject(N1, N3, append));
    cluster.deliver();
    assert_eq!(cluster.commands(N3).len(), 4);
}

/// A late acknowledgement of an earlier append is true, but is no reply to the search.
#[test]
fn only_the_reply_to_the_latest_search_ends_it() {
    let (mut cluster, _, _) = searching();
    cluster.propose(N1, 9, "y");
    assert_eq!(to_n3(&mut cluster), [], "one append at a time");
    let ack = |probe, matched| {
        Message::AppendAck(AppendAck { term: Term(1), probe, matched: Slot(matched) })
    };
    cluster.inject(N3, N1, ack(0, 2));
    assert_eq!(to_n3(&mut cluster), [], "the reply to an earlier append ends no search");
    assert_eq!(cluster.status(N1).progress[2], (N3, Slot(2)), "but it is true");
    cluster.inject(N3, N1, ack(1, 2));
    let more = to_n3(&mut cluster);
    assert!(more.iter().any(is_append_with_entries), "{more:?}");
}

/// Links like those of the transport: the lane of appends has a rate and a bound, the control lane
/// overtakes it, and both have a delay of `delay`.
struct Links {
    rate: u64,
    delay: Duration,
    lanes: Vec<Link>,
    /// Bytes of appends that were sent.
    sent: usize,
    most_queued: usize,
    /// Node without a connection: only the newest frames of each lane to it are kept.
    offline: Option<NodeId>,
    next_beat: Instant,
}

struct Link {
    way: (NodeId, NodeId, Lane),
    free: Instant,
    queue: VecDeque<(Instant, usize, Message)>,
}

impl Links {
    const OFFLINE_FRAMES: usize = 64;
    const LANE_BYTES: usize = 16 << 20;

    fn new(rate: u64, delay: Duration) -> Self {
        let (lanes, next_beat) = (Vec::new(), Instant::ZERO);
        Self { rate, delay, lanes, sent: 0, most_queued: 0, offline: None, next_beat }
    }

    /// Cuts the connections of `node`: messages in flight are lost.
    fn cut(&mut self, node: NodeId) {
        self.offline = Some(node);
        for link in &mut self.lanes {
            if link.way.0 == node || link.way.1 == node {
                link.queue.clear();
            }
        }
    }

    /// Moves the messages from the cluster's wire to the links.
    fn collect(&mut self, cluster: &mut Cluster) {
        for flight in std::mem::take(&mut cluster.wire) {
            let way = (flight.from, flight.to, flight.message.lane());
            let bytes = match &flight.message {
                Message::Append(Append { run, .. }) => SendWindow::frame_bytes(&run.values),
                _ => 128,
            };
            if is_append_with_entries(&flight.message) {
                self.sent += bytes;
            }
            let at = self.lanes.iter().position(|link| link.way == way).unwrap_or_else(|| {
                self.lanes.push(Link { way, free: Instant::ZERO, queue: VecDeque::new() });
                self.lanes.len() - 1
            });
            let link = &mut self.lanes[at];
            if self.offline == Some(flight.to) || self.offline == Some(flight.from) {
                link.queue.push_back((cluster.now, bytes, flight.message));
                if link.queue.len() > Self::OFFLINE_FRAMES {
                    link.queue.pop_front();
                }
                continue;
            }
            let queued: usize = link.queue.iter().map(|(_, bytes, _)| bytes).sum();
            self.most_queued = self.most_queued.max(queued + bytes);
            if queued + bytes > Self::LANE_BYTES {
                continue;
            }
            let nanos =
                if way.2 == Lane::Log { bytes as u64 * 1_000_000_000 / self.rate } else { 0 };
            link.free = link.free.max(cluster.now) + Duration::from_nanos(nanos);
            link.queue.push_back((link.free + self.delay, bytes, flight.message));
        }
    }

    /// Runs until `end`, with a heartbeat each 50 ms.
    fn run(&mut self, cluster: &mut Cluster, end: Instant) {
        let heartbeat = Duration::from_millis(50);
        if self.next_beat + heartbeat < cluster.now {
            self.next_beat = cluster.now;
        }
        loop {
            self.collect(cluster);
            let offline = self.offline;
            let online = self
                .lanes
                .iter_mut()
                .filter(|link| offline != Some(link.way.0) && offline != Some(link.way.1));
            let arriving = online.filter_map(|link| Some((link.queue.front()?.0, link)));
            let next = arriving.min_by_key(|(arrival, _)| *arrival);
            match next {
                Some((arrival, link)) if arrival <= self.next_beat.min(end) => {
                    cluster.now = cluster.now.max(arrival);
                    let (_, _, message) = link.queue.pop_front().unwrap();
                    let (from, to, _) = link.way;
                    cluster.inject(from, to, message);
                }
                _ if self.next_beat <= end => {
                    cluster.now = cluster.now.max(self.next_beat);
                    self.next_beat = self.next_beat + heartbeat;
                    cluster.timeout(N1, Timer::Heartbeat);
                }
                _ => break,
            }
        }
        cluster.now = end;
    }
}

const BYTES: usize = 25_000;

/// Proposes `rate` commands of 25 KB a second, for `seconds`.
fn load(cluster: &mut Cluster, links: &mut Links, rate: u64, seconds: u64, ticket: &mut u64) {
    let command = "x".repeat(BYTES);
    for _ in 0..rate * seconds {
        *ticket += 1;
        cluster.propose(N1, *ticket, &command);
        let end = cluster.now + Duration::from_millis(1000 / rate);
        links.run(cluster, end);
    }
}

/// With 25 Mbit/s to each follower, 1 MB/s of writes and one burst of 10 MB, every entry is sent once to
/// each follower, the lane never overflows, and after the burst commits keep up again.
#[test]
fn burst_over_a_slow_link_sends_each_entry_once() {
    let mut cluster = Cluster::new(3);
    let mut links = Links::new(3_125_000, Duration::from_millis(1));
    cluster.elect(N1);
    let mut ticket = 0;
    load(&mut cluster, &mut links, 40, 1, &mut ticket);
    let burst = "x".repeat(BYTES);
    for _ in 0..400 {
        ticket += 1;
        cluster.propose(N1, ticket, &burst);
    }
    load(&mut cluster, &mut links, 40, 6, &mut ticket);
    let lag = ticket + 1 - cluster.commit_index(N1);
    assert!(lag <= 2, "{lag} commands are not committed");
    let needed = 2 * ticket as usize * BYTES;
    let ratio = links.sent as f64 / needed as f64;
    assert!(ratio < 1.05, "sent {ratio:.2} times what is needed");
    assert!(links.most_queued <= 2 << 20, "{} bytes in a lane", links.most_queued);
    assert!(cluster.node(N1).outputs.refused.is_empty());
}

/// A follower that was offline under load receives entries as fast as its link allows. The leader
/// retransmits at most a window: the entries that were queued when the connection was cut.
#[test]
fn follower_that_was_offline_under_load_catches_up() {
    let mut cluster = Cluster::new(3);
    let mut links = Links::new(3_125_000, Duration::from_millis(1));
    cluster.elect(N1);
    let mut ticket = 0;
    load(&mut cluster, &mut links, 40, 1, &mut ticket);
    links.cut(N3);
    load(&mut cluster, &mut links, 40, 5, &mut ticket);
    assert!(cluster.status(N3).last.0 < ticket - 190);
    links.offline = None;
    // 5 MB at 3.1 less 1 MB/s are 2.4 s.
    load(&mut cluster, &mut links, 40, 4, &mut ticket);
    let lag = ticket - (cluster.status(N3).last.0 - 1);
    assert!(lag <= 4, "{lag} commands behind");
    let needed = 2 * ticket as usize * BYTES;
    assert!(links.sent < needed + Limits::default().inflight_bytes, "{} of {needed}", links.sent);
}

/// With a round trip of 60 ms, after a far shorter one in the election, the window grows to the capacity of
/// a fast link.
#[test]
fn long_round_trip_does_not_limit_a_fast_link() {
    let mut cluster = Cluster::new(3);
    let mut links = Links::new(60_000_000, Duration::from_millis(30));
    cluster.elect(N1);
    let mut ticket = 0;
    load(&mut cluster, &mut links, 1000, 2, &mut ticket);
    let lag = ticket + 1 - cluster.commit_index(N1);
    assert!(lag <= 200, "{lag} commands of 1,000 a second are not committed");
}
