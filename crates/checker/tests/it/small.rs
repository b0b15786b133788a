//! Small random histories of every kind, checked twice.

use crate::reference::{self, Act, End, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use synod_checker::{
    FailedCas, NilRead, Op, Options, Outcome, Step, Txn, Value, Verdict, check, is_linearizable,
    to_json_lines,
};

const PROCESSES: usize = 6;

/// Which operations a history has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flavor {
    /// Reads, writes and compare-and-sets of small numbers.
    Register,
    /// The same of one register that holds one of two values.
    Bit,
    /// Gets, puts, deletes and appends of texts.
    Texts,
    /// The same of one key, where some texts end others.
    Ends,
    /// Transactions on two keys among plain operations.
    Transactions,
    /// Everything at once.
    All,
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Nil), 8 => (0..3_u64).prop_map(Value::from)]
}

fn word() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["", "a", "b", "ab", "aa"]).prop_map(Value::from)
}

/// A text that others end with, or end.
fn ending() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["1", "1,", "11,", "111,", ",1,"]).prop_map(Value::from)
}

/// Several of them.
fn endings() -> impl Strategy<Value = Value> {
    vec(prop::sample::select(vec!["1", "1,", "11,", "111,"]), 0..4)
        .prop_map(|parts| Value::from(parts.concat()))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![3 => number(), 2 => word()]
}

fn key() -> impl Strategy<Value = Value> {
    prop_oneof![3 => Just(Value::from("x")), 1 => Just(Value::from("y"))]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        key().prop_map(Step::get),
        (key(), number()).prop_map(|(key, value)| Step::put(key, value)),
        key().prop_map(Step::delete),
    ]
}

fn txn() -> impl Strategy<Value = Op> {
    let compare = (key(), any::<bool>(), number());
    (vec(compare, 0..2), vec(step(), 0..3), vec(step(), 0..2)).prop_map(|parts| {
        let (compares, then, otherwise) = parts;
        let mut txn = Txn { then, otherwise, ..Txn::new() };
        for (key, equal, value) in compares {
            txn = if equal { txn.when(key, value) } else { txn.unless(key, value) };
        }
        txn.into()
    })
}

/// A compare-and-set as it is spelled where there are only transactions.
fn swap() -> impl Strategy<Value = Op> {
    (number(), number(), any::<bool>()).prop_map(|(old, new, looks)| {
        let txn = Txn::new().when("x", old).then(Step::put("x", new));
        if looks { txn.otherwise(Step::get("x")).into() } else { txn.into() }
    })
}

fn op(flavor: Flavor) -> BoxedStrategy<Op> {
    let get = || key().prop_map(Op::get);
    let put = |value: BoxedStrategy<Value>| (key(), value).prop_map(|(k, v)| Op::put(k, v));
    let cas = || (key(), number(), number()).prop_map(|(key, old, new)| Op::cas(key, old, new));
    let append = || (key(), word()).prop_map(|(key, value)| Op::append(key, value));
    let delete = || key().prop_map(Op::delete);
    let bit = || (0..2_u64).prop_map(Value::from);
    match flavor {
        Flavor::Bit => prop_oneof![
            2 => Just(Op::get("x")),
            3 => bit().prop_map(|value| Op::put("x", value)),
            2 => (bit(), bit()).prop_map(|(old, new)| Op::cas("x", old, new)),
        ]
        .boxed(),
        Flavor::Register => prop_oneof![get(), put(number().boxed()), cas()].boxed(),
        Flavor::Texts => {
            prop_oneof![3 => get(), 1 => put(word().boxed()), 1 => delete(), 3 => append()].boxed()
        }
        Flavor::Ends => prop_oneof![
            6 => Just(Op::get("x")),
            1 => endings().prop_map(|value| Op::put("x", value)),
            1 => Just(Op::delete("x")),
            1 => (endings(), endings()).prop_map(|(old, new)| Op::cas("x", old, new)),
            9 => ending().prop_map(|value| Op::append("x", value)),
        ]
        .boxed(),
        Flavor::Transactions => {
            prop_oneof![get(), put(number().boxed()), swap(), txn(), delete()].boxed()
        }
        Flavor::All => prop_oneof![
            get(),
            put(value().boxed()),
            cas(),
            append(),
            delete(),
            txn(),
            swap(),
            (key(), value(), value()).prop_map(|(key, old, new)| Op::cas(key, old, new)),
            (key(), 0..3_u64).prop_map(|(key, value)| Op::append(key, value)),
        ]
        .boxed(),
    }
}

