//! Long histories like those that people record: registers under faults with many unanswered
//! operations, key-value stores with appends, unique values, transactions; honest and not.

use crate::reference::{Act, End, Store, get, history, perform};
use std::time::{Duration, Instant};
use synod_checker::{
    Bound, Op, Options, Outcome, Step, Txn, Value, is_linearizable, to_json_lines,
};

/// A small generator of random numbers: the same numbers on every machine.
pub struct Dice(pub u64);

impl Dice {
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

/// What is done with which keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Workload {
    /// Reads, writes and compare-and-sets of so many values of one key.
    Cas(u64),
    /// Reads and writes, and every write its own value.
    Unique,
    /// Gets, puts and appends of texts of their own, on as many keys.
    Texts(u64),
    /// Gets and appends on as many keys, where texts end others, as "1," and "11," do.
    Ends(u64),
    /// Reads, writes and compare-and-sets of five values, on as many keys.
    Keys(u64),
    /// Transactions on two of as many keys, among plain operations.
    Transactions(u64),
}

/// How the store fails to be a register.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fraud {
    None,
    /// One read near the end has seen what was overwritten long before.
    Stale,
    /// One acknowledged write did not happen.
    Lost,
    /// One read has seen another value than there was.
    Wrong,
    /// One compare-and-set that did not find its value was told that it did.
    Phantom,
}

/// A history to be made up.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub workload: Workload,
    pub fraud: Fraud,
    pub clients: usize,
    pub operations: usize,
    /// How many of a hundred operations are never answered.
    pub lost: u64,
    pub seed: u64,
}

/// What a client has under way.
enum Client {
    Idle,
    Asked(usize),
    Answered(usize, Option<Outcome>),
}

impl Recipe {
    fn init(self) -> Value {
        let has_texts = matches!(self.workload, Workload::Texts(_) | Workload::Ends(_));
        if has_texts { Value::from("") } else { Value::Nil }
    }

    pub fn options(self) -> Options {
        Options { init: self.init(), ..Options::default() }
    }

    pub fn acts(self) -> Vec<Act> {
        let (mut dice, init) = (Dice(self.seed), self.init());
        let (mut store, mut acts) = (Store::new(), Vec::<Act>::new());
        let mut clients: Vec<_> = (0..self.clients).map(|_| Client::Idle).collect();
        let mut limbo: Vec<usize> = Vec::new();
        let mut old_store = Store::new();
        let fraud_at = self.operations * 3 / 4;
        let mut is_done = self.fraud == Fraud::None;
        let mut now = 0;
        while acts.len() < self.operations || clients.iter().any(|it| !matches!(it, Client::Idle)) {
            now += 1;
            if acts.len() == self.operations / 2 {
                old_store.clone_from(&store);
            }
            if !limbo.is_empty() && dice.chance(2) {
                let index = limbo.swap_remove(dice.below(limbo.len() as u64) as usize);
                perform(&mut store, &init, &acts[index].op);
            }
            let at = dice.below(clients.len() as u64) as usize;
            clients[at] = match std::mem::replace(&mut clients[at], Client::Idle) {
                Client::Idle if acts.len() == self.operations => Client::Idle,
                Client::Idle => {
                    let op = self.op(&mut dice, acts.len());
                    acts.push(Act { op, begin: now, end: usize::MAX, result: End::Open });
                    Client::Asked(acts.len() - 1)
                }
                Client::Asked(index) if dice.chance(self.lost) => {
                    (acts[index].result, acts[index].end) = (End::Lost, now);
                    limbo.push(index);
                    Client::Idle
                }
                Client::Asked(index) => {
                    let op = &acts[index].op;
                    let mut happened = None;
                    if !is_done && index >= fraud_at {
                        happened = self.deceive(op, &store, &old_store, &mut dice);
                        is_done = happened.is_some();
                    }
                    let happened = happened.or_else(|| perform(&mut store, &init, op));
                    Client::Answered(index, happened)
                }
                Client::Answered(index, happened) => {
                    acts[index].end = now;
                    acts[index].result = happened.map_or(End::Failed, End::Done);
                    Client::Idle
                }
            };
        }
        acts
    }

