//! Property tests: the verdicts on small random histories equal those of the brute-force reference.

use crate::reference::{self, End, Operation, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use synod_checker::{
    FailedCas, NilRead, Op, Options, Outcome, Txn, TxnOp, Value, Verdict, check, is_linearizable,
    to_json_lines,
};

const PROCESSES: usize = 6;

/// The kinds of operations in a history.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OpMix {
    /// Reads, writes and compare-and-sets of small numbers.
    Register,
    /// Reads, writes and compare-and-sets of two values of one key.
    TwoValues,
    /// Gets, puts, deletes and appends of texts.
    Texts,
    /// The operations of `Texts` on one key, with texts that are suffixes of others.
    Suffixes,
    /// Transactions on two keys, and plain operations.
    Transactions,
    /// All operations.
    All,
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Nil), 8 => (0..3_u64).prop_map(Value::from)]
}

fn word() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["", "a", "b", "ab", "aa"]).prop_map(Value::from)
}

/// A text that is a suffix of others, or has them as suffixes.
fn ending() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["1", "1,", "11,", "111,", ",1,"]).prop_map(Value::from)
}

/// A concatenation of such texts.
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

fn step() -> impl Strategy<Value = TxnOp> {
    prop_oneof![
        key().prop_map(TxnOp::get),
        (key(), number()).prop_map(|(key, value)| TxnOp::put(key, value)),
        key().prop_map(TxnOp::delete),
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

/// A compare-and-set in the form of a transaction.
fn swap() -> impl Strategy<Value = Op> {
    (number(), number(), any::<bool>()).prop_map(|(old, new, has_get)| {
        let txn = Txn::new().when("x", old).then(TxnOp::put("x", new));
        if has_get { txn.otherwise(TxnOp::get("x")).into() } else { txn.into() }
    })
}

fn op(mix: OpMix) -> BoxedStrategy<Op> {
    let get = || key().prop_map(Op::get);
    let put = |value: BoxedStrategy<Value>| (key(), value).prop_map(|(k, v)| Op::put(k, v));
    let cas = || (key(), number(), number()).prop_map(|(key, old, new)| Op::cas(key, old, new));
    let append = || (key(), word()).prop_map(|(key, value)| Op::append(key, value));
    let delete = || key().prop_map(Op::delete);
    let bit = || (0..2_u64).prop_map(Value::from);
    match mix {
        OpMix::TwoValues => prop_oneof![
            2 => Just(Op::get("x")),
            3 => bit().prop_map(|value| Op::put("x", value)),
            2 => (bit(), bit()).prop_map(|(old, new)| Op::cas("x", old, new)),
        ]
        .boxed(),
        OpMix::Register => prop_oneof![get(), put(number().boxed()), cas()].boxed(),
        OpMix::Texts => {
            prop_oneof![3 => get(), 1 => put(word().boxed()), 1 => delete(), 3 => append()].boxed()
        }
        OpMix::Suffixes => prop_oneof![
            6 => Just(Op::get("x")),
            1 => endings().prop_map(|value| Op::put("x", value)),
            1 => Just(Op::delete("x")),
            1 => (endings(), endings()).prop_map(|(old, new)| Op::cas("x", old, new)),
            9 => ending().prop_map(|value| Op::append("x", value)),
        ]
        .boxed(),
        OpMix::Transactions => {
            prop_oneof![get(), put(number().boxed()), swap(), txn(), delete()].boxed()
        }
        OpMix::All => prop_oneof![
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

/// The input for one event of a process.
#[derive(Clone, Debug)]
struct EventInput {
    process: usize,
    op: Op,
    /// Selects the end of the operation in flight, and if an abandoned operation takes effect.
    end: u8,
    /// True if the operation takes effect at its start, else at its end.
    early: bool,
    /// The value that the client receives instead of the correct one.
    wrong_value: Option<Value>,
}

fn input(mix: OpMix, wrong_percent: u32) -> impl Strategy<Value = EventInput> {
    let wrong_value = match mix {
        OpMix::TwoValues => number().boxed(),
        OpMix::Suffixes => endings().boxed(),
        _ => value().boxed(),
    };
    let wrong_value = prop_oneof![
        100 - wrong_percent => Just(None),
        wrong_percent => wrong_value.prop_map(Some),
    ];
    (0..PROCESSES, op(mix), any::<u8>(), any::<bool>(), wrong_value).prop_map(
        |(process, op, end, early, wrong_value)| EventInput {
            process,
            op,
            end,
            early,
            wrong_value,
        },
    )
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

/// Executes the inputs on a sequential store. The history is linearizable unless an outcome is wrong.
fn execute(inputs: &[EventInput], init: &Value) -> Vec<Operation> {
    let mut store = Store::new();
    let mut recorded: Vec<Operation> = Vec::new();
    // The operation in flight of each process, and its outcome if it has taken effect.
    let mut open: [Option<(usize, Option<Option<Outcome>>)>; PROCESSES] =
        [const { None }; PROCESSES];
    for (now, input) in inputs.iter().enumerate() {
        let Some((index, outcome)) = open[input.process].take() else {
            let outcome = input.early.then(|| reference::perform(&mut store, init, &input.op));
            open[input.process] = Some((recorded.len(), outcome));
            let op = input.op.clone();
            recorded.push(Operation { op, begin: now, end: usize::MAX, result: End::Open });
            continue;
        };
        let operation = &mut recorded[index];
        operation.end = now;
        let has_effect = outcome.is_some();
        let perform =
            || outcome.unwrap_or_else(|| reference::perform(&mut store, init, &operation.op));
        operation.result = match input.end {
            // It is abandoned, and has taken effect only if it did so at its start.
            0..30 => End::Abandoned,
            30..50 => {
                perform();
                End::Abandoned
            }
            // It fails without an effect.
            50..60 if !has_effect && !matches!(operation.op, Op::Cas { .. }) => End::Failed,
            _ => perform().map_or(End::Failed, |outcome| End::Done(received(outcome, input))),
        };
    }
    recorded
}

/// Returns the outcome that the client receives: the correct one, a part of it, or a wrong one.
fn received(outcome: Outcome, input: &EventInput) -> Outcome {
    match (outcome, &input.wrong_value) {
        (Outcome::Read(_), Some(wrong_value)) => Outcome::Read(wrong_value.clone()),
        (Outcome::Deleted(found), Some(_)) => Outcome::Deleted(!found),
        (Outcome::Deleted(_), None) if input.end.is_multiple_of(2) => Outcome::Done,
        (Outcome::Txn { succeeded, mut results }, Some(wrong_value)) => {
            match results.iter_mut().flatten().next() {
                Some(result) => *result = wrong_value.clone(),
                None => return Outcome::Done,
            }
            Outcome::Txn { succeeded, results }
        }
        (Outcome::Txn { succeeded, mut results }, None) if input.end.is_multiple_of(4) => {
            results.truncate(1);
            Outcome::Txn { succeeded, results }
        }
        (outcome, _) => outcome,
    }
}

/// Compares the verdicts, and checks the explanation of an illegal history.
fn compare(recorded: &[Operation], options: &Options) -> Result<bool, TestCaseError> {
    let history = reference::history(recorded);
    let expected = reference::is_linearizable(recorded, options);
    let lines = to_json_lines(&history);
    let verdict = is_linearizable(&history, options, &mut || false);
    prop_assert_eq!(verdict, Ok(expected), "\n{}", lines);
    if let Verdict::Illegal(why) = check(&history, options) {
        prop_assert!(!expected && why.is_exact);
        // By the reference the prefix is linearizable, and with one more event it is illegal.
        for (events, expected) in [(why.events, true), (why.events + 1, false)] {
            let prefix = prefix(recorded, events, &why.keys);
            prop_assert_eq!(reference::is_linearizable(&prefix, options), expected);
        }
        prop_assert!(why.text(&history, options).contains("no order explains"));
    } else {
        prop_assert!(expected);
    }
    Ok(expected)
}

/// Returns the operations with these keys, as they are recorded in the first events of the history.
fn prefix(recorded: &[Operation], events: usize, keys: &[Value]) -> Vec<Operation> {
    let mut times: Vec<_> = recorded.iter().map(|operation| operation.begin).collect();
    times.extend(
        recorded
            .iter()
            .filter(|operation| operation.result != End::Open)
            .map(|operation| operation.end),
    );
    times.sort_unstable();
    let limit = times.get(events).copied().unwrap_or(usize::MAX);
    let has_key = |operation: &&Operation| match &operation.op {
        Op::Get { key } | Op::Put { key, .. } | Op::Delete { key } => keys.contains(key),
        Op::Append { key, .. } | Op::Cas { key, .. } => keys.contains(key),
        Op::Txn(txn) => {
            let compared = txn.compares.iter().map(|compare| &compare.key);
            let stepped = txn.then.iter().chain(&txn.otherwise).map(|step| match step {
                TxnOp::Get(key) | TxnOp::Put(key, _) | TxnOp::Delete(key) => key,
            });
            compared.chain(stepped).any(|key| keys.contains(key))
        }
    };
    let mut recorded: Vec<_> = recorded
        .iter()
        .filter(|operation| operation.begin < limit)
        .filter(has_key)
        .cloned()
        .collect();
    for operation in &mut recorded {
        if operation.end >= limit {
            operation.result = End::Open;
        }
    }
    recorded
}

fn cases() -> ProptestConfig {
    let cases = if cfg!(debug_assertions) { 1_500 } else { 8_000 };
    let from_environment = std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok());
    ProptestConfig { cases: from_environment.unwrap_or(cases), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn registers_match_the_reference(
        inputs in vec(input(OpMix::Register, 15), 0..24),
        options in options(),
    ) {
        compare(&execute(&inputs, &options.init), &options)?;
    }

    #[test]
    fn concurrent_operations_on_two_values_match_the_reference(
        inputs in vec(input(OpMix::TwoValues, 15), 0..40),
        options in options(),
    ) {
        compare(&execute(&inputs, &options.init), &options)?;
    }

    #[test]
    fn texts_match_the_reference(
        inputs in vec(input(OpMix::Texts, 10), 0..20),
        options in options(),
    ) {
        compare(&execute(&inputs, &options.init), &options)?;
    }

    #[test]
    fn texts_with_common_suffixes_match_the_reference(
        inputs in vec(input(OpMix::Suffixes, 8), 0..24),
        options in options(),
    ) {
        compare(&execute(&inputs, &options.init), &options)?;
    }

    #[test]
    fn transactions_match_the_reference(
        inputs in vec(input(OpMix::Transactions, 15), 0..18),
        options in options(),
    ) {
        compare(&execute(&inputs, &options.init), &options)?;
    }

    #[test]
    fn mixed_operations_match_the_reference(
        inputs in vec(input(OpMix::All, 10), 0..18),
        options in options(),
    ) {
        compare(&execute(&inputs, &options.init), &options)?;
    }

    #[test]
    fn history_of_a_sequential_store_is_linearizable(
        inputs in vec(input(OpMix::All, 0), 0..18),
        options in options(),
    ) {
        prop_assert!(compare(&execute(&inputs, &options.init), &options)?);
    }
}
