//! How often each value of each key is still needed, and how often it can still be made.
//!
//! Each way to come to a value serves one operation that changes it, and all that only look. Where
//! that is not enough for what must take effect soon, a search has come to a dead end.

use crate::compile::Component;
use crate::domain::Id;
use crate::machine::{Action, Machine, State};
use crate::window::Window;
use std::collections::BTreeMap;

/// How far ahead needs are looked for, in events.
pub(crate) const HORIZON: usize = 256;

/// The place of a value of a key that some operation needs.
type Slot = usize;

/// The balance of needs and makers of what has not taken effect.
#[derive(Debug)]
pub(crate) struct Tally {
    slots: BTreeMap<(usize, Id), Slot>,
    musts: Vec<Share>,
    counts: Vec<Count>,
    /// What [`Tally::is_short`] counts with; nothing in between.
    ahead: Vec<(usize, usize)>,
    touched: Vec<Slot>,
}

/// What one operation needs and makes.
#[derive(Debug)]
struct Share {
    /// And whether it takes the value away.
    needs: Vec<(Slot, bool)>,
    makes: Vec<Slot>,
}

/// Who needs and makes one value.
#[derive(Clone, Debug, Default)]
struct Count {
    needs: u32,
    makers: u32,
    /// The kinds of operations with unknown ends that make it.
    kinds: Vec<usize>,
}

impl Tally {
    /// `None` if there are texts that grow: what comes of those depends on what was before.
    pub(crate) fn new(component: &Component) -> Option<Self> {
        let mays = component.mays.iter().map(|may| &may.action);
        let mut actions = component.musts.iter().map(|must| &must.action).chain(mays);
        if actions.any(|action| matches!(action, Action::Append { .. })) {
            return None;
        }
        let mut slots = BTreeMap::new();
        for (key, value, _) in component.musts.iter().flat_map(|must| must.action.needs()) {
            let next = slots.len();
            slots.entry((key, value)).or_insert(next);
        }
        let makes = |action: &Action| -> Vec<Slot> {
            action.makes().iter().filter_map(|made| slots.get(made).copied()).collect()
        };
        let share = |action: &Action| Share {
            needs: action.needs().iter().map(|need| (slots[&(need.0, need.1)], need.2)).collect(),
            makes: makes(action),
        };
        let musts: Vec<_> = component.musts.iter().map(|must| share(&must.action)).collect();
        let mut counts = vec![Count::default(); slots.len()];
        for (kind, may) in component.mays.iter().enumerate() {
            makes(&may.action).into_iter().for_each(|slot| counts[slot].kinds.push(kind));
        }
        let ahead = vec![(0, 0); slots.len()];
        let mut tally = Self { slots, musts, counts, ahead, touched: Vec::new() };
        (0..tally.musts.len()).for_each(|op| tally.count(op, |count| *count += 1));
        Some(tally)
    }

    /// An operation has taken effect, or has not after all.
    pub(crate) fn count(&mut self, op: usize, change: impl Fn(&mut u32)) {
        let Share { needs, makes } = &self.musts[op];
        needs.iter().for_each(|(slot, _)| change(&mut self.counts[*slot].needs));
        makes.iter().for_each(|slot| change(&mut self.counts[*slot].makers));
    }

    /// Whether somebody who is left needs a value that is given up for good with this step.
    pub(crate) fn is_missed(
        &self,
        machine: &Machine,
        (from, to): (State, State),
        is_used_up: impl Fn(usize) -> bool,
    ) -> bool {
        (0..machine.width()).any(|key| {
            let value = machine.get(from, key);
            let slot =
                if value == machine.get(to, key) { None } else { self.slots.get(&(key, value)) };
            slot.map(|slot| &self.counts[*slot]).is_some_and(|count| {
                count.needs > 0
                    && count.makers == 0
                    && count.kinds.iter().all(|kind| is_used_up(*kind))
            })
        })
    }

    /// Whether a value is needed more often than it can be there by the time. `at_hand` says how
    /// many operations of a kind can be used before the end of an operation.
    pub(crate) fn is_short(
        &mut self,
        machine: &Machine,
        state: State,
        window: &Window,
        at_hand: impl Fn(usize, usize) -> usize,
    ) -> bool {
        for key in 0..machine.width() {
            if let Some(slot) = self.slots.get(&(key, machine.get(state, key))) {
                self.ahead[*slot].0 += 1;
                self.touched.push(*slot);
            }
        }
        let mut is_short = false;
        'events: for (op, is_end) in window.events().take(HORIZON) {
            let Share { needs, makes } = &self.musts[op];
            if !is_end {
                makes.iter().for_each(|slot| self.ahead[*slot].0 += 1);
                self.touched.extend(makes);
                continue;
            }
            for (slot, is_taken) in needs {
                let (found, taken) = &mut self.ahead[*slot];
                *taken += usize::from(*is_taken);
                self.touched.push(*slot);
                let Some(wanted) = (*taken).max(1).checked_sub(*found).filter(|it| *it > 0) else {
                    continue;
                };
                let kinds = self.counts[*slot].kinds.iter();
                let found = kinds.map(|kind| at_hand(*kind, op)).fold(0, usize::saturating_add);
                if found < wanted {
                    is_short = true;
                    break 'events;
                }
            }
        }
        self.touched.drain(..).for_each(|slot| self.ahead[slot] = (0, 0));
        is_short
    }
}