/// What a process does at one of its turns.
#[derive(Clone, Debug)]
struct Turn {
    process: usize,
    op: Op,
    /// How the operation under way ends, and whether it took effect if that is not known.
    end: u8,
    /// Whether it takes effect when it is asked for, and not when it ends.
    early: bool,
    /// What the client is told instead of the truth.
    lie: Option<Value>,
}

fn turn(flavor: Flavor, lies: u32) -> impl Strategy<Value = Turn> {
    let lie = match flavor {
        Flavor::Bit => number().boxed(),
        Flavor::Ends => endings().boxed(),
        _ => value().boxed(),
    };
    let lie = prop_oneof![100 - lies => Just(None), lies => lie.prop_map(Some)];
    (0..PROCESSES, op(flavor), any::<u8>(), any::<bool>(), lie)
        .prop_map(|(process, op, end, early, lie)| Turn { process, op, end, early, lie })
}

fn options() -> impl Strategy<Value = Options> {
    let init = prop_oneof![3 => Just(Value::Nil), 1 => Just(Value::from("")), 1 => number()];
    (init, any::<bool>(), any::<bool>()).prop_map(|(init, any, never)| Options {
        init,
        nil_read: if any { NilRead::Any } else { NilRead::Exact },
        failed_cas: if never { FailedCas::Never } else { FailedCas::Observed },
        ..Options::default()
    })
}

/// Plays the turns on a real store; what comes out is linearizable unless somebody lies.
fn play(turns: &[Turn], init: &Value) -> Vec<Act> {
    let mut store = Store::new();
    let mut acts: Vec<Act> = Vec::new();
    let mut open: [Option<(usize, Option<Option<Outcome>>)>; PROCESSES] =
        [const { None }; PROCESSES];
    for (now, turn) in turns.iter().enumerate() {
        let Some((index, happened)) = open[turn.process].take() else {
            let happened = turn.early.then(|| reference::perform(&mut store, init, &turn.op));
            open[turn.process] = Some((acts.len(), happened));
            let op = turn.op.clone();
            acts.push(Act { op, begin: now, end: usize::MAX, result: End::Open });
            continue;
        };
        let act = &mut acts[index];
        act.end = now;
        let has_happened = happened.is_some();
        let perform = || happened.unwrap_or_else(|| reference::perform(&mut store, init, &act.op));
        act.result = match turn.end {
            // It is lost, and may have taken effect or not.
            0..30 => End::Lost,
            30..50 => {
                perform();
                End::Lost
            }
            // It is refused, and did not happen.
            50..60 if !has_happened && !matches!(act.op, Op::Cas { .. }) => End::Failed,
            _ => perform().map_or(End::Failed, |outcome| End::Done(told(outcome, turn))),
        };
    }
    acts
}

/// What the client is told: less than the truth sometimes, and sometimes not the truth.
fn told(outcome: Outcome, turn: &Turn) -> Outcome {
    match (outcome, &turn.lie) {
        (Outcome::Read(_), Some(lie)) => Outcome::Read(lie.clone()),
        (Outcome::Deleted(found), Some(_)) => Outcome::Deleted(!found),
        (Outcome::Deleted(_), None) if turn.end.is_multiple_of(2) => Outcome::Done,
        (Outcome::Txn { held, mut results }, Some(lie)) => {
            match results.iter_mut().flatten().next() {
                Some(result) => *result = lie.clone(),
                None => return Outcome::Done,
            }
            Outcome::Txn { held, results }
        }
        (Outcome::Txn { held, mut results }, None) if turn.end.is_multiple_of(4) => {
            results.truncate(1);
            Outcome::Txn { held, results }
        }
        (outcome, _) => outcome,
    }
}

