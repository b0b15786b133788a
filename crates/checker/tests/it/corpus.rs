//! Long histories like those of real tests: registers under faults with many unknown outcomes, key-value
//! stores with appends, unique values, transactions; linearizable and not.

use crate::reference::{End, Operation, Store, get, history, perform};
use std::time::{Duration, Instant};
use synod_checker::{
    Op, Options, Outcome, SearchLimit, Txn, TxnOp, Value, is_linearizable, to_json_lines,
};

/// Seeded random number generator, the same on every machine.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The operations of a history and their keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Workload {
    /// Reads, writes and compare-and-sets of this many values of one key.
    Cas(u64),
    /// Reads and writes with a unique value for each write.
    Unique,
    /// Gets, puts and appends of unique texts, on this many keys.
    Texts(u64),
    /// Gets and appends on this many keys. Some texts are suffixes of others: "1," is one of "11,".
    Suffixes(u64),
    /// Reads, writes and compare-and-sets of five values, on this many keys.
    Keys(u64),
    /// Transactions on two of this many keys, and plain operations.
    Transactions(u64),
}

/// The anomaly of a store that is not linearizable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Anomaly {
    None,
    /// One read near the end returns a value that was overwritten long before.
    Stale,
    /// One acknowledged write took no effect.
    Lost,
    /// One read returns a value that the key did not hold.
    Wrong,
    /// One compare-and-set succeeds without the expected value.
    Phantom,
}

/// The parameters of a generated history.
#[derive(Clone, Copy, Debug)]
pub struct HistorySpec {
    pub workload: Workload,
    pub anomaly: Anomaly,
    pub clients: usize,
    pub operations: usize,
    /// Percentage of operations with an unknown outcome.
    pub unknown_percent: u64,
    pub seed: u64,
}

/// The state of a client.
enum Client {
    Idle,
    /// The operation has begun.
    Invoked(usize),
    /// The operation has taken effect, with this outcome.
    Executed(usize, Option<Outcome>),
}

impl HistorySpec {
    fn init(self) -> Value {
        let has_texts = matches!(self.workload, Workload::Texts(_) | Workload::Suffixes(_));
        if has_texts { Value::from("") } else { Value::Nil }
    }

    pub fn options(self) -> Options {
        Options { init: self.init(), ..Options::default() }
    }

    /// Simulates the clients and returns what they record.
    pub fn generate(self) -> Vec<Operation> {
        let (mut rng, init) = (Rng(self.seed), self.init());
        let (mut store, mut recorded) = (Store::new(), Vec::<Operation>::new());
        let mut clients: Vec<_> = (0..self.clients).map(|_| Client::Idle).collect();
        // Abandoned operations, which may take effect later.
        let mut unresolved: Vec<usize> = Vec::new();
        let mut old_store = Store::new();
        let anomaly_at = self.operations * 3 / 4;
        let mut is_done = self.anomaly == Anomaly::None;
        let mut now = 0;
        while recorded.len() < self.operations
            || clients.iter().any(|it| !matches!(it, Client::Idle))
        {
            now += 1;
            if recorded.len() == self.operations / 2 {
                old_store.clone_from(&store);
            }
            if !unresolved.is_empty() && rng.chance(2) {
                let index = unresolved.swap_remove(rng.below(unresolved.len() as u64) as usize);
                perform(&mut store, &init, &recorded[index].op);
            }
            let at = rng.below(clients.len() as u64) as usize;
            clients[at] = match std::mem::replace(&mut clients[at], Client::Idle) {
                Client::Idle if recorded.len() == self.operations => Client::Idle,
                Client::Idle => {
                    let op = self.op(&mut rng, recorded.len());
                    recorded.push(Operation { op, begin: now, end: usize::MAX, result: End::Open });
                    Client::Invoked(recorded.len() - 1)
                }
                Client::Invoked(index) if rng.chance(self.unknown_percent) => {
                    (recorded[index].result, recorded[index].end) = (End::Abandoned, now);
                    unresolved.push(index);
                    Client::Idle
                }
                Client::Invoked(index) => {
                    let op = &recorded[index].op;
                    let mut outcome = None;
                    if !is_done && index >= anomaly_at {
                        outcome = self.anomalous_outcome(op, &store, &old_store, &mut rng);
                        is_done = outcome.is_some();
                    }
                    let outcome = outcome.or_else(|| perform(&mut store, &init, op));
                    Client::Executed(index, outcome)
                }
                Client::Executed(index, outcome) => {
                    recorded[index].end = now;
                    recorded[index].result = outcome.map_or(End::Failed, End::Done);
                    Client::Idle
                }
            };
        }
        recorded
    }

