//! Resolution of appends before the search: an append whose place is certain becomes a compare-and-set.
//!
//! Soundness: take a value that some operation must observe and only one append can have produced. In each
//! order that explains the history, this append takes effect where the register holds the value without the
//! appended suffix. So it is equivalent to a compare-and-set from that shorter value. The shorter value must
//! have existed as well, and so on back to the empty text. An append that cannot produce an observed value,
//! wherever it takes effect, is equivalent to a write of an unobserved value. If no two appends have the same
//! text, as in most tests, usually all appends are replaced, and the search need not try their orders.
//!
//! This is the traceability of append-only values that Elle relies on (Kingsbury and Alvaro, "Elle:
//! inferring isolation anomalies from experimental observations", 2020).
//!
//! A value may end with the texts of several appends: "111," ends with "1,", "11," and "111,". An append is
//! excluded if no operation produces the value that it would extend, or none early enough.

use crate::action::Action;
use crate::domain::{Domain, Id, NIL, UNOBSERVED};
use crate::problem::{Completed, Pending};
use std::collections::{BTreeMap, BTreeSet};

/// An append that may produce a value, and the value to which it appends.
type Producer = (usize, Id);

/// Replaces the appends to one register whose places are certain by equivalent actions.
pub(crate) fn resolve_appends(
    domain: &mut Domain,
    init: Id,
    completed: &mut [Completed],
    pending: &mut [Pending],
) {
    let mut actions: Vec<&mut Action> = Vec::new();
    let mut intervals = Vec::new();
    let mut certain = Vec::new();
    for Completed { action, begin, end, .. } in completed {
        certain.extend(action.required_value().map(|value| (value, *end)));
        actions.push(action);
        intervals.push(Interval { begin: *begin, end: *end, once: true });
    }
    for Pending { action, calls } in pending {
        let begin = calls.first().map_or(0, |call| call.begin);
        intervals.push(Interval { begin, end: usize::MAX, once: calls.len() == 1 });
        actions.push(action);
    }
    let possible = required_values(&actions);
    if let Some(mut resolver) = Resolver::new(domain, init, actions, intervals) {
        resolver.resolve(certain, possible);
    }
}

/// Returns the values that operations require, or require not to hold.
fn required_values(actions: &[&mut Action]) -> Vec<Id> {
    let required = |action: &&mut Action| match &**action {
        Action::Differs { old, .. } => Some(*old),
        action => action.required_value(),
    };
    actions.iter().filter_map(required).collect()
}

/// The events between which an action takes effect.
struct Interval {
    begin: usize,
    end: usize,
    /// True if it takes effect at most once.
    once: bool,
}

/// The state of the resolution.
struct Resolver<'a> {
    domain: &'a mut Domain,
    actions: Vec<&'a mut Action>,
    intervals: Vec<Interval>,
    /// The appends, by the length of their text and the text.
    appends: BTreeMap<usize, BTreeMap<Vec<u8>, Vec<usize>>>,
    /// The values that actions other than appends produce, each with the start of the first such action.
    produced: BTreeMap<Id, usize>,
    /// The appends that may produce each value.
    producers: BTreeMap<Id, Vec<Producer>>,
    /// The event before which each value cannot exist. `None` if it can never exist.
    since: BTreeMap<Id, Option<usize>>,
}

impl<'a> Resolver<'a> {
    /// Creates a resolver. Returns `None` if there are no appends, or if other actions make their places
    /// uncertain.
    fn new(
        domain: &'a mut Domain,
        init: Id,
        actions: Vec<&'a mut Action>,
        intervals: Vec<Interval>,
    ) -> Option<Self> {
        let mut produced = BTreeMap::from([(init, 0)]);
        let mut appends: BTreeMap<usize, BTreeMap<Vec<u8>, Vec<usize>>> = BTreeMap::new();
        for (index, action) in actions.iter().enumerate() {
            match &**action {
                Action::Txn(_) => return None,
                Action::Append { text, .. } => {
                    let same_length = appends.entry(text.len()).or_default();
                    same_length.entry(text.clone()).or_default().push(index);
                }
                action => {
                    let begin = intervals[index].begin;
                    if let Some(value) = action.produced_value() {
                        let since = produced.entry(value).or_insert(begin);
                        *since = begin.min(*since);
                    }
                }
            }
        }
        let is_text = |id: &Id| *id == NIL || *id == UNOBSERVED || domain.text(*id).is_some();
        // Appends to values other than texts, and appends of the empty text, are not traced.
        let is_traceable = produced.keys().all(is_text) && !appends.contains_key(&0);
        let (producers, since) = (BTreeMap::new(), BTreeMap::new());
        (is_traceable && !appends.is_empty()).then_some(Self {
            domain,
            actions,
            intervals,
            appends,
            produced,
            producers,
            since,
        })
    }

