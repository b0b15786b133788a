//! Depth-first search through configurations: Wing and Gong's algorithm, with all pruning rules applied.

use super::just_in_time::{ALL_KEYS, discards_pending_effects};
use super::linearization::Linearization;
use super::ranking::{Rank, RequiredValue};
use super::step::Step;
use super::visited::{ConfigurationKey, UnlinearizedSet, Variant, Visited, assign_slots};
use crate::action::Action;
use crate::domain::UNOBSERVED;
use crate::options::SearchLimit;
use crate::problem::{Completed, Problem};
use crate::registers::State;

/// Steps between two calls of the `stop` function.
const STOP_INTERVAL: u32 = 1024;

/// A configuration on the current path, whose choices are being tried.
#[derive(Debug)]
struct Frame {
    state: State,
    /// The event of the first remaining end. The next operation must have started before it.
    before: usize,
    /// The next completed operation must use one of these keys: see `just_in_time.rs`.
    next_keys: u64,
    choices: Vec<Choice>,
    /// The number of choices that have been tried.
    tried: usize,
    /// The number of steps to keep when the search backtracks from here.
    base: usize,
}

/// An operation that can take effect next, and the state after it.
#[derive(Clone, Copy, Debug)]
struct Choice {
    candidate: Candidate,
    state: State,
}

/// The operation of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    Completed(usize),
    Pending(usize),
    /// A write that is placed at its mark, earlier on the path: see `overwritten_writes.rs`.
    Overwritten(usize),
}

/// The result of entering a configuration.
enum Expansion {
    /// All completed operations have taken effect.
    Complete,
    /// The configuration has no completion, or an earlier one dominates it: see `visited.rs`.
    DeadEnd,
    /// There are choices to try.
    Open(Frame),
}

/// One round of the search, with a fixed set of counted kinds.
pub(super) struct DepthFirst<'a> {
    current: Linearization<'a>,
    visited: Visited,
    /// The slot of each completed operation in an [`UnlinearizedSet`]; the number of slots.
    slots: (Vec<usize>, usize),
}

impl<'a> DepthFirst<'a> {
    /// Creates a round: see `pending_uses.rs` for `counted` and `is_strict`.
    pub(super) fn new(problem: &'a mut Problem, counted: &'a [bool], is_strict: bool) -> Self {
        Self {
            slots: assign_slots(&problem.completed),
            visited: Visited::new(problem.completed.len()),
            current: Linearization::new(problem, counted, is_strict),
        }
    }

    /// Returns the number of stored configurations.
    pub(super) fn visited_count(&self) -> usize {
        self.visited.count
    }

    /// Returns the steps of the current path: the order that was found, after a success.
    pub(super) fn into_steps(self) -> Vec<Step> {
        self.current.steps
    }

