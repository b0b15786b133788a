//! State machines with typed commands, queries and replies instead of bytes.

use crate::{Replica, ReplicaError};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use synod_consensus::{Consistency, Output, StateError, StateMachine, StateReader, StateView};
use synod_types::Slot;

/// Deterministic state machine with its own types, which holds its state in memory. The runtime encodes
/// commands, queries and replies with postcard. If the state may exceed the memory, implement
/// [`StateMachine`], which reads values from its store.
///
/// A read clones the state machine, so that later commands do not change what it reads. `Clone` must
/// therefore be cheap: keep the parts of a large state in [`Arc`](std::sync::Arc)s or persistent maps.
pub trait TypedMachine: Clone + Send + Sync + 'static {
    /// Command: a change of the state.
    type Command: Serialize + DeserializeOwned + Send;
    /// Query: a read of the state.
    type Query: Serialize + DeserializeOwned + Send;
    /// Reply to a command or a query.
    type Reply: Serialize + DeserializeOwned + Send;

    /// Replaces the whole state by the stored one. Called before all other functions, and again if
    /// another state is installed. A new store is empty.
    ///
    /// # Errors
    /// If another state machine wrote the entries, or they cannot be read.
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError>;

    /// Applies a command, and adds the changes that must survive a restart to the output. It must be
    /// deterministic: all nodes must reach the same state from the same state, slot and command.
    fn apply(&mut self, slot: Slot, command: Self::Command, output: &mut Output) -> Self::Reply;

    /// Returns the reply to a query.
    fn query(&self, query: Self::Query) -> Self::Reply;
}

/// Encodes a value with postcard, the runtime's encoding; for [`Output::changes`].
///
/// # Panics
/// If postcard cannot encode the type, such as a sequence of unknown length.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_allocvec(value).expect("postcard can encode the type").into()
}

/// Decodes a value that [`encode`] encoded; for [`TypedMachine::load`].
///
/// # Errors
/// If the bytes do not encode a value of this type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(StateError::Malformed("bytes are left over".into())),
        Err(error) => Err(StateError::Malformed(error.to_string())),
    }
}

/// Adapter from a typed state machine to [`StateMachine`] and [`StateReader`]. It encodes replies as
/// `Option`s: `None` means that the command or the query could not be decoded.
#[derive(Clone, Debug, Default)]
pub struct Typed<M>(pub M);

impl<M: TypedMachine> StateMachine for Typed<M> {
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        self.0.load(state)
    }

    fn apply(
        &mut self,
        slot: Slot,
        command: &[u8],
        _: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError> {
        // A command that cannot be decoded changes nothing, on any node: it must not stop the cluster.
        let command = decode(command).ok();
        Ok(encode(&command.map(|command| self.0.apply(slot, command, output))))
    }

    fn reader(&self, _: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

impl<M: TypedMachine> StateReader for Typed<M> {
    fn query(&self, query: &[u8]) -> Result<Bytes, StateError> {
        Ok(encode(&decode(query).ok().map(|query| self.0.query(query))))
    }
}

impl<M: TypedMachine> Replica<M> {
    /// Replicates and applies a command, and returns its reply. Any node accepts it and forwards it to
    /// the leader. Cancelling the future does not cancel the command.
    ///
    /// # Errors
    /// If there is no reply. Only after [`OutcomeUnknown`](ReplicaError::OutcomeUnknown) is it unknown
    /// whether the command was applied.
    pub async fn execute(&self, command: M::Command) -> Result<M::Reply, ReplicaError> {
        let codec = |action, reason| ReplicaError::Codec { action, reason };
        let command = postcard::to_allocvec(&command)
            .map_err(|error| codec("encode the command", error.to_string()))?;
        let reply = self.execute_bytes(command.into()).await?;
        let reply: Option<M::Reply> =
            decode(&reply).map_err(|error| codec("decode the reply", error.to_string()))?;
        reply.ok_or_else(|| codec("decode the command", "all nodes rejected it".to_owned()))
    }

    /// Runs a query on the caller's task. A [linearizable](Consistency::Linearizable) read includes
    /// every command that any node acknowledged before the call.
    ///
    /// # Errors
    /// If no quorum confirms a linearizable read in time, or the replica stops.
    pub async fn read(
        &self,
        query: M::Query,
        consistency: Consistency,
    ) -> Result<M::Reply, ReplicaError> {
        if consistency == Consistency::Linearizable {
            self.read_barrier().await?;
        }
        // Created after the barrier, so that it includes all commands acknowledged before the call.
        let reader: Box<dyn Any> = self.reader().await?;
        let machine =
            reader.downcast::<Typed<M>>().expect("the replica was started with this type");
        Ok(machine.0.query(query))
    }
}