    /// Traces the values that certainly exist before an event back to their appends, then those that possibly
    /// exist. Appends that produce none of these values become writes of an unobserved value.
    fn resolve(&mut self, certain: Vec<(Id, usize)>, mut possible: Vec<Id>) {
        // Longer values come first: each bounds the event before which the value that it extends must exist.
        let mut required_before: BTreeMap<(usize, Id), usize> = BTreeMap::new();
        for (value, before) in certain {
            self.require(&mut required_before, value, before);
        }
        while let Some(((_, value), before)) = required_before.pop_last() {
            match self.only_producer(value, before) {
                Some((append, from)) => {
                    self.fix_place(append, from, value);
                    self.require(
                        &mut required_before,
                        from,
                        before.min(self.intervals[append].end),
                    );
                }
                None => possible.push(value),
            }
        }
        let mut seen = BTreeSet::new();
        let mut useful = BTreeSet::new();
        while let Some(value) = possible.pop() {
            if !seen.insert(value) {
                continue;
            }
            self.find_producers(value);
            for (append, from) in &self.producers[&value] {
                useful.insert(*append);
                possible.push(*from);
            }
        }
        for (index, action) in self.actions.iter_mut().enumerate() {
            if let Action::Append { key, .. } = &**action
                && !useful.contains(&index)
            {
                **action = Action::Write { key: *key, value: UNOBSERVED };
            }
        }
    }

    /// Records that a value must exist before an event.
    fn require(
        &self,
        required_before: &mut BTreeMap<(usize, Id), usize>,
        value: Id,
        before: usize,
    ) {
        let length = self.domain.text(value).map_or(0, <[u8]>::len);
        let earliest = required_before.entry((length, value)).or_insert(before);
        *earliest = before.min(*earliest);
    }

    /// Returns the append that alone can have produced a value before an event, with the value to which it
    /// appends, if both are certain.
    fn only_producer(&mut self, value: Id, before: usize) -> Option<Producer> {
        if self.produced.get(&value).is_some_and(|since| *since < before) {
            return None;
        }
        self.find_producers(value);
        let is_early = |(append, from): &&Producer| {
            // An append whose place is fixed produces another value.
            let is_free = matches!(&*self.actions[*append], Action::Append { .. });
            let from = self.since[from].is_some_and(|since| since < before);
            is_free && from && self.intervals[*append].begin < before
        };
        let mut early = self.producers[&value].iter().filter(is_early);
        let (append, from) = *early.next()?;
        if early.next().is_some() || !self.intervals[append].once {
            return None;
        }
        if self.domain.text(from).is_none_or(|text| !text.is_empty()) {
            return Some((append, from));
        }
        // Appends to nil and to the empty text have the same result.
        match (self.produced.contains_key(&NIL), self.produced.contains_key(&from)) {
            (true, false) => Some((append, NIL)),
            (false, true) => Some((append, from)),
            _ => None,
        }
    }

    /// Computes the producers of a value and the event before which it cannot exist, for this value and all
    /// shorter ones from which it can grow.
    fn find_producers(&mut self, value: Id) {
        // No recursion: a text may consist of thousands of appends.
        let mut path = vec![value];
        while let Some(value) = path.last().copied() {
            if self.since.contains_key(&value) {
                path.pop();
                continue;
            }
            let Some(mut producers) = self.producers.remove(&value) else {
                let producers = self.suffixes(value);
                path.extend(producers.iter().map(|(_, from)| *from));
                self.producers.insert(value, producers);
                continue;
            };
            let since = |(append, from): &Producer| {
                let Interval { begin, end, .. } = self.intervals[*append];
                self.since[from].filter(|since| *since < end).map(|since| since.max(begin))
            };
            producers.retain(|producer| since(producer).is_some());
            let by_appends = producers.iter().filter_map(since).min();
            let since = self.produced_since(value).into_iter().chain(by_appends).min();
            self.producers.insert(value, producers);
            self.since.insert(value, since);
        }
    }

    /// Returns the start of the first action other than an append that produces a value, if there is one.
    fn produced_since(&self, value: Id) -> Option<usize> {
        let since = self.produced.get(&value).copied();
        // An append to nil is an append to the empty text.
        let is_empty = self.domain.text(value).is_some_and(<[u8]>::is_empty);
        let nil = self.produced.get(&NIL).copied().filter(|_| is_empty);
        since.into_iter().chain(nil).min()
    }

    /// Returns the appends whose text is a suffix of a value, each with the value that it extends.
    fn suffixes(&mut self, value: Id) -> Vec<Producer> {
        let Some(whole) = self.domain.text(value) else { return Vec::new() };
        let mut suffixes = Vec::new();
        for (length, same_length) in &self.appends {
            let Some(start) = whole.len().checked_sub(*length) else { break };
            let matching = same_length.get(&whole[start..]).into_iter().flatten();
            suffixes.extend(matching.map(|append| (*append, *length)));
        }
        let shortened = |(append, length)| (append, self.domain.without_suffix(value, length));
        suffixes.into_iter().map(shortened).collect()
    }