    fn op(self, rng: &mut Rng, number: usize) -> Op {
        let word = format!("x {number} y");
        let key = |rng: &mut Rng, keys: u64| format!("{}", rng.below(keys));
        match self.workload {
            Workload::Cas(values) => match rng.below(3) {
                0 => Op::get("r"),
                1 => Op::put("r", rng.below(values)),
                _ => Op::cas("r", rng.below(values), rng.below(values)),
            },
            Workload::Suffixes(keys) if rng.chance(50) => Op::get(key(rng, keys)),
            Workload::Suffixes(keys) => Op::append(key(rng, keys), format!("{number},")),
            Workload::Keys(keys) => match (rng.below(3), key(rng, keys)) {
                (0, key) => Op::get(key),
                (1, key) => Op::put(key, rng.below(5)),
                (_, key) => Op::cas(key, rng.below(5), rng.below(5)),
            },
            Workload::Unique if rng.chance(50) => Op::get("r"),
            Workload::Unique => Op::put("r", number as u64),
            Workload::Texts(keys) => match rng.below(10) {
                0..5 => Op::get(key(rng, keys)),
                5..9 => Op::append(key(rng, keys), word),
                _ => Op::put(key(rng, keys), word),
            },
            Workload::Transactions(keys) => match rng.below(10) {
                0..4 => Op::get(key(rng, keys)),
                4..7 => Op::put(key(rng, keys), rng.below(5)),
                _ => {
                    let (one, two) = (key(rng, keys), key(rng, keys));
                    let txn = Txn::new().when(one.clone(), rng.below(5));
                    let txn = txn.then(TxnOp::put(one, rng.below(5)));
                    txn.then(TxnOp::put(two.clone(), rng.below(5)))
                        .otherwise(TxnOp::get(two))
                        .into()
                }
            },
        }
    }

    /// Returns an outcome that shows the anomaly, if it can occur here.
    fn anomalous_outcome(
        self,
        op: &Op,
        store: &Store,
        old: &Store,
        rng: &mut Rng,
    ) -> Option<Outcome> {
        let init = self.init();
        match (self.anomaly, op) {
            (Anomaly::Stale, Op::Get { key }) => {
                let (stale, fresh) = (get(old, &init, key), get(store, &init, key));
                (stale != fresh).then_some(Outcome::Read(stale))
            }
            (Anomaly::Wrong, Op::Get { key }) => match get(store, &init, key) {
                Value::Int(number) => Some(Outcome::Read(Value::Int((number + 1) % 5))),
                Value::Text(mut text) => {
                    text.truncate(text.len() / 2);
                    text.extend(format!("x {} y", rng.below(50)).bytes());
                    Some(Outcome::Read(Value::Text(text)))
                }
                _ => None,
            },
            (Anomaly::Lost, Op::Put { .. } | Op::Append { .. }) => Some(Outcome::Done),
            (Anomaly::Phantom, Op::Cas { key, old, .. }) => {
                (get(store, &init, key) != *old).then_some(Outcome::Done)
            }
            _ => None,
        }
    }
}

