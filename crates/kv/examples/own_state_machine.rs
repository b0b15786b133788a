//! A state machine of your own: a counter. A node replicates it like any other, because all that
//! consensus asks for is `load`, `apply` and `view`.
//!
//! `cargo run -p synod-kv --example own_state_machine`

use bytes::Bytes;
use synod_consensus::{StateError, StateMachine, StateView};
use synod_types::{Change, Changes, Slot};

#[derive(Clone, Copy, Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn load(
        &mut self,
        entries: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), StateError> {
        for (key, value) in entries {
            let number: Result<[u8; 8], _> = value[..].try_into();
            self.0 = number.map(u64::from_le_bytes).map_err(|_| StateError(format!("{key:?}")))?;
        }
        Ok(())
    }

    fn apply(&mut self, _: Slot, command: &[u8], changes: &mut Changes) -> Bytes {
        let Ok(step) = <[u8; 8]>::try_from(command) else {
            return Bytes::from_static(b"a command is 8 bytes");
        };
        self.0 = self.0.wrapping_add(u64::from_le_bytes(step));
        changes.put("count", self.0.to_le_bytes().to_vec());
        self.query(&[])
    }

    fn view(&self) -> Box<dyn StateView> {
        Box::new(*self)
    }
}

impl StateView for Counter {
    fn query(&self, _: &[u8]) -> Bytes {
        self.0.to_string().into()
    }
}

fn main() {
    let (mut counter, mut changes) = (Counter::default(), Changes::new());
    let steps = [40_u64, 2].map(u64::to_le_bytes);
    for (slot, command) in (1..).map(Slot).zip(&steps) {
        println!("slot {slot}: {:?}", counter.apply(slot, command, &mut changes));
    }
    // After a restart the counter comes back from what its changes left in the store.
    let Some(Change::Put(key, value)) = changes.as_slice().last() else { unreachable!() };
    let mut reborn = Counter::default();
    reborn.load(&mut [(key.clone(), value.clone())].into_iter()).expect("its own entry");
    assert_eq!(reborn.query(&[]), "42");
}
