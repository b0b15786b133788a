//! An order that the recorder knows of: tried before any search, in one walk along it.

use crate::compile::{Component, Must};
use crate::machine::{Action, Machine, State};
use crate::window::Window;

/// A change of the state, where the recorder believes it to belong.
enum Change<'a> {
    Must(usize),
    /// One with an unknown end, begun at this event, and its place in the history.
    May(&'a Action, usize, usize),
}

/// What is left to explain, and where the walk has come to.
struct Walk<'a> {
    musts: &'a [Must],
    machine: &'a mut Machine,
    window: Window,
    state: State,
    order: Vec<usize>,
}

/// The records of a history in the order of their hints, if every change that must have taken
/// effect has one and this order explains everything. Observations go wherever they are confirmed
/// first.
pub(crate) fn known(component: &mut Component) -> Option<Vec<usize>> {
    let Component { machine, init, musts, mays } = component;
    let mut changes = Vec::new();
    for (op, must) in musts.iter().enumerate().filter(|(_, it)| !it.action.is_observation()) {
        changes.push((must.hint?, Change::Must(op)));
    }
    for may in mays.iter() {
        for (begin, hint, record) in &may.calls {
            changes.extend(hint.map(|hint| (hint, Change::May(&may.action, *begin, *record))));
        }
    }
    changes.sort_by_key(|(hint, _)| *hint);
    let window = Window::new(musts);
    let mut walk = Walk { musts, machine, window, state: *init, order: Vec::new() };
    for (_, change) in changes {
        walk.confirm();
        match change {
            Change::Must(op) => walk.must(op)?,
            Change::May(action, begin, record) => walk.may(action, begin, record),
        }
    }
    walk.confirm();
    walk.window.first_end().is_none().then_some(walk.order)
}

impl Walk<'_> {
    /// All observations that the state confirms take effect.
    fn confirm(&mut self) {
        let Self { musts, machine, state, .. } = self;
        let mut agrees = |op: &usize| {
            let action = &musts[*op].action;
            action.is_observation() && machine.apply(action, *state).is_some()
        };
        let mut agreeing: Vec<_> = self.window.candidates().filter(|op| agrees(op)).collect();
        while !agreeing.is_empty() {
            for op in agreeing {
                self.window.lift(op);
                self.order.push(musts[op].record);
            }
            agreeing = self.window.candidates().filter(|op| agrees(op)).collect();
        }
    }

    /// A change takes effect, if it can.
    fn must(&mut self, op: usize) -> Option<()> {
        self.window.candidates().find(|candidate| *candidate == op)?;
        self.state = self.machine.apply(&self.musts[op].action, self.state)?;
        self.window.lift(op);
        self.order.push(self.musts[op].record);
        Some(())
    }

    /// A change with an unknown end takes effect; or not, if it cannot now.
    fn may(&mut self, action: &Action, begin: usize, record: usize) {
        let next = self.window.first_end();
        if next.is_none_or(|next| self.musts[next].end < begin) {
            return;
        }
        if let Some(state) = self.machine.apply(action, self.state) {
            self.state = state;
            self.order.push(record);
        }
    }
}
