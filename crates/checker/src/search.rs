//! The search for an order that explains a component: Wing and Gong's, with Lowe's memory of the
//! configurations that were tried.
//!
//! It goes forward by letting one candidate after the other take effect, and back when none is
//! left. What keeps it from exploding is that most choices need not be tried:
//!
//! - An observation that the state confirms takes effect at once. It changes nothing.
//! - Of several operations that do the same the one that ends first goes first.
//! - A write may have taken effect right before any other write to its key that came while it was
//!   under way. Whether it did is not decided until it ends, so that none is wasted; and the more
//!   writes are left, the better: fewer configurations differ.
//! - A write whose value nobody observes goes right before another write, or as late as it can.
//! - An operation whose end is unknown takes effect only if the next one builds on it.
//! - A state is given up if the next observation that must come has no way to be confirmed, if
//!   somebody still has to observe the value that is being overwritten for good, or if more
//!   compare-and-sets must soon find a value than there are ways to come to it.
//! - How often operations with unknown ends are used is not counted at first, so that any number
//!   of them adds little. If an order is found that uses some kind more often than it was begun, a
//!   strict round looks for one that does not: it counts all kinds, remembers but how many uses
//!   there were in all, and so may miss one. Only then is that kind counted, in another round.

use crate::compile::{Component, May, Must, sees_others};
use crate::domain::{Id, OTHER};
use crate::known::known;
use crate::machine::{Action, Machine, State};
use crate::options::Bound;
use crate::order::{Step, overused, records};
use crate::tally::{HORIZON, Tally};
use crate::visited::{Place, Seats, Variant, Visited, seats};
use crate::window::Window;
use std::collections::BTreeMap;

/// How many steps lie between two questions whether to stop.
const PATIENCE: u32 = 1024;

/// How many more configurations than a round has visited are a little.
const SIMPLE: usize = 100_000;

/// All keys.
const ALL: u64 = u64::MAX;

/// What bounds a search.
pub(crate) struct Bounds<'a> {
    pub(crate) max_configurations: usize,
    pub(crate) stop: &'a mut dyn FnMut() -> bool,
}

/// The records of a history in an order in which they can have taken effect; `None`: there is no
/// such order.
pub(crate) fn search(
    component: &mut Component,
    bounds: &mut Bounds<'_>,
) -> Result<Option<Vec<usize>>, Bound> {
    if let Some(order) = known(component) {
        return Ok(Some(order));
    }
    let mut counted = vec![false; component.mays.len()];
    let mut budget = bounds.max_configurations;
    loop {
        let mut round = Round::new(component, &counted, false);
        let found = round.run(budget, bounds.stop)?;
        let (visited, order) = (round.visited.count, std::mem::take(&mut round.order));
        // The next round remembers as much again.
        budget = budget.saturating_sub(visited);
        if !found {
            return Ok(None);
        }
        let Some(kinds) = overused(&order, &component.mays) else {
            return Ok(Some(records(&order, component)));
        };
        // Perhaps an order is easily found that uses none too often.
        let mut round = Round::new(component, &counted, true);
        let little = (visited + SIMPLE).min(bounds.max_configurations);
        if let Ok(true) = round.run(little, bounds.stop) {
            return Ok(Some(records(&round.order.clone(), component)));
        }
        kinds.into_iter().for_each(|kind| counted[kind] = true);
    }
}

/// A configuration whose choices are being tried.
#[derive(Debug)]
struct Frame {
    state: State,
    /// The event before which whatever comes next must have begun.
    before: usize,
    /// The keys that the next operation may be about.
    open: u64,
    choices: Vec<Choice>,
    /// How many have been tried.
    tried: usize,
    /// How many steps had been taken before the choice that led here.
    base: usize,
}

/// A step that can be tried, and where it leads.
#[derive(Clone, Copy, Debug)]
struct Choice {
    candidate: Candidate,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    Must(usize),
    May(usize),
    /// A write that is covered has taken effect where it was.
    Hide(usize),
}

/// What became of a step.
enum Arrival {
    /// Everything has taken effect.
    Complete,
    /// It leads nowhere.
    Dead,
    /// There is more to try.
    Open(Frame),
}

