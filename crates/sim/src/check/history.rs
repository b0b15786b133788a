//! Check that the client history is linearizable: one order of all operations must explain all
//! results.
//!
//! This checker uses only what clients observe. The slots at which commands took effect are a hint:
//! it first tries their order, which must explain every result, each within the time from its
//! invocation to its completion. If that fails, it searches all other orders.

use crate::violation::{Checked, ViolationKind, violation};
use std::collections::{BTreeMap, VecDeque};
use synod_checker::{Explanation, History, Op, OpId, Options, Outcome, Verdict, check};
use synod_types::{Instant, NodeId, Slot};

/// Maximum number of configurations that a search visits, for one group of keys. The order of slots
/// normally explains the history without a search; a history that exceeds this bound fails.
const MAX_CONFIGURATIONS: usize = 200_000;

/// Operation as its client invokes it.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) op: Op,
    /// True if it reads a node's state instead of going through the log.
    pub(crate) is_read: bool,
    /// True if its client retries it after a rejection.
    pub(crate) retries: bool,
}

/// Operation whose client waits for the result.
#[derive(Clone, Debug)]
struct PendingOperation {
    call: OpId,
    invocation: Invocation,
}

/// Attempt at an operation, with the id that the cluster uses for it.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    id: u64,
    node: NodeId,
    call: OpId,
}

/// Invocations and outcomes of clients.
#[derive(Debug, Default)]
pub(crate) struct ClientHistory {
    history: History,
    /// Times of the history's events.
    times: Vec<Instant>,
    attempts: Vec<Attempt>,
    /// Pending operations, by the id of the attempt.
    pending: BTreeMap<u64, PendingOperation>,
    /// Rejected operations to retry: commands at index 0, reads at index 1.
    to_retry: [VecDeque<PendingOperation>; 2],
}

impl ClientHistory {
    /// Records the invocation of an operation.
    pub(crate) fn invoke(&mut self, now: Instant, id: u64, node: NodeId, invocation: Invocation) {
        let call = self.history.invoke(id, invocation.op.clone());
        self.times.push(now);
        self.attempts.push(Attempt { id, node, call });
        self.pending.insert(id, PendingOperation { call, invocation });
    }

    /// Records a retry of a rejected operation, which remains pending from its first invocation on.
    /// Returns `None` if no operation of this kind is to be retried.
    pub(crate) fn retry(&mut self, id: u64, node: NodeId, is_read: bool) -> Option<Op> {
        let pending = self.to_retry[usize::from(is_read)].pop_front()?;
        self.attempts.push(Attempt { id, node, call: pending.call });
        let op = pending.invocation.op.clone();
        self.pending.insert(id, pending);
        Some(op)
    }

    /// Returns the operation of a pending attempt; `None` if it is not recorded.
    pub(crate) fn op(&self, id: u64) -> Option<&Op> {
        self.pending.get(&id).map(|pending| &pending.invocation.op)
    }

    /// Records the outcome of an attempt.
    pub(crate) fn done(&mut self, now: Instant, id: u64, outcome: Outcome) {
        let Some(pending) = self.pending.remove(&id) else { return };
        self.history.complete(pending.call, outcome).expect("the outcome fits, and is the first");
        self.times.push(now);
    }

    /// Records the rejection of an attempt, which had no effect.
    pub(crate) fn rejected(&mut self, now: Instant, id: u64) {
        let Some(pending) = self.pending.remove(&id) else { return };
        if pending.invocation.retries {
            self.to_retry[usize::from(pending.invocation.is_read)].push_back(pending);
            return;
        }
        self.history.fail(pending.call).expect("the operation is pending");
        self.times.push(now);
    }

    /// Records an attempt without a known outcome. A read can be retried, because it changes
    /// nothing.
    pub(crate) fn abandoned(&mut self, now: Instant, id: u64) {
        if self.pending.get(&id).is_some_and(|pending| pending.invocation.is_read) {
            return self.rejected(now, id);
        }
        let Some(pending) = self.pending.remove(&id) else { return };
        self.history.abandon(pending.call).expect("the operation is pending");
        self.times.push(now);
    }