    /// Replaces an append by the compare-and-set to which it is equivalent.
    fn fix_place(&mut self, append: usize, old: Id, new: Id) {
        let action = &mut *self.actions[append];
        if let Action::Append { key, .. } = action {
            *action = Action::Cas { key: *key, old, new };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    type Timed = (&'static str, usize, usize);

    fn completed(action: Action) -> Completed {
        Completed { action, begin: 0, end: 1, hint: None, record: 0 }
    }

    fn append(text: &str) -> Completed {
        completed(Action::Append { key: 0, text: text.into() })
    }

    /// Returns the resolved appends, given reads of these texts and an initial nil.
    fn resolved(reads: &[&'static str], appends: &[&'static str]) -> (Domain, Vec<Action>) {
        let reads: Vec<_> = reads.iter().map(|text| (*text, 0, 1)).collect();
        let appends: Vec<_> = appends.iter().map(|text| (*text, 0, 1)).collect();
        timed(&reads, &appends)
    }

    /// Returns the resolved appends, given reads and appends with their begins and ends.
    fn timed(reads: &[Timed], appends: &[Timed]) -> (Domain, Vec<Action>) {
        let values: Vec<_> = reads.iter().map(|read| Value::from(read.0)).collect();
        let mut domain = Domain::new(values.iter().collect(), true);
        let appended =
            |(text, begin, end): &Timed| Completed { begin: *begin, end: *end, ..append(text) };
        let mut operations: Vec<_> = appends.iter().map(appended).collect();
        for (value, (_, begin, end)) in values.iter().zip(reads) {
            let want = domain.id(value);
            operations.push(Completed {
                begin: *begin,
                end: *end,
                ..completed(Action::Read { key: 0, want })
            });
        }
        resolve_appends(&mut domain, NIL, &mut operations, &mut []);
        operations.truncate(appends.len());
        (domain, operations.into_iter().map(|operation| operation.action).collect())
    }

    #[test]
    fn read_fixes_the_places_of_the_appends_it_observes() {
        let (mut domain, actions) = resolved(&["abc"], &["c", "x", "a", "b"]);
        let mut id = |text: &str| domain.id(&Value::from(text));
        let cas = |old, new| Action::Cas { key: 0, old, new };
        assert_eq!(actions[0], cas(id("ab"), id("abc")));
        assert_eq!(actions[1], Action::Write { key: 0, value: UNOBSERVED });
        assert_eq!(actions[2], cas(NIL, id("a")));
        assert_eq!(actions[3], cas(id("a"), id("ab")));
    }

    #[test]
    fn append_with_an_uncertain_place_is_not_replaced() {
        let (_, actions) = resolved(&["aa"], &["a", "a"]);
        assert!(actions.iter().all(|action| matches!(action, Action::Append { .. })));
        let (_, actions) = resolved(&["ab"], &["b", "ab", "a"]);
        assert!(actions.iter().all(|action| matches!(action, Action::Append { .. })));
    }

    #[test]
    fn appends_with_a_common_suffix_are_distinguished_by_the_value_they_extend() {
        let (mut domain, actions) = resolved(&["1,111,11,"], &["1,", "11,", "111,", "1111,"]);
        let mut id = |text: &str| domain.id(&Value::from(text));
        let cas = |old, new| Action::Cas { key: 0, old, new };
        assert_eq!(actions[0], cas(NIL, id("1,")));
        assert_eq!(actions[1], cas(id("1,111,"), id("1,111,11,")));
        assert_eq!(actions[2], cas(id("1,"), id("1,111,")));
        assert_eq!(actions[3], Action::Write { key: 0, value: UNOBSERVED });
    }

    #[test]
    fn append_outside_the_interval_of_a_value_is_not_its_producer() {
        let read = [("ab", 2, 5)];
        let place = |appends: &[Timed]| timed(&read, appends).1;
        let is_cas = |actions: &[Action]| -> Vec<bool> {
            actions.iter().map(|action| matches!(action, Action::Cas { .. })).collect()
        };
        let either = place(&[("b", 0, 9), ("ab", 1, 9), ("a", 3, 9)]);
        assert_eq!(is_cas(&either), [false, false, false]);
        // The append of "ab" began after the read, so it produced another value.
        let late = place(&[("b", 0, 9), ("ab", 6, 9), ("a", 3, 9)]);
        assert_eq!(is_cas(&late), [true, false, true]);
        assert!(matches!(late[1], Action::Append { .. }));
        // The append of "a" began after that of "b" ended, or after the read.
        let early = place(&[("b", 0, 2), ("ab", 1, 9), ("a", 3, 9)]);
        assert_eq!(is_cas(&early), [false, true, false]);
        assert_eq!(early[0], Action::Write { key: 0, value: UNOBSERVED });
        assert_eq!(is_cas(&place(&[("b", 0, 9), ("ab", 1, 9), ("a", 6, 9)])), [false, true, false]);
    }
}