/// One search under one set of kinds whose uses are counted.
struct Round<'a> {
    component: &'a mut Component,
    window: Window,
    seats: Vec<usize>,
    seat_count: usize,
    /// A number for each operation; alike ones have the same.
    likeness: Vec<usize>,
    /// Which writes another one could have overwritten at once: see [`Step::Cover`].
    covered: Vec<bool>,
    visited: Visited,
    order: Vec<Step>,
    /// For each kind of operations with unknown ends whether its uses are counted.
    counted: &'a [bool],
    /// How often each kind was used.
    used: Vec<u32>,
    /// Whether the others are not used more often than they were begun either.
    is_strict: bool,
    /// The keys of each operation, and of each kind of those with unknown ends.
    keys: (Vec<u64>, Vec<u64>),
    tally: Option<Tally>,
    /// Whether a value that nobody observes can still be told from another.
    sees_others: bool,
}

impl<'a> Round<'a> {
    fn new(component: &'a mut Component, counted: &'a [bool], is_strict: bool) -> Self {
        let (seats, seat_count) = seats(&component.musts);
        let mut alike: BTreeMap<&Action, usize> = BTreeMap::new();
        let number = |must: &'_ Must| must.record;
        let likeness = component
            .musts
            .iter()
            .map(|must| *alike.entry(&must.action).or_insert(number(must)))
            .collect();
        let actions = component.musts.iter().map(|must| &must.action);
        let sees_others =
            actions.chain(component.mays.iter().map(|may| &may.action)).any(sees_others);
        let width = component.machine.width();
        let keys = |action: &Action| match width {
            0..=63 => action.keys().iter().fold(0, |keys, key| keys | 1 << key),
            _ => ALL,
        };
        let keys = (
            component.musts.iter().map(|must| keys(&must.action)).collect(),
            component.mays.iter().map(|may| keys(&may.action)).collect(),
        );
        Self {
            window: Window::new(&component.musts),
            seats,
            seat_count,
            likeness,
            covered: vec![false; component.musts.len()],
            visited: Visited::new(component.musts.len()),
            order: Vec::new(),
            counted,
            used: vec![0; component.mays.len()],
            is_strict,
            keys,
            tally: Tally::new(component),
            sees_others,
            component,
        }
    }

    /// Whether there is an order; it is in `order` then.
    fn run(&mut self, budget: usize, stop: &mut dyn FnMut() -> bool) -> Result<bool, Bound> {
        let mut frames = match self.arrive(self.component.init, 0, ALL) {
            Arrival::Complete => return Ok(true),
            Arrival::Dead => return Ok(false),
            Arrival::Open(frame) => vec![frame],
        };
        let mut steps = 0_u32;
        while let Some(frame) = frames.last_mut() {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(PATIENCE) && stop() {
                return Err(Bound::Stopped);
            }
            if self.visited.count > budget {
                return Err(Bound::Configurations);
            }
            let Some(choice) = frame.choices.get(frame.tried).copied() else {
                let base = frame.base;
                frames.pop();
                self.retreat(base);
                continue;
            };
            frame.tried += 1;
            let (from, before, open) = (frame.state, frame.before, frame.open);
            match self.take(choice, from, before, open) {
                Arrival::Complete => return Ok(true),
                Arrival::Dead => {}
                Arrival::Open(frame) => frames.push(frame),
            }
        }
        Ok(false)
    }

    /// Lets a choice take effect, and all that goes with it.
    fn take(&mut self, choice: Choice, from: State, before: usize, open: u64) -> Arrival {
        let base = self.order.len();
        let open = match choice.candidate {
            Candidate::May(kind) => {
                if let Action::Write { key, .. } = self.component.mays[kind].action {
                    self.absorb(None);
                    self.cover(key, None);
                }
                self.step(Step::May { kind, before });
                self.keys.1[kind] | if open == ALL { 0 } else { open }
            }
            Candidate::Must(op) => {
                if let Action::Write { key, .. } = self.component.musts[op].action {
                    self.absorb(Some(op));
                    self.cover(key, Some(op));
                }
                self.step(Step::Must(op));
                ALL
            }
            Candidate::Hide(op) => {
                self.step(Step::Hide(op));
                open
            }
        };
        if choice.state != from && self.is_missed(from, choice.state) {
            self.retreat(base);
            return Arrival::Dead;
        }
        let arrival = self.arrive(choice.state, base, open);
        if matches!(arrival, Arrival::Dead) {
            self.retreat(base);
        }
        arrival
    }