    /// Checks the whole history, at its end. `place` returns the slot at which a command took
    /// effect.
    pub(crate) fn judge(&mut self, now: Instant, place: impl Fn(u64) -> Option<Slot>) -> Checked {
        let options = Options { max_configurations: MAX_CONFIGURATIONS, ..Options::default() };
        for pending in self.to_retry.iter_mut().flat_map(std::mem::take) {
            self.history.fail(pending.call).expect("the operation is pending");
            self.times.push(now);
        }
        for Attempt { id, call, .. } in &self.attempts {
            if let Some(slot) = place(*id) {
                self.history.hint(*call, slot.0).expect("a call of this history");
            }
        }
        self.verdict(&options)
    }

    fn verdict(&self, options: &Options) -> Checked {
        match check(&self.history, options) {
            Verdict::Linearizable => Ok(()),
            Verdict::Illegal(why) => {
                let nodes = self.attempts_at(why.culprit).map(|attempt| attempt.node);
                let text = self.explain(&why, options);
                Err(violation(ViolationKind::NotLinearizable, nodes, text))
            }
            Verdict::Unknown(bound) => {
                let text = format!(
                    "linearizability of the client history is undecided: the search \
                     reached its bound ({bound:?}) of {}",
                    options.max_configurations
                );
                Err(violation(ViolationKind::Undecided, [], text))
            }
        }
    }

    /// Describes the operation that does not fit, and the order of all others.
    fn explain(&self, why: &Explanation, options: &Options) -> String {
        let ids: Vec<_> = self.attempts_at(why.culprit).map(|it| it.id.to_string()).collect();
        let at = self.times.get(why.events).map_or(0.0, |at| at.since(Instant::ZERO).as_secs_f64());
        format!(
            "the client history up to {at:.6} s, when operation {} ended, is not \
             linearizable\n{}",
            ids.join(", then "),
            why.text(&self.history, options).trim_end()
        )
    }

