//! What clients saw, judged as a whole: one store, asked one operation at a time, must have been
//! able to give all these answers.
//!
//! This checker knows what clients know and nothing else. Where commands took effect is a hint and
//! no argument: the order of slots has to explain every answer, each within the time between
//! question and answer, and if it does not, all other orders are searched for one that does.

use crate::violation::{Checked, ViolationKind, violation};
use std::collections::{BTreeMap, VecDeque};
use synod_checker::{Explanation, History, Op, OpId, Options, Outcome, Verdict, check};
use synod_types::{Instant, NodeId, Slot};

/// How many configurations a search for an order may visit, for one group of keys. Where the order
/// of slots explains everything, as it must, none is needed; a history that takes more than this
/// has failed.
const MOST_CONFIGURATIONS: usize = 200_000;

/// An operation that a client waits for.
#[derive(Clone, Debug)]
pub(crate) struct PendingOperation {
    call: OpId,
    pub(crate) op: Op,
    /// Whether it is a read that is asked of a node's state, and not through the log.
    is_read: bool,
    /// Whether its client asks again where that can do no harm.
    persists: bool,
}

/// One attempt at an operation: how the cluster knows it.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    id: u64,
    node: NodeId,
    call: OpId,
}

/// What clients have asked and were told.
#[derive(Debug, Default)]
pub(crate) struct ClientHistory {
    history: History,
    /// When each event of the history was.
    times: Vec<Instant>,
    attempts: Vec<Attempt>,
    /// What is under way, by the number of the attempt.
    open: BTreeMap<u64, PendingOperation>,
    /// What was certainly not done, and is to be asked again: commands, and reads.
    again: [VecDeque<PendingOperation>; 2],
}

