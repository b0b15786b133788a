//! What nodes write to their logs.

use super::chosen::Chosen;
use crate::digest::of_value;
use crate::violation::{Checked, ViolationKind, violation};
use synod_consensus::{HardState, Protocol, Run, Write};
use synod_types::{NodeId, Slot};

/// One slot under one stamp has one value, on every node (log matching, in general form), and a
/// hard state never goes back.
#[derive(Debug)]
pub(crate) struct Logs<P: Protocol> {
    /// By slot: every stamp that it was ever written under, and the value.
    slots: Vec<Vec<(P::Stamp, u64)>>,
    /// The hard state that each node wrote last.
    hard_states: Vec<P::HardState>,
}

impl<P: Protocol> Logs<P> {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { slots: Vec::new(), hard_states: vec![P::HardState::default(); nodes] }
    }

    /// A node has lost what was not synced: this is what it goes on from.
    pub(crate) fn forget(&mut self, node: usize, synced: &P::HardState) {
        self.hard_states[node] = synced.clone();
    }

    /// A node hands out a write while it stands in `round`.
    pub(crate) fn check(
        &mut self,
        node: usize,
        round: u64,
        write: &Write<P>,
        chosen: &Chosen,
    ) -> Checked {
        let id = NodeId(node as u64 + 1);
        match write {
            Write::HardState(newer) => {
                let older = &mut self.hard_states[node];
                if !newer.may_follow(older) {
                    let text = format!("wrote {newer:?} after {older:?}");
                    return Err(violation(ViolationKind::HardStateRegressed, [id], text));
                }
                *older = newer.clone();
                Ok(())
            }
            Write::Put(run) => self.check_run((id, round), run, chosen),
            Write::TruncateFrom(_) | Write::Compact(_) => Ok(()),
        }
    }

    fn check_run(
        &mut self,
        (id, round): (NodeId, u64),
        run: &Run<P::Stamp>,
        chosen: &Chosen,
    ) -> Checked {
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            let digest = of_value(&value);
            chosen.check_write((id, round), (slot, digest))?;
            let known = self.at(slot);
            match known.iter().find(|(stamp, _)| *stamp == run.stamp) {
                Some((_, other)) if *other != digest => {
                    let text = format!("slot {slot} under {:?} has two values", run.stamp);
                    return Err(violation(ViolationKind::LogMismatch, [id], text));
                }
                Some(_) => {}
                None => known.push((run.stamp, digest)),
            }
        }
        Ok(())
    }

    fn at(&mut self, slot: Slot) -> &mut Vec<(P::Stamp, u64)> {
        let index = usize::try_from(slot.0).expect("a slot in memory");
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Vec::new);
        }
        &mut self.slots[index]
    }
}
