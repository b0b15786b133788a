//! A linearization under construction: the steps so far, and the remaining operations.

use super::equivalence::equivalence_classes;
use super::just_in_time::KeySets;
use super::step::Step;
use super::supply::Supply;
use super::window::Window;
use crate::problem::Problem;

/// The current path of a depth-first search, without the values of the registers.
pub(super) struct Linearization<'a> {
    pub(super) problem: &'a mut Problem,
    pub(super) window: Window,
    pub(super) steps: Vec<Step>,
    /// The class of each completed operation: see [`equivalence_classes`].
    pub(super) equivalence_class: Vec<usize>,
    /// The completed operations that are marked: see [`Step::Overwritable`].
    pub(super) overwritable: Vec<bool>,
    /// The kinds of pending operations whose uses are counted.
    pub(super) counted: &'a [bool],
    /// The number of uses of each kind.
    pub(super) used: Vec<u32>,
    /// True in a strict round, which permits no kind to be used too often: see `pending_uses.rs`.
    pub(super) is_strict: bool,
    pub(super) keys: KeySets,
    pub(super) supply: Option<Supply>,
    /// True if some operation distinguishes an unobserved value from others.
    pub(super) distinguishes_unobserved: bool,
}

impl<'a> Linearization<'a> {
    /// Creates a linearization without steps.
    pub(super) fn new(problem: &'a mut Problem, counted: &'a [bool], is_strict: bool) -> Self {
        Self {
            window: Window::new(&problem.completed),
            steps: Vec::new(),
            equivalence_class: equivalence_classes(&problem.completed),
            overwritable: vec![false; problem.completed.len()],
            counted,
            used: vec![0; problem.pending.len()],
            is_strict,
            keys: KeySets::new(problem),
            supply: Supply::new(problem),
            distinguishes_unobserved: problem.distinguishes_unobserved(),
            problem,
        }
    }

    /// Applies a step.
    pub(super) fn advance(&mut self, step: Step) {
        match step {
            Step::Completed(op) | Step::Overwritten(op) => {
                self.window.lift(op);
                self.count(op, |count| *count -= 1);
            }
            Step::Overwritable(op) => self.overwritable[op] = true,
            Step::Pending { kind, .. } => self.used[kind] += 1,
        }
        self.steps.push(step);
    }

    /// Undoes all steps except the first `base`.
    pub(super) fn backtrack(&mut self, base: usize) {
        for step in self.steps.split_off(base).into_iter().rev() {
            match step {
                Step::Completed(op) | Step::Overwritten(op) => {
                    self.window.restore(op);
                    self.count(op, |count| *count += 1);
                }
                Step::Overwritable(op) => self.overwritable[op] = false,
                Step::Pending { kind, .. } => self.used[kind] -= 1,
            }
        }
    }

    /// Changes the counts of the values that an operation requires and produces.
    fn count(&mut self, op: usize, change: impl Fn(&mut u32)) {
        if let Some(supply) = &mut self.supply {
            supply.count(op, change);
        }
    }
}