impl ClientHistory {
    /// A client asks for something. Whoever `persists` asks again what was certainly not done.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        (id, node): (u64, NodeId),
        op: Op,
        (is_read, persists): (bool, bool),
    ) {
        let call = self.history.invoke(id, op.clone());
        self.times.push(now);
        self.attempts.push(Attempt { id, node, call });
        self.open.insert(id, PendingOperation { call, op, is_read, persists });
    }

    /// A client asks once more for what it has not got yet: the operation is under way since it
    /// was first asked for. `None`: nobody waits for one of this kind.
    pub(crate) fn retry(&mut self, (id, node): (u64, NodeId), is_read: bool) -> Option<Op> {
        let asked = self.again[usize::from(is_read)].pop_front()?;
        self.attempts.push(Attempt { id, node, call: asked.call });
        let op = asked.op.clone();
        self.open.insert(id, asked);
        Some(op)
    }

    /// What an attempt that is under way is about; `None` if nobody takes it down.
    pub(crate) fn op(&self, id: u64) -> Option<&Op> {
        self.open.get(&id).map(|asked| &asked.op)
    }

    /// An attempt was answered.
    pub(crate) fn done(&mut self, now: Instant, id: u64, outcome: Outcome) {
        let Some(asked) = self.open.remove(&id) else { return };
        self.history.complete(asked.call, outcome).expect("it fits, and is the first answer");
        self.times.push(now);
    }

    /// An attempt was certainly in vain.
    pub(crate) fn refused(&mut self, now: Instant, id: u64) {
        let Some(asked) = self.open.remove(&id) else { return };
        if asked.persists {
            self.again[usize::from(asked.is_read)].push_back(asked);
            return;
        }
        self.history.fail(asked.call).expect("it is under way");
        self.times.push(now);
    }

    /// Nobody knows what became of an attempt. A read can be asked again, for it changes nothing.
    pub(crate) fn lost(&mut self, now: Instant, id: u64) {
        if self.open.get(&id).is_some_and(|asked| asked.is_read) {
            return self.refused(now, id);
        }
        let Some(asked) = self.open.remove(&id) else { return };
        self.history.abandon(asked.call).expect("it is under way");
        self.times.push(now);
    }

    /// Judges the whole history, at its end. `place` tells where a command took effect.
    pub(crate) fn judge(&mut self, now: Instant, place: impl Fn(u64) -> Option<Slot>) -> Checked {
        let options = Options { max_configurations: MOST_CONFIGURATIONS, ..Options::default() };
        for asked in self.again.iter_mut().flat_map(std::mem::take) {
            self.history.fail(asked.call).expect("it is under way");
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
                let text = self.tell(&why, options);
                Err(violation(ViolationKind::NotLinearizable, nodes, text))
            }
            Verdict::Unknown(bound) => {
                let text = format!(
                    "whether one store could have given all answers is not known: the search \
                     ended at its bound ({bound:?}) of {}",
                    options.max_configurations
                );
                Err(violation(ViolationKind::Undecided, [], text))
            }
        }
    }

    /// Which operation does not fit, and how far all others do.
    fn tell(&self, why: &Explanation, options: &Options) -> String {
        let ids: Vec<_> = self.attempts_at(why.culprit).map(|it| it.id.to_string()).collect();
        let at = self.times.get(why.events).map_or(0.0, |at| at.since(Instant::ZERO).as_secs_f64());
        format!(
            "what clients were told up to {at:.6} s, when operation {} ended, comes from no single \
             store\n{}",
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

    /// A history that is written event by event, a second each.
    #[derive(Default)]
    struct Tale {
        seen: ClientHistory,
        now: Instant,
    }

    impl Tale {
        fn tick(&mut self) -> Instant {
            self.now = self.now + std::time::Duration::from_secs(1);
            self.now
        }

        fn ask(&mut self, id: u64, op: Op) {
            let now = self.tick();
            self.seen.ask(now, (id, NODE), op, (false, true));
        }

        fn done(&mut self, id: u64, outcome: Outcome) {
            let now = self.tick();
            self.seen.done(now, id, outcome);
        }

        fn put(&mut self, id: u64, value: &str) {
            self.ask(id, Op::put("a", value));
            self.done(id, Outcome::Done);
        }

        fn get(&mut self, id: u64, value: Option<&str>) {
            self.ask(id, Op::get("a"));
            self.done(id, Outcome::Read(value.into()));
        }

        fn judge(mut self) -> Result<(), ViolationKind> {
            let now = self.tick();
            self.seen.judge(now, |_| None).map_err(|found| found.kind)
        }
    }

    fn tale(tell: impl FnOnce(&mut Tale)) -> Result<(), ViolationKind> {
        let mut tale = Tale::default();
        tell(&mut tale);
        tale.judge()
    }

    #[test]
    fn what_clients_are_told_must_come_from_one_store() {
        let illegal = Err(ViolationKind::NotLinearizable);
        let begin = |tale: &mut Tale| {
            tale.put(1, "1.");
            tale.put(2, "2.");
        };
        let fine = tale(|tale| {
            begin(tale);
            tale.get(3, Some("2."));
        });
        assert_eq!(fine, Ok(()));
        let stale = tale(|tale| {
            begin(tale);
            tale.get(3, Some("1."));
        });
        assert_eq!(stale, illegal);
        let twice = tale(|tale| {
            begin(tale);
            tale.get(3, Some("2."));
            tale.get(4, Some("1."));
        });
        assert_eq!(twice, illegal, "the first write has taken effect again");
        let early = tale(|tale| {
            tale.put(1, "1.");
            tale.get(2, None);
        });
        assert_eq!(early, illegal, "answered before it took effect");
        let swapped = tale(|tale| {
            begin(tale);
            tale.ask(3, Txn::new().when("a", "1.").then(synod_checker::TxnOp::delete("a")).into());
            tale.done(3, Outcome::Txn { succeeded: true, results: vec![None] });
        });
        assert_eq!(swapped, illegal, "a transaction saw what was not there");
    }

    #[test]
    fn what_is_asked_again_is_under_way_all_the_time() {
        let again = |tale: &mut Tale| {
            tale.ask(1, Op::put("a", "1."));
            let now = tale.tick();
            tale.seen.refused(now, 1);
        };
        let patient = tale(|tale| {
            again(tale);
            tale.get(2, Some("1."));
            assert_eq!(tale.seen.retry((3, NODE), true), None, "no read waits");
            assert_eq!(tale.seen.retry((3, NODE), false), Some(Op::put("a", "1.")));
            assert_eq!(tale.seen.retry((4, NODE), false), None);
            tale.done(3, Outcome::Done);
        });
        assert_eq!(patient, Ok(()));
        let refused = tale(|tale| {
            again(tale);
            tale.get(2, Some("1."));
        });
        assert_eq!(refused, Err(ViolationKind::NotLinearizable), "it was not to be done");
    }

    #[test]
    fn what_nobody_knows_may_be_or_not() {
        let lost = |values: &[Option<&str>]| {
            tale(|tale| {
                tale.put(1, "1.");
                tale.ask(2, Op::put("a", "2."));
                let now = tale.tick();
                tale.seen.lost(now, 2);
                for (id, value) in (3..).zip(values) {
                    tale.get(id, *value);
                }
            })
        };
        assert_eq!(lost(&[Some("1."), Some("2.")]), Ok(()));
        assert_eq!(lost(&[Some("1."), Some("1.")]), Ok(()));
        assert!(lost(&[Some("2."), Some("1.")]).is_err());
        let read = tale(|tale| {
            let now = tale.tick();
            tale.seen.ask(now, (1, NODE), Op::get("a"), (true, true));
            tale.seen.lost(now, 1);
            assert_eq!(tale.seen.retry((2, NODE), true), Some(Op::get("a")));
            tale.done(2, Outcome::Read(Value::Nil));
        });
        assert_eq!(read, Ok(()));
    }

    #[test]
    fn a_bound_that_is_reached_is_no_excuse() {
        let mut tale = Tale::default();
        for id in 0..9 {
            tale.ask(id, Op::put("a", format!("{id}.")));
        }
        for id in 0..9 {
            tale.done(id, Outcome::Done);
        }
        (0..9).for_each(|id| tale.get(10 + id, Some("3.")));
        tale.get(20, Some("4."));
        let verdict = |max_configurations| {
            let options = Options { max_configurations, ..Options::default() };
            tale.seen.verdict(&options).map_err(|found| found.kind)
        };
        assert_eq!(verdict(2), Err(ViolationKind::Undecided));
        assert_eq!(verdict(MOST_CONFIGURATIONS), Err(ViolationKind::NotLinearizable));
    }

    #[test]
    fn a_violation_tells_what_fits_and_what_does_not() {
        let mut tale = Tale::default();
        tale.put(1, "1.");
        tale.put(2, "2.");
        tale.get(3, Some("1."));
        tale.put(4, "4.");
        let found = tale.seen.judge(tale.now, |_| None).unwrap_err();
        assert_eq!(found.nodes, [NODE]);
        let told: Vec<_> = found.explanation.lines().collect();
        let head = "what clients were told up to 6.000000 s, when operation 3 ended, comes from no \
                    single store";
        assert_eq!(told[0], head);
        assert!(told[2].contains(r#"3: get "a" -> "1.""#), "{told:#?}");
        assert!(told[3].contains("are linearizable, in this order:"), "{told:#?}");
        assert!(told[5].ends_with(r#"then "a" = "2.""#), "{told:#?}");
        assert_eq!(told.len(), 6, "{told:#?}");
    }
}