/// Returns `count` specs of all kinds.
pub fn specs(count: u64, operations: usize) -> Vec<HistorySpec> {
    let workloads = [
        Workload::Cas(2),
        Workload::Cas(5),
        Workload::Cas(5),
        Workload::Unique,
        Workload::Texts(1),
        Workload::Texts(10),
        Workload::Transactions(3),
    ];
    let anomalies =
        [Anomaly::None, Anomaly::Stale, Anomaly::Lost, Anomaly::Wrong, Anomaly::Phantom];
    let mut specs = Vec::new();
    for seed in 0..count {
        let mut rng = Rng(seed * 7919 + 1);
        let workload = workloads[rng.below(7) as usize];
        let has_swaps = matches!(workload, Workload::Cas(_));
        specs.push(HistorySpec {
            workload,
            anomaly: anomalies[rng.below(if has_swaps { 5 } else { 4 }) as usize],
            clients: [3, 5, 10, 20, 35, 60][rng.below(6) as usize],
            operations,
            unknown_percent: [0, 0, 2, 10, 50][rng.below(5) as usize],
            seed,
        });
    }
    specs
}

/// Returns `count` specs of moderate difficulty, each with the verdict if it is certain.
fn moderate(count: u64, operations: usize) -> impl Iterator<Item = (HistorySpec, Option<bool>)> {
    (0..count).map(move |seed| {
        let mut rng = Rng(seed * 104_729 + 3);
        let keys = 1 + rng.below(8);
        let workload = match rng.below(6) {
            0 => Workload::Cas(5),
            1 => Workload::Unique,
            2 => Workload::Texts(keys),
            3 => Workload::Suffixes(keys),
            _ => Workload::Keys(keys),
        };
        let has_distinct_values = !matches!(workload, Workload::Cas(_) | Workload::Keys(_));
        let anomaly = match (rng.below(5), has_distinct_values) {
            (0, true) => Anomaly::Stale,
            (0, false) => [Anomaly::Wrong, Anomaly::Phantom][rng.below(2) as usize],
            _ => Anomaly::None,
        };
        // A pending write could take effect just before a stale read of its value, which is no anomaly.
        let unknown_percent =
            [0, 2, 5, 10][rng.below(if anomaly == Anomaly::Stale { 1 } else { 4 }) as usize];
        let clients = 5 + rng.below(16) as usize;
        let spec = HistorySpec { workload, anomaly, clients, operations, unknown_percent, seed };
        // With few values the history may be linearizable despite the anomaly.
        let truth = [(Anomaly::None, true), (Anomaly::Stale, false)];
        (spec, truth.iter().find(|known| known.0 == anomaly).map(|known| known.1))
    })
}

/// The bound is on steps and not on time, so that the result is the same on every machine. A search without
/// any one of the pruning rules exceeds it by far.
#[test]
fn moderate_histories_are_decided_in_few_steps() {
    let (operations, max_thousands) = if cfg!(debug_assertions) { (100, 10) } else { (2_000, 300) };
    let (mut thousands, mut illegal) = (0, 0);
    for (spec, truth) in moderate(250, operations) {
        let history = history(&spec.generate());
        let options = Options { max_configurations: 20_000, ..spec.options() };
        // Called every 1,024 steps.
        let mut calls = 0;
        let mut stop = || {
            calls += 1;
            calls > 50
        };
        let verdict = is_linearizable(&history, &options, &mut stop);
        assert!(
            verdict.is_ok() && truth.is_none_or(|it| verdict == Ok(it)),
            "{verdict:?} {spec:?}"
        );
        thousands += calls;
        illegal += usize::from(verdict == Ok(false));
    }
    println!("{thousands} thousand steps, {illegal} illegal");
    assert!(
        thousands <= max_thousands,
        "{thousands} thousand steps, at most {max_thousands} allowed"
    );
    assert!((20..60).contains(&illegal), "{illegal} of 250 histories are illegal");
}