    /// Writes that nobody observes go right before another one.
    fn absorb(&mut self, other: Option<usize>) {
        let unseen: Vec<_> = self.unseen().filter(|op| Some(*op) != other).collect();
        unseen.into_iter().for_each(|op| self.step(Step::Must(op)));
    }

    /// Any write that can take effect now could do so right before another one. Whether it did
    /// is left open until it must have taken effect.
    fn cover(&mut self, key: usize, other: Option<usize>) {
        let musts = &self.component.musts;
        let is_alike =
            |op: &usize| matches!(musts[*op].action, Action::Write { key: at, .. } if at == key);
        let bare = |op: &usize| !self.covered[*op] && is_alike(op) && Some(*op) != other;
        let bare: Vec<_> = self.window.candidates().filter(bare).collect();
        bare.into_iter().for_each(|op| self.step(Step::Cover(op)));
    }

    /// The writes that nobody observes and that can take effect now.
    fn unseen(&self) -> impl Iterator<Item = usize> {
        let can_tell = !self.component.machine.is_single() || self.sees_others;
        let musts = &self.component.musts;
        let is_unseen =
            move |op: &usize| matches!(musts[*op].action, Action::Write { value: OTHER, .. });
        self.window.candidates().filter(move |op| !can_tell && is_unseen(op))
    }

    /// Whether somebody who is left needs what this step gives up for good.
    fn is_missed(&self, from: State, to: State) -> bool {
        let is_used_up = |kind| self.left(kind, usize::MAX) == 0;
        let machine = &self.component.machine;
        self.tally.as_ref().is_some_and(|it| it.is_missed(machine, (from, to), is_used_up))
    }

    /// How many operations of a kind can still be used before an event.
    fn left(&self, kind: usize, before: usize) -> usize {
        left(&self.component.mays[kind], before, self.used(kind))
    }

    /// How many operations of a kind are gone; none where uses are not counted.
    fn used(&self, kind: usize) -> Option<usize> {
        (self.is_strict || self.counted[kind]).then(|| self.used[kind] as usize)
    }

    /// Confirms what the state confirms, and finds out what can be tried next.
    fn arrive(&mut self, state: State, base: usize, open: u64) -> Arrival {
        let open = if self.confirm(state) { ALL } else { open };
        let Some(next) = self.window.first_end() else { return Arrival::Complete };
        let before = self.component.musts[next].end;
        if !self.is_new(next, state, open) || self.is_hopeless(state) {
            return Arrival::Dead;
        }
        let choices = self.choices(next, state, open);
        if choices.is_empty() {
            return Arrival::Dead;
        }
        Arrival::Open(Frame { state, before, open, choices, tried: 0, base })
    }

    /// All observations that the state confirms take effect; whether there was one.
    fn confirm(&mut self, state: State) -> bool {
        let mut confirmed = false;
        loop {
            let Component { machine, musts, .. } = &mut *self.component;
            let mut agrees = |op: &usize| {
                let action = &musts[*op].action;
                action.is_observation() && machine.apply(action, state).is_some()
            };
            let agreeing: Vec<_> = self.window.candidates().filter(|op| agrees(op)).collect();
            if agreeing.is_empty() {
                return confirmed;
            }
            confirmed = true;
            agreeing.into_iter().for_each(|op| self.step(Step::Must(op)));
        }
    }

    /// Enters the configuration among those visited; `false` if it was there.
    fn is_new(&mut self, next: usize, state: State, open: u64) -> bool {
        let empty = || Seats::empty(self.seat_count);
        let (mut changes, mut duties, mut spares) = (empty(), empty(), empty());
        for op in self.window.candidates() {
            let (action, seat) = (&self.component.musts[op].action, self.seats[op]);
            let is_write = action.is_unconditional();
            if is_write {
                spares.insert(seat);
            }
            if action.is_observation() || is_write && !self.covered[op] {
                duties.insert(seat);
            } else if !is_write {
                changes.insert(seat);
            }
        }
        let counted = (0..self.used.len()).filter(|kind| self.counted[*kind]);
        // The others' uses are not known from here on, but fewer are better in all likelihood.
        let total = self.is_strict.then(|| self.used.iter().sum());
        let uses = counted.map(|kind| self.used[kind]).chain(total).collect();
        let place = Place { state, changes };
        self.visited.enter(next, place, Variant { duties, spares, open, uses })
    }

