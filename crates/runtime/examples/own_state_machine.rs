//! State machine whose state may exceed the memory: texts by name. The texts are in its store, and only
//! the names are in memory. Three Raft nodes replicate it.
//!
//! `cargo run -p synod-runtime --no-default-features --example own_state_machine`

use std::collections::BTreeMap;
use std::sync::Arc;
use synod_raft::Raft;
use synod_runtime::{
    Bytes, Changes, ClusterId, MemoryNetwork, NodeId, Output, Replica, Slot, StateError,
    StateMachine, StateReader, StateView, decode, encode,
};

/// Texts by name. The store holds each as (name, text), under the slot of its command.
#[derive(Clone, Default)]
struct Texts {
    /// Stored key of the newest text of each name.
    names: BTreeMap<String, Bytes>,
    /// Stored keys of replaced texts, to be removed.
    replaced: Vec<Bytes>,
}

impl Texts {
    fn replace(&mut self, name: String, key: Bytes) {
        self.replaced.extend(self.names.insert(name, key));
    }
}

impl StateMachine for Texts {
    /// Rebuilds the names from the stored entries.
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        *self = Self::default();
        for entry in state.range(&[], None) {
            let (key, stored) = entry?;
            let (name, _): (String, String) = decode(&stored)?;
            self.replace(name, key);
        }
        Ok(())
    }

    /// A command is (name, text). The reply is the text that it replaces, read from the store.
    fn apply(
        &mut self,
        slot: Slot,
        command: &[u8],
        state: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError> {
        let Ok((name, _)) = decode::<(String, String)>(command) else {
            return Ok(Bytes::from_static(b"a command is a name and a text"));
        };
        let before = text(self, &name, state)?;
        let key = Bytes::copy_from_slice(&slot.0.to_be_bytes());
        output.changes.put(key.clone(), Bytes::copy_from_slice(command));
        output.emit(name.clone()); // For observers of this node.
        self.replace(name, key);
        Ok(before)
    }

    fn reader(&self, state: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
        // Both are as of the same slot.
        Ok(Box::new(Reader { texts: self.clone(), state: state.owned()? }))
    }

    /// Removes up to `budget` replaced texts.
    fn maintain(
        &mut self,
        _: &dyn StateView,
        budget: usize,
        changes: &mut Changes,
    ) -> Result<bool, StateError> {
        let kept = self.replaced.len().saturating_sub(budget);
        self.replaced.drain(kept..).for_each(|key| changes.delete(key));
        Ok(kept > 0)
    }
}

struct Reader {
    texts: Texts,
    state: Arc<dyn StateView>,
}

impl StateReader for Reader {
    fn query(&self, name: &[u8]) -> Result<Bytes, StateError> {
        text(&self.texts, &String::from_utf8_lossy(name), &*self.state)
    }
}

fn text(texts: &Texts, name: &str, state: &dyn StateView) -> Result<Bytes, StateError> {
    let Some(key) = texts.names.get(name) else { return Ok(Bytes::new()) };
    let lost = || StateError::Malformed(format!("the text of {name} is missing"));
    let (_, text): (String, String) = decode(&state.get(key)?.ok_or_else(lost)?)?;
    Ok(text.into())
}

/// Starts three nodes, and executes a command on each.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (network, mut replicas) = (MemoryNetwork::default(), Vec::new());
    let members = [1, 2, 3].map(|id| (NodeId(id), id.to_string()));
    for (me, _) in &members {
        let builder = Replica::builder::<Raft>(ClusterId(7), *me).members(members.clone());
        let builder = builder.in_memory().transport(Arc::new(network.join(*me)));
        let node = *me;
        let builder = builder.on_events(move |slot, events| {
            for name in events.iter().filter_map(|event| event.downcast_ref::<String>()) {
                println!("node {node}, slot {slot}: {name} was written");
            }
        });
        replicas.push(builder.start_untyped(Texts::default()).await?);
    }
    for (replica, text) in replicas.iter().zip(["first", "second", "third"]) {
        let command = encode(&("greeting", text));
        println!("{text} replaces {:?}", replica.execute_bytes(command).await?);
    }
    replicas[0].read_barrier().await?;
    assert_eq!(replicas[0].reader().await?.query(b"greeting")?, "third");
    Ok(())
}
