//! Reference model of a log: a map from slots to values.

use crate::{Batch, LogOp, LogStore, StoredGroup};
use bytes::Bytes;
use std::collections::BTreeMap;
use synod_types::{GroupId, Slot, Value};

/// Stamp and value of each slot of a log.
pub type Slots = BTreeMap<Slot, (Bytes, Value)>;

/// Applies a journal and returns the resulting slots after the base. Stores may represent the same log by
/// different journals; the flattened logs are equal.
///
/// # Panics
/// If the journal contains operations other than `Put` and `TruncateFrom`.
#[must_use]
pub fn flatten(saved: &StoredGroup) -> Slots {
    let mut slots = Slots::new();
    saved.journal.iter().for_each(|op| apply_op(&mut slots, op));
    match saved.base {
        Some((through, _)) => slots.split_off(&through.next()),
        None => slots,
    }
}

fn apply_op(slots: &mut Slots, op: &LogOp) {
    match op {
        LogOp::Put(run) => {
            for (at, value) in run.values.iter().enumerate() {
                slots.insert(run.first.plus(at), (run.stamp.clone(), value.to_value()));
            }
        }
        LogOp::TruncateFrom(from) => drop(slots.split_off(from)),
        other => panic!("not an operation of a journal: {other:?}"),
    }
}

/// Required content of a log store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogModel {
    groups: BTreeMap<GroupId, GroupModel>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct GroupModel {
    hard_state: Option<Bytes>,
    base: Option<(Slot, Bytes)>,
    slots: Slots,
}

impl LogModel {
    pub(super) fn apply(&mut self, batch: &Batch) {
        for (group, op) in &batch.ops {
            let group = self.groups.entry(*group).or_default();
            match op {
                LogOp::HardState(bytes) => group.hard_state = Some(bytes.clone()),
                LogOp::Compact { through, base } => {
                    // Slots after the base stay, as `LogOp::Compact` requires.
                    group.base = Some((*through, base.clone()));
                    group.slots = group.slots.split_off(&through.next());
                }
                slots => apply_op(&mut group.slots, slots),
            }
        }
    }

    /// Compares the store with the model: every group that was written, and one that was never written.
    pub(super) fn check(&self, store: &mut impl LogStore, when: &str) {
        for (&id, group) in &self.groups {
            // Flattened, because a store may represent the log by any equivalent journal.
            let saved = load(store, id, when);
            let found = GroupModel {
                slots: flatten(&saved),
                hard_state: saved.hard_state,
                base: saved.base,
            };
            assert_eq!(found, *group, "{when}: group {id} differs from the committed content");
        }
        let unwritten = load(store, GroupId(u64::MAX), when);
        assert_eq!(unwritten, StoredGroup::default(), "{when}: a group that was never written");
    }
}

pub(super) fn load(store: &mut impl LogStore, group: GroupId, when: &str) -> StoredGroup {
    store.load(group).unwrap_or_else(|error| panic!("{when}: load of group {group}: {error}"))
}
