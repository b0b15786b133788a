//! What is known beforehand about the places of appends.
//!
//! A state that somebody must see, and that only one append can lead to, tells where that append
//! took effect: it is a compare-and-set. The state before it must have been there as well, and so
//! on back to an empty text. An append that leads to no state that somebody may see, wherever it
//! takes effect, is a write that nobody sees. With texts that are appended once each, as recorders
//! make them, no append is left, and a search need not try their orders.
//!
//! Several appends may end a state, as "1,", "11,", and "111," do. Those cannot have led to it
//! whose state before it comes from nothing, or only later than they or the state were there.

use crate::compile::{May, Must};
use crate::domain::{Domain, Id, NIL, OTHER};
use crate::machine::Action;
use std::collections::{BTreeMap, BTreeSet};

/// An append that may lead to a value, and the value before it.
type Maker = (usize, Id);

/// Turns the appends to one register whose places are known into what they are.
pub(crate) fn settle(domain: &mut Domain, init: Id, musts: &mut [Must], mays: &mut [May]) {
    let mut actions: Vec<&mut Action> = Vec::new();
    let mut times = Vec::new();
    let mut certain = Vec::new();
    for Must { action, begin, end, .. } in musts {
        certain.extend(action.need().map(|value| (value, *end)));
        actions.push(action);
        times.push(Time { begin: *begin, end: *end, once: true });
    }
    for May { action, calls } in mays {
        let begin = calls.first().map_or(0, |call| call.0);
        times.push(Time { begin, end: usize::MAX, once: calls.len() == 1 });
        actions.push(action);
    }
    let possible = needs(&actions);
    if let Some(mut places) = Places::new(domain, init, actions, times) {
        places.follow(certain, possible);
    }
}

fn needs(actions: &[&mut Action]) -> Vec<Id> {
    let need = |action: &&mut Action| match &**action {
        Action::Differs { old, .. } => Some(*old),
        action => action.need(),
    };
    actions.iter().filter_map(need).collect()
}

/// When an action may take effect: between these events.
struct Time {
    begin: usize,
    end: usize,
    /// And whether it does so once at most.
    once: bool,
}

/// What is known so far.
struct Places<'a> {
    domain: &'a mut Domain,
    actions: Vec<&'a mut Action>,
    times: Vec<Time>,
    /// The appends by their text and the length of it.
    appends: BTreeMap<usize, BTreeMap<Vec<u8>, Vec<usize>>>,
    /// The values that something else than an append can make, and the event before which none
    /// can be there for it.
    made: BTreeMap<Id, usize>,
    /// The appends that may lead to a value.
    makers: BTreeMap<Id, Vec<Maker>>,
    /// The event before which a value cannot be there; `None`: it never can.
    since: BTreeMap<Id, Option<usize>>,
}

impl<'a> Places<'a> {
    /// `None` if there are no appends, or too much besides them to say anything.
    fn new(
        domain: &'a mut Domain,
        init: Id,
        actions: Vec<&'a mut Action>,
        times: Vec<Time>,
    ) -> Option<Self> {
        let mut made = BTreeMap::from([(init, 0)]);
        let mut appends: BTreeMap<usize, BTreeMap<Vec<u8>, Vec<usize>>> = BTreeMap::new();
        for (index, action) in actions.iter().enumerate() {
            match &**action {
                Action::Deal(_) => return None,
                Action::Append { text, .. } => {
                    let alike = appends.entry(text.len()).or_default();
                    alike.entry(text.clone()).or_default().push(index);
                }
                action => {
                    let begin = times[index].begin;
                    if let Some(value) = action.made() {
                        let since = made.entry(value).or_insert(begin);
                        *since = begin.min(*since);
                    }
                }
            }
        }
        let is_plain = |id: &Id| *id == NIL || *id == OTHER || domain.text(*id).is_some();
        // What is no text, and an append that adds nothing, would be further ways to a value.
        let is_clear = made.keys().all(is_plain) && !appends.contains_key(&0);
        let (makers, since) = (BTreeMap::new(), BTreeMap::new());
        (is_clear && !appends.is_empty()).then_some(Self {
            domain,
            actions,
            times,
            appends,
            made,
            makers,
            since,
        })
    }

