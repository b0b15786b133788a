//! A state machine with types: commands, queries and replies of its own instead of bytes.

use crate::{Replica, ReplicaError};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use synod_consensus::{Consistency, Output, StateError, StateMachine, StateReader, StateView};
use synod_types::Slot;

/// A deterministic state machine with types of its own, which holds its state in memory. The runtime
/// encodes them with postcard. (A state that exceeds the memory is a [`StateMachine`]'s: that reads
/// what it has stored.)
///
/// `Clone` is how a read gets the state as it is between two commands while later commands are applied,
/// so it has to be cheap: a large state keeps its parts in [`Arc`](std::sync::Arc)s or in persistent
/// maps.
pub trait TypedMachine: Clone + Send + Sync + 'static {
    /// A change of the state.
    type Command: Serialize + DeserializeOwned + Send;
    /// A question about the state.
    type Query: Serialize + DeserializeOwned + Send;
    /// The answer to a command or a query.
    type Reply: Serialize + DeserializeOwned + Send;

    /// Replaces the whole state by its stored form. Called before anything else, and again whenever
    /// another state is installed; a new store is empty.
    ///
    /// # Errors
    /// If the entries were not written by this state machine, or cannot be read.
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError>;

    /// Applies a command, and puts what must survive a restart into the output's changes. It must depend
    /// on nothing but the state, the slot and the command: every node must reach the same state.
    fn apply(&mut self, slot: Slot, command: Self::Command, output: &mut Output) -> Self::Reply;

    /// Answers a query.
    fn query(&self, query: Self::Query) -> Self::Reply;
}

/// Returns a value in the runtime's encoding, postcard; for [`Output::changes`].
///
/// # Panics
/// If the type cannot be encoded, as a sequence of unknown length.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_allocvec(value).expect("the type has an encoding").into()
}

/// Reads a value that [`encode`] wrote; for [`TypedMachine::load`].
///
/// # Errors
/// If the bytes are no such value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(StateError::Malformed("bytes are left over".into())),
        Err(error) => Err(StateError::Malformed(error.to_string())),
    }
}

/// Makes a typed machine one of bytes, and is its own reader. Replies are encoded as `Option`s: `None`
/// stands for a command or a query that cannot be decoded.
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
    /// Replicates a command and applies it; returns its reply. The command goes to the leader from any
    /// node. Cancelling the future does not cancel the command.
    ///
    /// # Errors
    /// If there is no reply. Only [`OutcomeUnknown`](ReplicaError::OutcomeUnknown) leaves open whether
    /// the command is applied.
    pub async fn execute(&self, command: M::Command) -> Result<M::Reply, ReplicaError> {
        let codec = |action, reason| ReplicaError::Codec { action, reason };
        let command = postcard::to_allocvec(&command)
            .map_err(|error| codec("encode the command", error.to_string()))?;
        let reply = self.execute_bytes(command.into()).await?;
        let reply: Option<M::Reply> =
            decode(&reply).map_err(|error| codec("decode the reply", error.to_string()))?;
        reply.ok_or_else(|| codec("decode the command", "it was refused by all nodes".to_owned()))
    }

    /// Answers a query. The answer to a [linearizable](Consistency::Linearizable) one contains every
    /// command that was acknowledged anywhere before the call. Runs on the caller's task.
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
        // Taken after the barrier, so it contains what was acknowledged before.
        let reader: Box<dyn Any> = self.reader().await?;
        let machine =
            reader.downcast::<Typed<M>>().expect("the replica was started with this type");
        Ok(machine.0.query(query))
    }
}