    fn op(self, dice: &mut Dice, number: usize) -> Op {
        let word = format!("x {number} y");
        let key = |dice: &mut Dice, keys: u64| format!("{}", dice.below(keys));
        match self.workload {
            Workload::Cas(values) => match dice.below(3) {
                0 => Op::get("r"),
                1 => Op::put("r", dice.below(values)),
                _ => Op::cas("r", dice.below(values), dice.below(values)),
            },
            Workload::Ends(keys) if dice.chance(50) => Op::get(key(dice, keys)),
            Workload::Ends(keys) => Op::append(key(dice, keys), format!("{number},")),
            Workload::Keys(keys) => match (dice.below(3), key(dice, keys)) {
                (0, key) => Op::get(key),
                (1, key) => Op::put(key, dice.below(5)),
                (_, key) => Op::cas(key, dice.below(5), dice.below(5)),
            },
            Workload::Unique if dice.chance(50) => Op::get("r"),
            Workload::Unique => Op::put("r", number as u64),
            Workload::Texts(keys) => match dice.below(10) {
                0..5 => Op::get(key(dice, keys)),
                5..9 => Op::append(key(dice, keys), word),
                _ => Op::put(key(dice, keys), word),
            },
            Workload::Transactions(keys) => match dice.below(10) {
                0..4 => Op::get(key(dice, keys)),
                4..7 => Op::put(key(dice, keys), dice.below(5)),
                _ => {
                    let (one, two) = (key(dice, keys), key(dice, keys));
                    let txn = Txn::new().when(one.clone(), dice.below(5));
                    let txn = txn.then(Step::put(one, dice.below(5)));
                    txn.then(Step::put(two.clone(), dice.below(5))).otherwise(Step::get(two)).into()
                }
            },
        }
    }

    /// The answer of a store that cheats, if it can cheat here.
    fn deceive(self, op: &Op, store: &Store, old: &Store, dice: &mut Dice) -> Option<Outcome> {
        let init = self.init();
        match (self.fraud, op) {
            (Fraud::Stale, Op::Get { key }) => {
                let (stale, fresh) = (get(old, &init, key), get(store, &init, key));
                (stale != fresh).then_some(Outcome::Read(stale))
            }
            (Fraud::Wrong, Op::Get { key }) => match get(store, &init, key) {
                Value::Int(number) => Some(Outcome::Read(Value::Int((number + 1) % 5))),
                Value::Text(mut text) => {
                    text.truncate(text.len() / 2);
                    text.extend(format!("x {} y", dice.below(50)).bytes());
                    Some(Outcome::Read(Value::Text(text)))
                }
                _ => None,
            },
            (Fraud::Lost, Op::Put { .. } | Op::Append { .. }) => Some(Outcome::Done),
            (Fraud::Phantom, Op::Cas { key, old, .. }) => {
                (get(store, &init, key) != *old).then_some(Outcome::Done)
            }
            _ => None,
        }
    }
}

/// So many histories of all sorts.
pub fn recipes(count: u64, operations: usize) -> Vec<Recipe> {
    let workloads = [
        Workload::Cas(2),
        Workload::Cas(5),
        Workload::Cas(5),
        Workload::Unique,
        Workload::Texts(1),
        Workload::Texts(10),
        Workload::Transactions(3),
    ];
    let frauds = [Fraud::None, Fraud::Stale, Fraud::Lost, Fraud::Wrong, Fraud::Phantom];
    let mut recipes = Vec::new();
    for seed in 0..count {
        let mut dice = Dice(seed * 7919 + 1);
        let workload = workloads[dice.below(7) as usize];
        let has_swaps = matches!(workload, Workload::Cas(_));
        recipes.push(Recipe {
            workload,
            fraud: frauds[dice.below(if has_swaps { 5 } else { 4 }) as usize],
            clients: [3, 5, 10, 20, 35, 60][dice.below(6) as usize],
            operations,
            lost: [0, 0, 2, 10, 50][dice.below(5) as usize],
            seed,
        });
    }
    recipes
}

/// So many histories as moderate tests record them, and for each whether it is linearizable, if
/// that is certain.
fn moderate(count: u64, operations: usize) -> impl Iterator<Item = (Recipe, Option<bool>)> {
    (0..count).map(move |seed| {
        let mut dice = Dice(seed * 104_729 + 3);
        let keys = 1 + dice.below(8);
        let workload = match dice.below(6) {
            0 => Workload::Cas(5),
            1 => Workload::Unique,
            2 => Workload::Texts(keys),
            3 => Workload::Ends(keys),
            _ => Workload::Keys(keys),
        };
        let is_told_apart = !matches!(workload, Workload::Cas(_) | Workload::Keys(_));
        let fraud = match (dice.below(5), is_told_apart) {
            (0, true) => Fraud::Stale,
            (0, false) => [Fraud::Wrong, Fraud::Phantom][dice.below(2) as usize],
            _ => Fraud::None,
        };
        // A write that nobody answered could have happened just before a stale read of it.
        let lost = [0, 2, 5, 10][dice.below(if fraud == Fraud::Stale { 1 } else { 4 }) as usize];
        let clients = 5 + dice.below(16) as usize;
        let recipe = Recipe { workload, fraud, clients, operations, lost, seed };
        // With few values a fraud may go unnoticed.
        let truth = [(Fraud::None, true), (Fraud::Stale, false)];
        (recipe, truth.iter().find(|known| known.0 == fraud).map(|known| known.1))
    })
}