    /// What may take effect next, the most promising first.
    fn choices(&mut self, next: usize, state: State, open: u64) -> Vec<Choice> {
        let before = self.component.musts[next].end;
        let wanted = self.wanted(state);
        let mut ranked = Vec::new();
        let mut candidates: Vec<_> = self.window.candidates().collect();
        candidates.sort_unstable_by_key(|op| self.component.musts[*op].end);
        let mut tried = Vec::new();
        if self.covered[next] {
            let is_near = wanted.is_none_or(|wanted| self.is_near(state, wanted));
            let rank = (u64::MAX, u8::from(!is_near), 0, before);
            ranked.push((rank, Choice { candidate: Candidate::Hide(next), state }));
        }
        let is_single = self.component.machine.is_single();
        for op in candidates {
            let Must { action, end, hint, .. } = &self.component.musts[op];
            let can_wait = op != next && !self.sees_others && is_single;
            let is_idle = can_wait && matches!(action, Action::Write { value: OTHER, .. });
            if action.is_observation()
                || is_idle
                || self.keys.0[op] & open == 0
                || is_useless(action, open)
                || tried.contains(&(self.likeness[op], false))
                || self.covered[op] && tried.contains(&(self.likeness[op], true))
            {
                continue;
            }
            tried.push((self.likeness[op], self.covered[op]));
            let Some(to) = self.component.machine.apply(action, state) else { continue };
            let rank = (self.hint(op, *hint), self.distance(to, wanted, action), 0, *end);
            ranked.push((rank, Choice { candidate: Candidate::Must(op), state: to }));
        }
        let has_unseen = self.unseen().next().is_some();
        for kind in 0..self.component.mays.len() {
            let Some((began, hint)) = self.available(kind, before) else { continue };
            let action = &self.component.mays[kind].action;
            if is_useless(action, open) {
                continue;
            }
            let Some(to) = self.component.machine.apply(action, state) else { continue };
            let is_unseen = to == OTHER && is_single && !self.sees_others;
            // What changes nothing is of use only to what goes right before it.
            let is_idle = to == state && !(action.is_unconditional() && has_unseen);
            if is_idle || is_unseen {
                continue;
            }
            // The fewer of them are used, the more are left for where nothing else will do.
            let far = 4 + self.distance(to, wanted, action);
            let rank = (hint.unwrap_or(u64::MAX), far, 1, began);
            ranked.push((rank, Choice { candidate: Candidate::May(kind), state: to }));
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, choice)| choice).collect()
    }

    /// The begin and the hint of the next operation of a kind, if it began before an event.
    fn available(&self, kind: usize, before: usize) -> Option<(usize, Option<u64>)> {
        let used = self.used(kind);
        let calls = &self.component.mays[kind].calls;
        let (began, hint, _) = *calls.get(used.unwrap_or_default())?;
        if began >= before {
            return None;
        }
        // Where uses are not counted the hint is that of the next one, as far as hints go.
        if used.is_some() || hint.is_none() {
            return Some((began, hint));
        }
        let hinted = |step: &Step| match step {
            Step::Must(op) => self.component.musts[*op].hint,
            _ => None,
        };
        let place = self.order.iter().rev().find_map(hinted).unwrap_or_default();
        let later = calls.iter().filter_map(|call| call.1).filter(|hint| *hint > place);
        Some((began, later.min()))
    }

    /// The first hint of the operations that can stand for this one, if it has one itself.
    fn hint(&self, op: usize, own: Option<u64>) -> u64 {
        let Some(own) = own else { return u64::MAX };
        let alike = |other: &usize| self.likeness[*other] == self.likeness[op];
        let hints = self.window.candidates().filter(alike);
        hints.filter_map(|other| self.component.musts[other].hint).min().unwrap_or(own)
    }

    /// A value of a key that the next operation which needs one needs.
    fn wanted(&self, state: State) -> Option<(usize, Id)> {
        let machine = &self.component.machine;
        let ends = self.window.events().take(HORIZON).filter(|(_, is_end)| *is_end);
        let needs = ends
            .map(|(op, _)| self.component.musts[op].action.needs())
            .find(|needs| !needs.is_empty())?;
        let is_missing = |need: &&(usize, Id, bool)| machine.get(state, need.0) != need.1;
        needs.iter().find(is_missing).or(needs.first()).map(|(key, value, _)| (*key, *value))
    }

    /// Whether a state has a value, or may grow into it.
    fn is_near(&self, state: State, (key, wanted): (usize, Id)) -> bool {
        let Machine { domain, .. } = &self.component.machine;
        let value = self.component.machine.get(state, key);
        value == wanted || domain.leads(value, wanted)
    }

    /// How little an action promises that leads to this state. What can be done only in the
    /// present state comes before what can be done at any time, unless that is what is wanted.
    fn distance(&self, to: State, wanted: Option<(usize, Id)>, action: &Action) -> u8 {
        let is_near = wanted.is_some_and(|wanted| self.is_near(to, wanted));
        u8::from(!is_near) + 2 * u8::from(action.is_unconditional())
    }

    /// Whether some operation that needs a value soon has no way to find it.
    fn is_hopeless(&mut self, state: State) -> bool {
        if let Some(tally) = &mut self.tally {
            let Component { machine, musts, mays, .. } = &*self.component;
            let is_counted = |kind: usize| self.is_strict || self.counted[kind];
            let at_hand = |kind: usize, op: usize| {
                let used = is_counted(kind).then(|| self.used[kind] as usize);
                left(&mays[kind], musts[op].end, used)
            };
            return tally.is_short(machine, state, &self.window, at_hand);
        }
        if !self.component.machine.is_single() {
            return false;
        }
        let musts = &self.component.musts;
        let mut changes = Vec::new();
        for (op, is_end) in self.window.events().take(HORIZON) {
            let action = &musts[op].action;
            match (is_end, action.need()) {
                (false, _) if !action.is_observation() => changes.push(op),
                (true, Some(need)) => {
                    let others = changes.iter().filter(|change| **change != op);
                    let others = others.map(|change| &musts[*change].action);
                    let end = musts[op].end;
                    let kinds = (0..self.component.mays.len())
                        .filter(|kind| self.available(*kind, end).is_some())
                        .map(|kind| &self.component.mays[kind].action);
                    let actions: Vec<_> = others.chain(kinds).collect();
                    return !self.can_become(state, need, &actions);
                }
                _ => {}
            }
        }
        false
    }

    /// Whether these actions, in some order, might turn the state into the wanted value.
    fn can_become(&self, state: State, wanted: Id, actions: &[&Action]) -> bool {
        let domain = &self.component.machine.domain;
        let resets = |action: &&&Action| !matches!(action, Action::Append { .. });
        let can_restart = actions.iter().any(|action| resets(&action));
        let makes = |action: &&Action| match action {
            Action::Append { text, .. } => {
                (can_restart || domain.leads(state, wanted)) && domain.ends_with(wanted, text)
            }
            Action::Deal(_) => true,
            action => action.made() == Some(wanted),
        };
        state == wanted || actions.iter().any(makes)
    }

    /// Something takes effect.
    fn step(&mut self, step: Step) {
        match step {
            Step::Must(op) | Step::Hide(op) => {
                self.window.lift(op);
                self.count(op, |count| *count -= 1);
            }
            Step::Cover(op) => self.covered[op] = true,
            Step::May { kind, .. } => self.used[kind] += 1,
        }
        self.order.push(step);
    }

    /// Takes back all steps but the first `base`.
    fn retreat(&mut self, base: usize) {
        for step in self.order.split_off(base).into_iter().rev() {
            match step {
                Step::Must(op) | Step::Hide(op) => {
                    self.window.restore(op);
                    self.count(op, |count| *count += 1);
                }
                Step::Cover(op) => self.covered[op] = false,
                Step::May { kind, .. } => self.used[kind] -= 1,
            }
        }
    }

    fn count(&mut self, op: usize, change: impl Fn(&mut u32)) {
        if let Some(tally) = &mut self.tally {
            tally.count(op, change);
        }
    }
}

/// How many operations of a kind can be used before an event, if so many are gone; any number if
/// that is not counted.
fn left(may: &May, before: usize, used: Option<usize>) -> usize {
    let begun = may.calls.partition_point(|call| call.0 < before);
    match used {
        Some(used) => begun.saturating_sub(used),
        None if begun > 0 => usize::MAX,
        None => 0,
    }
}

/// Whether a write would undo all that was done to these keys for the sake of what comes next.
fn is_useless(action: &Action, open: u64) -> bool {
    matches!(action, Action::Write { key, .. } if *key < 64 && open == 1 << key)
}
