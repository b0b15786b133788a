//! What is known beforehand about the places of appends.
//!
//! A state that somebody must see, and that only one append can lead to, tells where that append
//! took effect: it is a compare-and-set. The state before it must have been there as well, and so
//! on back to an empty text. An append that leads to no state that somebody may see, wherever it
//! takes effect, is a write that nobody sees. With texts that are appended once each, as recorders
//! make them, no append is left, and a search need not try their orders.

use crate::compile::{May, Must};
use crate::domain::{Domain, Id, NIL, OTHER};
use crate::machine::Action;
use std::collections::{BTreeMap, BTreeSet};

/// Turns the appends to one register whose places are known into what they are.
pub(crate) fn settle(domain: &mut Domain, init: Id, musts: &mut [Must], mays: &mut [May]) {
    let mut actions: Vec<&mut Action> = Vec::new();
    let mut once = Vec::new();
    for must in musts {
        actions.push(&mut must.action);
        once.push(true);
    }
    let certain = actions.iter().filter_map(|action| action.need()).collect();
    for may in mays {
        once.push(may.calls.len() == 1);
        actions.push(&mut may.action);
    }
    let possible = needs(&actions);
    if let Some(mut places) = Places::new(domain, init, actions, once) {
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

/// What is known so far.
struct Places<'a> {
    domain: &'a mut Domain,
    actions: Vec<&'a mut Action>,
    /// Whether the action takes effect once at most.
    once: Vec<bool>,
    /// The appends that are left, by their text and the length of it.
    appends: BTreeMap<usize, BTreeMap<Vec<u8>, Vec<usize>>>,
    /// The values that something else than an append can make.
    made: BTreeSet<Id>,
}

impl<'a> Places<'a> {
    /// `None` if there are no appends, or too much besides them to say anything.
    fn new(
        domain: &'a mut Domain,
        init: Id,
        actions: Vec<&'a mut Action>,
        once: Vec<bool>,
    ) -> Option<Self> {
        let mut made = BTreeSet::from([init]);
        let mut appends: BTreeMap<usize, BTreeMap<Vec<u8>, Vec<usize>>> = BTreeMap::new();
        for (index, action) in actions.iter().enumerate() {
            match &**action {
                Action::Deal(_) => return None,
                Action::Append { text, .. } => {
                    let alike = appends.entry(text.len()).or_default();
                    alike.entry(text.clone()).or_default().push(index);
                }
                action => made.extend(action.made()),
            }
        }
        let is_plain = |id: &Id| *id == NIL || *id == OTHER || domain.text(*id).is_some();
        // What is no text, and an append that adds nothing, would be further ways to a value.
        let is_clear = made.iter().all(is_plain) && !appends.contains_key(&0);
        (is_clear && !appends.is_empty()).then_some(Self { domain, actions, once, appends, made })
    }

    /// Goes back from the values that must be there, and then from those that may be.
    fn follow(&mut self, mut certain: Vec<Id>, mut possible: Vec<Id>) {
        let mut seen = BTreeSet::new();
        while let Some(value) = certain.pop() {
            if !seen.insert(value) {
                continue;
            }
            match self.only_maker(value) {
                Some((append, before)) => {
                    self.place(append, before, value);
                    certain.push(before);
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
            for (append, length) in self.makers(value) {
                useful.insert(append);
                possible.push(self.domain.shortened(value, length));
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

    /// The one append that leads to a value, and the value before it, if that is certain.
    fn only_maker(&mut self, value: Id) -> Option<(usize, Id)> {
        let makers = self.makers(value);
        let &[(append, length)] = &makers[..] else { return None };
        let is_free = matches!(&*self.actions[append], Action::Append { .. });
        if self.made.contains(&value) || !self.once[append] || !is_free {
            return None;
        }
        let before = self.domain.shortened(value, length);
        if self.domain.text(before).is_none_or(|text| !text.is_empty()) {
            return Some((append, before));
        }
        // Appending to nothing and to the empty text comes to the same.
        match (self.made.contains(&NIL), self.made.contains(&before)) {
            (true, false) => Some((append, NIL)),
            (false, true) => Some((append, before)),
            _ => None,
        }
    }

    /// The appends that may lead to a value, with the lengths of their texts.
    fn makers(&self, value: Id) -> Vec<(usize, usize)> {
        let Some(whole) = self.domain.text(value) else { return Vec::new() };
        let mut makers = Vec::new();
        for (length, alike) in &self.appends {
            let Some(start) = whole.len().checked_sub(*length) else { break };
            let fitting = alike.get(&whole[start..]).into_iter().flatten();
            makers.extend(fitting.map(|append| (*append, *length)));
        }
        makers
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

    fn must(action: Action) -> Must {
        Must { action, begin: 0, end: 1, hint: None, record: 0 }
    }

    fn append(text: &str) -> Must {
        must(Action::Append { key: 0, text: text.into() })
    }

    /// What becomes of appends if these texts are read, and nothing was there.
    fn settled(reads: &[&str], appends: &[&str]) -> (Domain, Vec<Action>) {
        let values: Vec<_> = reads.iter().map(|text| Value::from(*text)).collect();
        let mut domain = Domain::new(values.iter().collect(), true);
        let mut musts: Vec<_> = appends.iter().map(|text| append(text)).collect();
        for value in &values {
            let want = domain.id(value);
            musts.push(must(Action::Read { key: 0, want }));
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
}