    /// Searches for an order. Returns whether there is one.
    pub(super) fn run(
        &mut self,
        budget: usize,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<bool, SearchLimit> {
        let mut frames = match self.expand(self.current.problem.init, 0, ALL_KEYS) {
            Expansion::Complete => return Ok(true),
            Expansion::DeadEnd => return Ok(false),
            Expansion::Open(frame) => vec![frame],
        };
        let mut steps = 0_u32;
        while let Some(frame) = frames.last_mut() {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(STOP_INTERVAL) && stop() {
                return Err(SearchLimit::Stopped);
            }
            if self.visited.count > budget {
                return Err(SearchLimit::Configurations);
            }
            let Some(choice) = frame.choices.get(frame.tried).copied() else {
                let base = frame.base;
                frames.pop();
                self.current.backtrack(base);
                continue;
            };
            frame.tried += 1;
            let (from, before, next_keys) = (frame.state, frame.before, frame.next_keys);
            match self.try_choice(choice, from, before, next_keys) {
                Expansion::Complete => return Ok(true),
                Expansion::DeadEnd => {}
                Expansion::Open(frame) => frames.push(frame),
            }
        }
        Ok(false)
    }

    /// Applies a choice, together with the steps that the rules derive from it.
    fn try_choice(
        &mut self,
        choice: Choice,
        from: State,
        before: usize,
        next_keys: u64,
    ) -> Expansion {
        let current = &mut self.current;
        let base = current.steps.len();
        let next_keys = match choice.candidate {
            Candidate::Pending(kind) => {
                if let Action::Write { key, .. } = current.problem.pending[kind].action {
                    current.absorb_unobserved_writes(None);
                    current.mark_overwritable(key, None);
                }
                current.advance(Step::Pending { kind, before });
                current.keys.after_pending(kind, next_keys)
            }
            Candidate::Completed(op) => {
                if let Action::Write { key, .. } = current.problem.completed[op].action {
                    current.absorb_unobserved_writes(Some(op));
                    current.mark_overwritable(key, Some(op));
                }
                current.advance(Step::Completed(op));
                ALL_KEYS
            }
            Candidate::Overwritten(op) => {
                current.advance(Step::Overwritten(op));
                next_keys
            }
        };
        if choice.state != from && current.loses_required_value(from, choice.state) {
            current.backtrack(base);
            return Expansion::DeadEnd;
        }
        let expansion = self.expand(choice.state, base, next_keys);
        if matches!(expansion, Expansion::DeadEnd) {
            self.current.backtrack(base);
        }
        expansion
    }

    /// Enters a configuration: confirms observations, applies the pruning rules and collects the choices.
    fn expand(&mut self, state: State, base: usize, next_keys: u64) -> Expansion {
        // The observation depends on the pending operations before it, so any operation may follow.
        let next_keys = if self.current.confirm_observations(state) { ALL_KEYS } else { next_keys };
        let Some(next) = self.current.window.first_end() else { return Expansion::Complete };
        let before = self.current.problem.completed[next].end;
        if !self.is_new(next, state, next_keys) || self.current.is_dead_end(state) {
            return Expansion::DeadEnd;
        }
        let choices = self.choices(next, state, next_keys);
        if choices.is_empty() {
            return Expansion::DeadEnd;
        }
        Expansion::Open(Frame { state, before, next_keys, choices, tried: 0, base })
    }

    /// Stores the configuration. Returns false if an earlier one equals or dominates it.
    fn is_new(&mut self, next: usize, state: State, next_keys: u64) -> bool {
        let current = &self.current;
        let empty = || UnlinearizedSet::empty(self.slots.1);
        let (mut changes, mut required, mut spare_writes) = (empty(), empty(), empty());
        for op in current.window.candidates() {
            let (action, slot) = (&current.problem.completed[op].action, self.slots.0[op]);
            let is_write = action.is_unconditional();
            if is_write {
                spare_writes.insert(slot);
            }
            if action.is_observation() || is_write && !current.overwritable[op] {
                required.insert(slot);
            } else if !is_write {
                changes.insert(slot);
            }
        }
        let counted = (0..current.used.len()).filter(|kind| current.counted[*kind]);
        // A strict round stores only the total of all uses: configurations with fewer uses are preferred, a
        // heuristic.
        let total = current.is_strict.then(|| current.used.iter().sum());
        let uses = counted.map(|kind| current.used[kind]).chain(total).collect();
        let key = ConfigurationKey { state, changes };
        self.visited.enter(next, key, Variant { required, spare_writes, next_keys, uses })
    }

    /// Returns the choices that the rules leave, in the order in which to try them.
    fn choices(&mut self, next: usize, state: State, next_keys: u64) -> Vec<Choice> {
        let current = &mut self.current;
        let before = current.problem.completed[next].end;
        let required = current.required(state);
        let mut ranked: Vec<(Rank, Choice)> = Vec::new();
        let mut candidates: Vec<_> = current.window.candidates().collect();
        candidates.sort_unstable_by_key(|op| current.problem.completed[*op].end);
        let mut tried = Vec::new();
        if current.overwritable[next] {
            let rank = current.rank_overwritten(next, state, required);
            ranked.push((rank, Choice { candidate: Candidate::Overwritten(next), state }));
        }
        for op in candidates {
            let Completed { action, .. } = &current.problem.completed[op];
            let can_wait = op != next && current.ignores_unobserved();
            let class = current.equivalence_class[op];
            if action.is_observation()
                || can_wait && action.is_unobserved_write()
                || current.keys.completed[op] & next_keys == 0
                || discards_pending_effects(action, next_keys)
                || tried.contains(&(class, false))
                || current.overwritable[op] && tried.contains(&(class, true))
            {
                continue;
            }
            tried.push((class, current.overwritable[op]));
            let Some(to) = current.problem.registers.apply(action, state) else { continue };
            let rank = current.rank_completed(op, to, required);
            ranked.push((rank, Choice { candidate: Candidate::Completed(op), state: to }));
        }
        self.pending_choices(&mut ranked, before, state, next_keys, required);
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, choice)| choice).collect()
    }

    /// Adds the choices among pending operations.
    fn pending_choices(
        &mut self,
        ranked: &mut Vec<(Rank, Choice)>,
        before: usize,
        state: State,
        next_keys: u64,
        required: Option<RequiredValue>,
    ) {
        let current = &mut self.current;
        let has_unobserved_writes = current.unobserved_writes().next().is_some();
        for kind in 0..current.problem.pending.len() {
            let Some(next) = current.next_pending(kind, before) else { continue };
            let action = &current.problem.pending[kind].action;
            if discards_pending_effects(action, next_keys) {
                continue;
            }
            let Some(to) = current.problem.registers.apply(action, state) else { continue };
            let is_unobserved = to == UNOBSERVED && current.ignores_unobserved();
            // A write that does not change the state may still absorb unobserved writes. Other pending
            // operations that do not change the state are not needed.
            let is_redundant = to == state && !(action.is_unconditional() && has_unobserved_writes);
            if is_redundant || is_unobserved {
                continue;
            }
            let rank = current.rank_pending(kind, next, to, required);
            ranked.push((rank, Choice { candidate: Candidate::Pending(kind), state: to }));
        }
    }
}
