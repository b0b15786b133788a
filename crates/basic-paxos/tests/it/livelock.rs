//! Duels of proposers that outbid each other, and the backoff that ends them.

use crate::cluster::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;
use synod_basic_paxos::{Accepted, Acceptor, Message, Proposer, Single, Timer, Verdict};
use synod_consensus::Input;
use synod_types::{Instant, NodeId, Ticket};

/// Two proposers begin a higher ballot at each rejection, under an alternating schedule: no value is ever
/// chosen. The schedule is that of "Paxos Made Simple" §2.4.
#[test]
fn without_backoff_two_proposers_never_choose() {
    let mut acceptors: Vec<Acceptor<&str>> = vec![Acceptor::new(); 3];
    let ids = [N1, N2, N3];
    let mut proposers =
        [N1, N2].map(|id| Proposer::new(id, members(3, 0), if id == N1 { "a" } else { "b" }));
    let prepare_all = |proposer: &mut Proposer<&'static str>, acceptors: &mut Vec<Acceptor<_>>| {
        let ballot = proposer.prepare();
        let mut value = None;
        for (acceptor, id) in acceptors.iter_mut().zip(ids) {
            assert_eq!(acceptor.prepare(ballot), Verdict::Granted { changed: true });
            value = value.or(proposer.on_promise(id, ballot, acceptor.accepted().copied()));
        }
        (ballot, value.expect("a majority promised"))
    };
    let mut open = prepare_all(&mut proposers[0], &mut acceptors);
    for round in 0..1000 {
        let (older, newer) = (round % 2, 1 - round % 2);
        let next = {
            let seen = proposers[older].ballot();
            proposers[newer].observe(seen);
            prepare_all(&mut proposers[newer], &mut acceptors)
        };
        for (acceptor, id) in acceptors.iter_mut().zip(ids) {
            let verdict = acceptor.accept(open.0, open.1);
            let Verdict::Rejected { promised } = verdict else { panic!("{verdict:?}") };
            proposers[older].on_nack(id, open.0, promised);
        }
        open = next;
    }
    assert_eq!(proposers[1 - 999 % 2].ballot().round, 1001);
    assert!(
        acceptors.iter().all(|acceptor| acceptor.accepted().is_none()),
        "no acceptor ever voted"
    );
}

/// Rule by which a driver draws from the ranges that cores set.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waits {
    /// From the whole range: full jitter.
    Jitter,
    /// The end of the range: exponential backoff without randomness.
    Doubling,
    /// No wait at all after a rejection.
    Nothing,
}

/// Next event and its time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due(u64, u64, usize);

enum Event {
    Deliver(InFlight),
    Timer(NodeId, Timer, u64),
}

/// Runs a duel of `proposers` nodes, all voters, that propose at once. A message takes 4 to 6 ms, disks
/// take no time. Returns the number of round trips (10 ms) until a node learns the chosen value, and the
/// round of its ballot; `None` after 300 round trips.
fn duel(proposers: u64, waits: Waits, seed: u64) -> Option<(u64, u64)> {
    const MS: u64 = 1_000_000;
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut roll = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if below == 0 { 0 } else { random % below }
    };
    let mut cluster = Cluster::<Single>::new(proposers);
    let start = cluster.now.0;
    let (mut heap, mut events, mut count) = (BinaryHeap::new(), BTreeMap::new(), 0_usize);
    let mut armed: BTreeMap<(NodeId, Timer), (u64, std::ops::Range<Duration>)> = BTreeMap::new();
    let ids = cluster.ids();
    for id in &ids {
        cluster.node(*id).timers.remove(&Timer::CatchUp);
        let command = format!("v{id}").into_bytes().into();
        cluster.step(*id, Input::Propose { ticket: Ticket(id.0), command });
    }
    loop {
        let now = cluster.now.0;
        for flight in cluster.wire.drain(..) {
            let at = now + 4 * MS + roll(2 * MS);
            heap.push(Reverse(Due(at, count as u64, count)));
            events.insert(count, Event::Deliver(flight));
            count += 1;
        }
        for id in &ids {
            for (timer, running) in std::mem::take(&mut cluster.node(*id).timers) {
                if timer == Timer::CatchUp {
                    continue;
                }
                let range = running.range;
                let (from, to) = (range.start.as_nanos() as u64, range.end.as_nanos() as u64);
                let after = match waits {
                    _ if from > 0 => from + roll(to - from),
                    Waits::Jitter => roll(to),
                    Waits::Doubling => to,
                    Waits::Nothing => 0,
                };
                armed.insert((*id, timer), (count as u64, range));
                heap.push(Reverse(Due(cluster.now.0 + after, count as u64, count)));
                events.insert(count, Event::Timer(*id, timer, count as u64));
                count += 1;
            }
        }
        let Reverse(Due(at, _, index)) = heap.pop()?;
        let trips = (at - start) / (10 * MS);
        if trips > 300 {
            return None;
        }
        cluster.now = Instant(at);
        match events.remove(&index)? {
            Event::Deliver(flight) => {
                let round = match &flight.message {
                    Message::Accepted(Accepted { ballot, .. }) => ballot.round,
                    _ => 0,
                };
                let to = flight.to;
                cluster.inject(flight.from, to, flight.message);
                if cluster.commit_index(to) == 1 {
                    return Some((trips, round));
                }
            }
            Event::Timer(id, timer, number) => {
                if armed.get(&(id, timer)).is_some_and(|(newest, _)| *newest == number) {
                    cluster.step(id, Input::Timeout(timer));
                }
            }
        }
    }
}

/// Returns the mean and the worst of `count` duels, in round trips; 300 stands for no decision.
fn duels(proposers: u64, waits: Waits, count: u64) -> (u64, u64) {
    let trips = |seed| duel(proposers, waits, seed).map_or(300, |(trips, _)| trips);
    let trips: Vec<u64> = (1..=count).map(trips).collect();
    (trips.iter().sum::<u64>() / count, trips.into_iter().max().unwrap_or(0))
}

/// The doubling bound ends a duel after one or two round trips on average, whether waits are drawn from
/// the range below it or equal it. Proposers that never wait need 14 to 294.
#[test]
fn with_backoff_two_to_nine_proposers_choose() {
    for proposers in 2..=9 {
        let measure = |waits| {
            let (mean, worst) = duels(proposers, waits, 30);
            println!("{proposers} proposers, {waits:?}: {mean} round trips, {worst} at worst");
            (mean, worst)
        };
        for waits in [Waits::Jitter, Waits::Doubling] {
            let (mean, worst) = measure(waits);
            assert!(mean <= 3 && worst <= 12, "{proposers} proposers: {mean}, {worst} at worst");
        }
        let (mean, worst) = measure(Waits::Nothing);
        assert!(mean >= 6 && worst >= 20, "{proposers} proposers: {mean}, {worst} at worst");
    }
}