/// Compares the two verdicts, and holds an explanation to what it says.
fn compare(acts: &[Act], options: &Options) -> Result<bool, TestCaseError> {
    let history = reference::history(acts);
    let expected = reference::is_linearizable(acts, options);
    let lines = to_json_lines(&history);
    let verdict = is_linearizable(&history, options, &mut || false);
    prop_assert_eq!(verdict, Ok(expected), "\n{}", lines);
    if let Verdict::Illegal(why) = check(&history, options) {
        prop_assert!(!expected && why.is_exact);
        // The reference agrees that the prefix is linearizable, and no longer with one more event.
        for (events, expected) in [(why.events, true), (why.events + 1, false)] {
            let prefix = cut(acts, events, &why.keys);
            prop_assert_eq!(reference::is_linearizable(&prefix, options), expected);
        }
        prop_assert!(why.text(&history, options).contains("no order explains"));
    } else {
        prop_assert!(expected);
    }
    Ok(expected)
}

/// The first events of the history, of the operations with these keys.
fn cut(acts: &[Act], events: usize, keys: &[Value]) -> Vec<Act> {
    let mut times: Vec<_> = acts.iter().map(|act| act.begin).collect();
    times.extend(acts.iter().filter(|act| act.result != End::Open).map(|act| act.end));
    times.sort_unstable();
    let limit = times.get(events).copied().unwrap_or(usize::MAX);
    let is_ours = |act: &&Act| match &act.op {
        Op::Get { key } | Op::Put { key, .. } | Op::Delete { key } => keys.contains(key),
        Op::Append { key, .. } | Op::Cas { key, .. } => keys.contains(key),
        Op::Txn(txn) => {
            let compared = txn.compares.iter().map(|compare| &compare.key);
            let stepped = txn.then.iter().chain(&txn.otherwise).map(|step| match step {
                Step::Get(key) | Step::Put(key, _) | Step::Delete(key) => key,
            });
            compared.chain(stepped).any(|key| keys.contains(key))
        }
    };
    let mut acts: Vec<_> =
        acts.iter().filter(|act| act.begin < limit).filter(is_ours).cloned().collect();
    for act in &mut acts {
        if act.end >= limit {
            act.result = End::Open;
        }
    }
    acts
}

fn cases() -> ProptestConfig {
    let cases = if cfg!(debug_assertions) { 1_500 } else { 8_000 };
    let from_environment = std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok());
    ProptestConfig { cases: from_environment.unwrap_or(cases), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn registers(turns in vec(turn(Flavor::Register, 15), 0..24), options in options()) {
        compare(&play(&turns, &options.init), &options)?;
    }

    #[test]
    fn crowded_bits(turns in vec(turn(Flavor::Bit, 15), 0..40), options in options()) {
        compare(&play(&turns, &options.init), &options)?;
    }

    #[test]
    fn texts(turns in vec(turn(Flavor::Texts, 10), 0..20), options in options()) {
        compare(&play(&turns, &options.init), &options)?;
    }

    #[test]
    fn texts_that_end_others(turns in vec(turn(Flavor::Ends, 8), 0..24), options in options()) {
        compare(&play(&turns, &options.init), &options)?;
    }

    #[test]
    fn transactions(turns in vec(turn(Flavor::Transactions, 15), 0..18), options in options()) {
        compare(&play(&turns, &options.init), &options)?;
    }

    #[test]
    fn everything(turns in vec(turn(Flavor::All, 10), 0..18), options in options()) {
        compare(&play(&turns, &options.init), &options)?;
    }

    #[test]
    fn the_truth_is_linearizable(turns in vec(turn(Flavor::All, 0), 0..18), options in options()) {
        // A refused compare-and-set did not happen in `play`, which only the default tells.
        prop_assert!(compare(&play(&turns, &options.init), &options)?);
    }
}