    /// Goes back from the values that must be there before an event, and then from those that may
    /// be.
    fn follow(&mut self, certain: Vec<(Id, usize)>, mut possible: Vec<Id>) {
        // The longest first: whoever needs a value for a longer one has a say in how early.
        let mut due: BTreeMap<(usize, Id), usize> = BTreeMap::new();
        for (value, before) in certain {
            self.expect(&mut due, value, before);
        }
        while let Some(((_, value), before)) = due.pop_last() {
            match self.only_maker(value, before) {
                Some((append, from)) => {
                    self.place(append, from, value);
                    self.expect(&mut due, from, before.min(self.times[append].end));
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
            self.explore(value);
            for (append, from) in &self.makers[&value] {
                useful.insert(*append);
                possible.push(*from);
            }
        }
        for (index, action) in self.actions.iter_mut().enumerate() {
            if let Action::Append { key, .. } = &**action
                && !useful.contains(&index)
            {
                **action = Action::Write { key: *key, value: OTHER };
            }
        }
    }

    /// A value must be there before an event.
    fn expect(&self, due: &mut BTreeMap<(usize, Id), usize>, value: Id, before: usize) {
        let length = self.domain.text(value).map_or(0, <[u8]>::len);
        let earliest = due.entry((length, value)).or_insert(before);
        *earliest = before.min(*earliest);
    }

    /// The one append that leads to a value, which must be there before an event, and the value
    /// before it, if that is certain.
    fn only_maker(&mut self, value: Id, before: usize) -> Option<Maker> {
        if self.made.get(&value).is_some_and(|since| *since < before) {
            return None;
        }
        self.explore(value);
        let is_early = |(append, from): &&Maker| {
            // One that has its place already leads to another value.
            let is_free = matches!(&*self.actions[*append], Action::Append { .. });
            let from = self.since[from].is_some_and(|since| since < before);
            is_free && from && self.times[*append].begin < before
        };
        let mut early = self.makers[&value].iter().filter(is_early);
        let (append, from) = *early.next()?;
        if early.next().is_some() || !self.times[append].once {
            return None;
        }
        if self.domain.text(from).is_none_or(|text| !text.is_empty()) {
            return Some((append, from));
        }
        // Appending to nothing and to the empty text comes to the same.
        match (self.made.contains_key(&NIL), self.made.contains_key(&from)) {
            (true, false) => Some((append, NIL)),
            (false, true) => Some((append, from)),
            _ => None,
        }
    }

    /// Finds out how a value can come about, and since when, and all that it can grow from.
    fn explore(&mut self, value: Id) {
        // A loop, since a text may have grown from thousands.
        let mut path = vec![value];
        while let Some(value) = path.last().copied() {
            if self.since.contains_key(&value) {
                path.pop();
                continue;
            }
            let Some(mut makers) = self.makers.remove(&value) else {
                let makers = self.fitting(value);
                path.extend(makers.iter().map(|(_, from)| *from));
                self.makers.insert(value, makers);
                continue;
            };
            let since = |(append, from): &Maker| {
                let Time { begin, end, .. } = self.times[*append];
                self.since[from].filter(|since| *since < end).map(|since| since.max(begin))
            };
            makers.retain(|maker| since(maker).is_some());
            let grown = makers.iter().filter_map(since).min();
            let since = self.made_since(value).into_iter().chain(grown).min();
            self.makers.insert(value, makers);
            self.since.insert(value, since);
        }
    }

    /// Since when something else than an append can have led to a value.
    fn made_since(&self, value: Id) -> Option<usize> {
        let since = self.made.get(&value).copied();
        // Appending to nothing is appending to the empty text.
        let is_empty = self.domain.text(value).is_some_and(<[u8]>::is_empty);
        let nothing = self.made.get(&NIL).copied().filter(|_| is_empty);
        since.into_iter().chain(nothing).min()
    }

    /// The appends whose text ends a value.
    fn fitting(&mut self, value: Id) -> Vec<Maker> {
        let Some(whole) = self.domain.text(value) else { return Vec::new() };
        let mut fitting = Vec::new();
        for (length, alike) in &self.appends {
            let Some(start) = whole.len().checked_sub(*length) else { break };
            let alike = alike.get(&whole[start..]).into_iter().flatten();
            fitting.extend(alike.map(|append| (*append, *length)));
        }
        let shortened = |(append, length)| (append, self.domain.shortened(value, length));
        fitting.into_iter().map(shortened).collect()
    }

    /// An append takes effect there and nowhere else.
    fn place(&mut self, append: usize, old: Id, new: Id) {
        let action = &mut *self.actions[append];
        if let Action::Append { key, .. } = action {
            *action = Action::Swap { key: *key, old, new };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    type Timed = (&'static str, usize, usize);

    fn must(action: Action) -> Must {
        Must { action, begin: 0, end: 1, hint: None, record: 0 }
    }

    fn append(text: &str) -> Must {
        must(Action::Append { key: 0, text: text.into() })
    }

    /// What becomes of appends if these texts are read, and nothing was there.
    fn settled(reads: &[&'static str], appends: &[&'static str]) -> (Domain, Vec<Action>) {
        let reads: Vec<_> = reads.iter().map(|text| (*text, 0, 1)).collect();
        let appends: Vec<_> = appends.iter().map(|text| (*text, 0, 1)).collect();
        timed(&reads, &appends)
    }

    /// The same of reads and appends between two events.
    fn timed(reads: &[Timed], appends: &[Timed]) -> (Domain, Vec<Action>) {
        let values: Vec<_> = reads.iter().map(|read| Value::from(read.0)).collect();
        let mut domain = Domain::new(values.iter().collect(), true);
        let appended =
            |(text, begin, end): &Timed| Must { begin: *begin, end: *end, ..append(text) };
        let mut musts: Vec<_> = appends.iter().map(appended).collect();
        for (value, (_, begin, end)) in values.iter().zip(reads) {
            let want = domain.id(value);
            musts.push(Must { begin: *begin, end: *end, ..must(Action::Read { key: 0, want }) });
        }
        settle(&mut domain, NIL, &mut musts, &mut []);
        musts.truncate(appends.len());
        (domain, musts.into_iter().map(|must| must.action).collect())
    }

    #[test]
    fn a_read_tells_the_places_of_what_it_shows() {
        let (mut domain, actions) = settled(&["abc"], &["c", "x", "a", "b"]);
        let mut id = |text: &str| domain.id(&Value::from(text));
        let swap = |old, new| Action::Swap { key: 0, old, new };
        assert_eq!(actions[0], swap(id("ab"), id("abc")));
        assert_eq!(actions[1], Action::Write { key: 0, value: OTHER });
        assert_eq!(actions[2], swap(NIL, id("a")));
        assert_eq!(actions[3], swap(id("a"), id("ab")));
    }

    #[test]
    fn what_is_not_certain_stays() {
        let (_, actions) = settled(&["aa"], &["a", "a"]);
        assert!(actions.iter().all(|action| matches!(action, Action::Append { .. })));
        let (_, actions) = settled(&["ab"], &["b", "ab", "a"]);
        assert!(actions.iter().all(|action| matches!(action, Action::Append { .. })));
    }

    #[test]
    fn an_end_that_several_texts_share_is_told_by_what_was_before() {
        let (mut domain, actions) = settled(&["1,111,11,"], &["1,", "11,", "111,", "1111,"]);
        let mut id = |text: &str| domain.id(&Value::from(text));
        let swap = |old, new| Action::Swap { key: 0, old, new };
        assert_eq!(actions[0], swap(NIL, id("1,")));
        assert_eq!(actions[1], swap(id("1,111,"), id("1,111,11,")));
        assert_eq!(actions[2], swap(id("1,"), id("1,111,")));
        assert_eq!(actions[3], Action::Write { key: 0, value: OTHER });
    }

    #[test]
    fn an_append_that_came_too_late_or_was_over_too_early_did_not_do_it() {
        let read = [("ab", 2, 5)];
        let place = |appends: &[Timed]| timed(&read, appends).1;
        let swaps = |actions: &[Action]| -> Vec<bool> {
            actions.iter().map(|action| matches!(action, Action::Swap { .. })).collect()
        };
        let either = place(&[("b", 0, 9), ("ab", 1, 9), ("a", 3, 9)]);
        assert_eq!(swaps(&either), [false, false, false]);
        // The whole was appended after it had been read. It may have been so once more.
        let late = place(&[("b", 0, 9), ("ab", 6, 9), ("a", 3, 9)]);
        assert_eq!(swaps(&late), [true, false, true]);
        assert!(matches!(late[1], Action::Append { .. }));
        // The beginning was appended after the end was, or after the whole was read.
        let early = place(&[("b", 0, 2), ("ab", 1, 9), ("a", 3, 9)]);
        assert_eq!(swaps(&early), [false, true, false]);
        assert_eq!(early[0], Action::Write { key: 0, value: OTHER });
        assert_eq!(swaps(&place(&[("b", 0, 9), ("ab", 1, 9), ("a", 6, 9)])), [false, true, false]);
    }
}
