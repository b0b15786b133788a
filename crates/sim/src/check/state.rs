//! Check that every node's state is the result of the chosen commands.

use crate::violation::{Checked, Violation, ViolationKind, violation};
use crate::workload::kv::{LAST, Last, Machine};
use bytes::Bytes;
use std::collections::BTreeMap;
use synod_replica::{Applied, Applier, ChosenRun, Session};
use synod_storage::{MemoryDisk, StoreView};
use synod_types::{Incarnation, NodeId, Slot, Value};

/// The checker's own state machine. It applies each chosen slot once, in order; every node's state
/// must equal its state.
pub(crate) struct Oracle {
    disk: MemoryDisk,
    applier: Applier,
    /// Digest of the state after each slot; the first is that of the empty state.
    digests: Vec<u64>,
    /// Commands that took effect, by slot.
    effects: BTreeMap<Slot, Last>,
    /// Slots at which commands took effect.
    places: BTreeMap<u64, Slot>,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let disk = MemoryDisk::new(Incarnation(0));
        let no_session = Session { node: NodeId(0), incarnation: Incarnation(0), boot: 0 };
        let applier =
            Applier::open(Box::new(Machine::default()), Box::new(disk.open_state()), no_session)
                .expect("an empty store is always readable");
        let digests = vec![applier.digest()];
        Self { disk, applier, digests, effects: BTreeMap::new(), places: BTreeMap::new() }
    }

    /// Applies a chosen slot. Returns the number of the command that took effect, if one did.
    pub(crate) fn choose(
        &mut self,
        slot: Slot,
        value: Value,
    ) -> Result<Option<u64>, Box<Violation>> {
        let run = ChosenRun { first: slot, values: std::iter::once(value).collect() };
        let failed = |error: String| violation(ViolationKind::StoreFailed, [], error);
        let applied = self.applier.apply(&run, &mut Applied::default());
        applied.map_err(|error| failed(error.to_string()))?;
        self.digests.push(self.applier.digest());
        let last = self.applier.query(LAST).map_err(|error| failed(error.to_string()))?;
        let last = Last::decode(&last).unwrap_or_default();
        if last.slot != slot {
            return Ok(None);
        }
        let id = last.id;
        self.effects.insert(slot, last);
        match self.places.insert(id, slot) {
            None => Ok(Some(id)),
            Some(before) => {
                let text = format!("command {id} took effect at slot {before} and at slot {slot}");
                Err(violation(ViolationKind::AppliedTwice, [], text))
            }
        }
    }

    /// Returns the command that took effect at a slot.
    pub(crate) fn effect(&self, slot: Slot) -> Option<&Last> {
        self.effects.get(&slot)
    }

    /// Returns the slot at which a command took effect.
    pub(crate) fn place(&self, id: u64) -> Option<Slot> {
        self.places.get(&id).copied()
    }

    /// Checks the state that a node has applied.
    pub(crate) fn check_applied(&self, node: NodeId, applier: &Applier) -> Checked {
        let slot = applier.applied();
        let expected = usize::try_from(slot.0).ok().and_then(|slot| self.digests.get(slot));
        if expected == Some(&applier.digest()) {
            return Ok(());
        }
        let text = match expected {
            Some(_) => format!(
                "the state applied through slot {slot} differs from the result of the chosen \
                 commands"
            ),
            None => format!("applied through slot {slot}, which was not chosen"),
        };
        Err(violation(ViolationKind::StateDiverged, [node], text))
    }

    /// Checks that a node's stored state equals the expected one, byte for byte.
    pub(crate) fn check_stored(
        node: NodeId,
        stored: &BTreeMap<Bytes, Bytes>,
        expected: &BTreeMap<Bytes, Bytes>,
    ) -> Checked {
        let different = expected
            .iter()
            .find(|(key, value)| stored.get(*key) != Some(value))
            .or_else(|| stored.iter().find(|(key, _)| !expected.contains_key(*key)));
        match different {
            None => Ok(()),
            Some((key, _)) => {
                let text = format!("the stored state differs at key {key:?}");
                Err(violation(ViolationKind::StateDiverged, [node], text))
            }
        }
    }

    /// Returns the expected content of a state store after all chosen slots.
    pub(crate) fn into_stored(mut self) -> BTreeMap<Bytes, Bytes> {
        self.applier.seal();
        let written = self.applier.persist(self.applier.applied()).map(|_| ());
        written.and_then(|()| self.applier.sync()).expect("memory stores do not fail");
        contents(&self.disk.open_state())
    }
}

/// Returns all keys of a state store.
pub(crate) fn contents(store: &impl StoreView) -> BTreeMap<Bytes, Bytes> {
    store.range(&[], None).map(|entry| entry.expect("memory stores do not fail")).collect()
}