/// Bounded by the work and not by time, so that it says the same on every machine: a search that
/// goes astray comes to many more steps than these at once.
#[test]
fn moderate_histories_are_judged_in_few_steps() {
    let (operations, most) = if cfg!(debug_assertions) { (100, 10) } else { (2_000, 300) };
    let (mut thousands, mut illegal) = (0, 0);
    for (recipe, truth) in moderate(250, operations) {
        let history = history(&recipe.acts());
        let options = Options { max_configurations: 20_000, ..recipe.options() };
        // It is asked every 1,024 steps.
        let mut asked = 0;
        let mut stop = || {
            asked += 1;
            asked > 50
        };
        let verdict = is_linearizable(&history, &options, &mut stop);
        assert!(
            verdict.is_ok() && truth.is_none_or(|it| verdict == Ok(it)),
            "{verdict:?} {recipe:?}"
        );
        thousands += asked;
        illegal += usize::from(verdict == Ok(false));
    }
    println!("{thousands} thousand steps, {illegal} illegal");
    assert!(thousands <= most, "{thousands} thousand steps");
    assert!((20..60).contains(&illegal), "{illegal} are illegal");
}

/// Where texts end others the order of appends is clear all the same.
#[test]
fn crowded_appends_to_one_key_are_not_searched_for() {
    let operations = if cfg!(debug_assertions) { 500 } else { 2_000 };
    for seed in 0..10 {
        let (workload, clients) = (Workload::Ends(1), 50);
        let fraud = if seed < 8 { Fraud::None } else { Fraud::Stale };
        let lost = if seed % 2 == 0 { 0 } else { 5 };
        let recipe = Recipe { workload, fraud, clients, operations, lost, seed };
        let options = Options { max_configurations: 10_000, ..recipe.options() };
        let verdict = is_linearizable(&history(&recipe.acts()), &options, &mut || false);
        assert_eq!(verdict, Ok(fraud == Fraud::None), "{recipe:?}");
    }
}

/// Checks one, with a bound in time that ends in "unknown".
fn timed(recipe: Recipe, limit: Duration) -> (Result<bool, Bound>, Duration) {
    let history = history(&recipe.acts());
    let start = Instant::now();
    let mut stop = || start.elapsed() > limit;
    let verdict = is_linearizable(&history, &recipe.options(), &mut stop);
    (verdict, start.elapsed())
}

#[test]
fn no_honest_history_is_illegal_and_frauds_are_found() {
    let mut unknown = 0;
    let mut found = 0;
    for recipe in recipes(250, 100) {
        let history = history(&recipe.acts());
        let options = Options { max_configurations: 5_000, ..recipe.options() };
        let verdict = is_linearizable(&history, &options, &mut || false);
        unknown += usize::from(verdict.is_err());
        if recipe.fraud == Fraud::None {
            assert_ne!(verdict, Ok(false), "{recipe:?}");
        } else {
            // With few values a fraud may go unnoticed.
            found += usize::from(verdict == Ok(false));
        }
    }
    assert!(found > 60, "{found} frauds were found");
    assert!(unknown < 10, "{unknown} are unknown");
}

/// Run it with `--ignored --nocapture`: times, and the slowest. With `CORPUS=folder` it writes
/// the histories for the program instead; `HISTORIES`, `OPERATIONS` and `ONLY` (a part of what
/// describes a history) choose others.
#[test]
#[ignore = "a measurement, for a release build"]
fn scale() {
    let number = |name: &str, other| std::env::var(name).map_or(other, |it| it.parse().unwrap());
    let only = std::env::var("ONLY").unwrap_or_default();
    let chosen = |recipe: &Recipe| format!("{recipe:?}").contains(&only);
    let recipes = recipes(number("HISTORIES", 250), number("OPERATIONS", 2_000) as usize);
    let recipes = recipes.into_iter().filter(chosen);
    if let Ok(folder) = std::env::var("CORPUS") {
        for recipe in recipes {
            let lines = to_json_lines(&history(&recipe.acts()));
            let name = format!("{folder}/{:04}-{:?}.jsonl", recipe.seed, recipe.fraud);
            std::fs::write(name, lines).unwrap();
        }
        return;
    }
    let mut rows: Vec<_> = recipes
        .map(|recipe| {
            let (verdict, time) = timed(recipe, Duration::from_secs(5));
            (time, verdict, recipe)
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    for (time, verdict, recipe) in rows.iter().take(25) {
        println!("{time:>12?} {verdict:?} {recipe:?}");
    }
    let total: Duration = rows.iter().map(|row| row.0).sum();
    let unknown = rows.iter().filter(|row| row.1.is_err()).count();
    let illegal = rows.iter().filter(|row| row.1 == Ok(false)).count();
    println!("{total:?} for {} histories; illegal {illegal}, unknown {unknown}", rows.len());
    // Crowded transactions on several keys are out of reach at this length.
    let is_simple = |recipe: &Recipe| !matches!(recipe.workload, Workload::Transactions(_));
    assert!(!rows.iter().any(|row| row.1.is_err() && is_simple(&row.2)));
}