    fn attempts_at(&self, call: OpId) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(move |attempt| attempt.call == call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_checker::{Txn, Value};

    const NODE: NodeId = NodeId(1);

    /// History that is written event by event, one a second.
    #[derive(Default)]
    struct HistoryBuilder {
        recorded: ClientHistory,
        now: Instant,
    }

    impl HistoryBuilder {
        fn tick(&mut self) -> Instant {
            self.now = self.now + std::time::Duration::from_secs(1);
            self.now
        }

        fn invoke(&mut self, id: u64, op: Op) {
            let now = self.tick();
            let invocation = Invocation { op, is_read: false, retries: true };
            self.recorded.invoke(now, id, NODE, invocation);
        }

        fn done(&mut self, id: u64, outcome: Outcome) {
            let now = self.tick();
            self.recorded.done(now, id, outcome);
        }

        fn put(&mut self, id: u64, value: &str) {
            self.invoke(id, Op::put("a", value));
            self.done(id, Outcome::Done);
        }

        fn get(&mut self, id: u64, value: Option<&str>) {
            self.invoke(id, Op::get("a"));
            self.done(id, Outcome::Read(value.into()));
        }

        fn judge(mut self) -> Result<(), ViolationKind> {
            let now = self.tick();
            self.recorded.judge(now, |_| None).map_err(|found| found.kind)
        }
    }

    fn verdict_of(events: impl FnOnce(&mut HistoryBuilder)) -> Result<(), ViolationKind> {
        let mut builder = HistoryBuilder::default();
        events(&mut builder);
        builder.judge()
    }

    #[test]
    fn non_linearizable_histories_are_found() {
        let illegal = Err(ViolationKind::NotLinearizable);
        let begin = |builder: &mut HistoryBuilder| {
            builder.put(1, "1.");
            builder.put(2, "2.");
        };
        let fine = verdict_of(|builder| {
            begin(builder);
            builder.get(3, Some("2."));
        });
        assert_eq!(fine, Ok(()));
        let stale = verdict_of(|builder| {
            begin(builder);
            builder.get(3, Some("1."));
        });
        assert_eq!(stale, illegal);
        let twice = verdict_of(|builder| {
            begin(builder);
            builder.get(3, Some("2."));
            builder.get(4, Some("1."));
        });
        assert_eq!(twice, illegal, "the first write has taken effect again");
        let early = verdict_of(|builder| {
            builder.put(1, "1.");
            builder.get(2, None);
        });
        assert_eq!(early, illegal, "read as missing after the write completed");
        let swapped = verdict_of(|builder| {
            begin(builder);
            builder.invoke(
                3,
                Txn::new().when("a", "1.").then(synod_checker::TxnOp::delete("a")).into(),
            );
            builder.done(3, Outcome::Txn { succeeded: true, results: vec![None] });
        });
        assert_eq!(swapped, illegal, "the transaction compared with an overwritten value");
    }

    #[test]
    fn retried_operation_is_pending_since_its_first_attempt() {
        let rejected_put = |builder: &mut HistoryBuilder| {
            builder.invoke(1, Op::put("a", "1."));
            let now = builder.tick();
            builder.recorded.rejected(now, 1);
        };
        let retried = verdict_of(|builder| {
            rejected_put(builder);
            builder.get(2, Some("1."));
            assert_eq!(builder.recorded.retry(3, NODE, true), None, "no read to retry");
            assert_eq!(builder.recorded.retry(3, NODE, false), Some(Op::put("a", "1.")));
            assert_eq!(builder.recorded.retry(4, NODE, false), None);
            builder.done(3, Outcome::Done);
        });
        assert_eq!(retried, Ok(()));
        let not_retried = verdict_of(|builder| {
            rejected_put(builder);
            builder.get(2, Some("1."));
        });
        assert_eq!(
            not_retried,
            Err(ViolationKind::NotLinearizable),
            "a rejected write took effect"
        );
    }

    #[test]
    fn unknown_outcome_may_or_may_not_have_taken_effect() {
        let lost = |values: &[Option<&str>]| {
            verdict_of(|builder| {
                builder.put(1, "1.");
                builder.invoke(2, Op::put("a", "2."));
                let now = builder.tick();
                builder.recorded.abandoned(now, 2);
                for (id, value) in (3..).zip(values) {
                    builder.get(id, *value);
                }
            })
        };
        assert_eq!(lost(&[Some("1."), Some("2.")]), Ok(()));
        assert_eq!(lost(&[Some("1."), Some("1.")]), Ok(()));
        assert!(lost(&[Some("2."), Some("1.")]).is_err());
        let read = verdict_of(|builder| {
            let now = builder.tick();
            let invocation = Invocation { op: Op::get("a"), is_read: true, retries: true };
            builder.recorded.invoke(now, 1, NODE, invocation);
            builder.recorded.abandoned(now, 1);
            assert_eq!(builder.recorded.retry(2, NODE, true), Some(Op::get("a")));
            builder.done(2, Outcome::Read(Value::Nil));
        });
        assert_eq!(read, Ok(()));
    }

    #[test]
    fn exceeded_search_bound_is_a_violation() {
        let mut builder = HistoryBuilder::default();
        for id in 0..9 {
            builder.invoke(id, Op::put("a", format!("{id}.")));
        }
        for id in 0..9 {
            builder.done(id, Outcome::Done);
        }
        (0..9).for_each(|id| builder.get(10 + id, Some("3.")));
        builder.get(20, Some("4."));
        let verdict = |max_configurations| {
            let options = Options { max_configurations, ..Options::default() };
            builder.recorded.verdict(&options).map_err(|found| found.kind)
        };
        assert_eq!(verdict(2), Err(ViolationKind::Undecided));
        assert_eq!(verdict(MAX_CONFIGURATIONS), Err(ViolationKind::NotLinearizable));
    }

    #[test]
    fn violation_contains_a_valid_order_and_the_operation_that_does_not_fit() {
        let mut builder = HistoryBuilder::default();
        builder.put(1, "1.");
        builder.put(2, "2.");
        builder.get(3, Some("1."));
        builder.put(4, "4.");
        let found = builder.recorded.judge(builder.now, |_| None).unwrap_err();
        assert_eq!(found.nodes, [NODE]);
        let lines: Vec<_> = found.explanation.lines().collect();
        let head = "the client history up to 6.000000 s, when operation 3 ended, is not \
                    linearizable";
        assert_eq!(lines[0], head);
        assert!(lines[2].contains(r#"3: get "a" -> "1.""#), "{lines:#?}");
        assert!(lines[3].contains("are linearizable, in this order:"), "{lines:#?}");
        assert!(lines[5].ends_with(r#"then "a" = "2.""#), "{lines:#?}");
        assert_eq!(lines.len(), 6, "{lines:#?}");
    }
}