/// The places of appends are certain even if texts are suffixes of others.
#[test]
fn concurrent_appends_to_one_key_are_decided_in_few_configurations() {
    let operations = if cfg!(debug_assertions) { 500 } else { 2_000 };
    for seed in 0..10 {
        let (workload, clients) = (Workload::Suffixes(1), 50);
        let anomaly = if seed < 8 { Anomaly::None } else { Anomaly::Stale };
        let unknown_percent = if seed % 2 == 0 { 0 } else { 5 };
        let spec = HistorySpec { workload, anomaly, clients, operations, unknown_percent, seed };
        let options = Options { max_configurations: 10_000, ..spec.options() };
        let verdict = is_linearizable(&history(&spec.generate()), &options, &mut || false);
        assert_eq!(verdict, Ok(anomaly == Anomaly::None), "{spec:?}");
    }
}

/// Checks a history within a time limit. Returns the verdict and the duration.
fn timed(spec: HistorySpec, limit: Duration) -> (Result<bool, SearchLimit>, Duration) {
    let history = history(&spec.generate());
    let start = Instant::now();
    let mut stop = || start.elapsed() > limit;
    let verdict = is_linearizable(&history, &spec.options(), &mut stop);
    (verdict, start.elapsed())
}

#[test]
fn linearizable_histories_are_accepted_and_anomalies_are_found() {
    let mut unknown = 0;
    let mut found = 0;
    for spec in specs(250, 100) {
        let history = history(&spec.generate());
        let options = Options { max_configurations: 5_000, ..spec.options() };
        let verdict = is_linearizable(&history, &options, &mut || false);
        unknown += usize::from(verdict.is_err());
        if spec.anomaly == Anomaly::None {
            assert_ne!(verdict, Ok(false), "{spec:?}");
        } else {
            // With few values the history may be linearizable despite the anomaly.
            found += usize::from(verdict == Ok(false));
        }
    }
    assert!(found > 60, "{found} of 250 histories are illegal");
    assert!(unknown < 10, "{unknown} of 250 histories are unknown");
}

/// Prints the total time and the slowest histories; run it with `--ignored --nocapture`. With
/// `CORPUS=folder` it writes the histories to files for the program instead. `HISTORIES` and `OPERATIONS`
/// set the numbers; `ONLY` selects the specs whose debug text contains it.
#[test]
#[ignore = "measurement for a release build"]
fn measure_long_histories() {
    let number = |name: &str, other| std::env::var(name).map_or(other, |it| it.parse().unwrap());
    let only = std::env::var("ONLY").unwrap_or_default();
    let is_selected = |spec: &HistorySpec| format!("{spec:?}").contains(&only);
    let specs = specs(number("HISTORIES", 250), number("OPERATIONS", 2_000) as usize);
    let specs = specs.into_iter().filter(is_selected);
    if let Ok(folder) = std::env::var("CORPUS") {
        for spec in specs {
            let lines = to_json_lines(&history(&spec.generate()));
            let name = format!("{folder}/{:04}-{:?}.jsonl", spec.seed, spec.anomaly);
            std::fs::write(name, lines).unwrap();
        }
        return;
    }
    let mut rows: Vec<_> = specs
        .map(|spec| {
            let (verdict, time) = timed(spec, Duration::from_secs(5));
            (time, verdict, spec)
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    for (time, verdict, spec) in rows.iter().take(25) {
        println!("{time:>12?} {verdict:?} {spec:?}");
    }
    let total: Duration = rows.iter().map(|row| row.0).sum();
    let unknown = rows.iter().filter(|row| row.1.is_err()).count();
    let illegal = rows.iter().filter(|row| row.1 == Ok(false)).count();
    println!("{total:?} for {} histories; illegal {illegal}, unknown {unknown}", rows.len());
    // Highly concurrent transactions on several keys are out of reach at this length.
    let is_simple = |spec: &HistorySpec| !matches!(spec.workload, Workload::Transactions(_));
    assert!(!rows.iter().any(|row| row.1.is_err() && is_simple(&row.2)));
}
