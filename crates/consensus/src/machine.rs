//! What the log is for: a deterministic state machine.

use alloc::boxed::Box;
use alloc::string::String;
use bytes::Bytes;
use core::any::Any;
use synod_types::{Changes, Slot};

/// Why a state machine cannot be rebuilt from its stored form. Final: the node must not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StateError(pub String);

/// The user's state machine. It lives outside the driver, on the apply side, and holds its state
/// hot in memory.
///
/// Everything that must survive a restart is told to `changes` while applying. The apply side
/// writes the changes, the session table and the applied slot in one atomic batch, some time
/// later, and never past what the log itself has made durable.
pub trait StateMachine: Send {
    /// Rebuilds the state from its stored form: every key that was put and not deleted, in order.
    /// Called once, before anything else; a new store holds nothing.
    ///
    /// # Errors
    /// If the entries were not written by this state machine.
    fn load(&mut self, entries: &mut dyn Iterator<Item = (Bytes, Bytes)>)
    -> Result<(), StateError>;

    /// Applies one command and gives its reply. Must depend on nothing but the state, the slot
    /// and the command: every node applies the same commands in the same order and must reach
    /// the same state. A command that makes no sense gets a reply that says so.
    fn apply(&mut self, slot: Slot, command: &[u8], changes: &mut Changes) -> Bytes;

    /// A view of the state as it is now. Commands applied later do not change it.
    ///
    /// It is taken between two commands, so it has to be cheap: it should share the state and not
    /// copy it.
    fn view(&self) -> Box<dyn StateView>;
}

/// The state of a state machine after one of its commands. Reads are answered from it on other
/// threads, while the state machine moves on.
///
/// A reader that knows the state machine can take the view's own type out of the box, through
/// [`Any`], and read in pieces or without the bytes.
pub trait StateView: Any + Send + Sync {
    /// Answers a query.
    fn query(&self, query: &[u8]) -> Bytes;
}

/// Consistency of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// It contains everything that was acknowledged anywhere before the query. Needs a quorum.
    Linearizable,
    /// It is the node's own state, which may lag behind. Needs no other node.
    Serializable,
}

/// A read that is done in pieces, so that a long one delays no other.
pub trait PiecewiseRead: Send + 'static {
    /// The answer.
    type Reply: Send + 'static;

    /// Does the next piece; returns the reply if it was the last one.
    fn step(&mut self) -> Option<Self::Reply>;

    /// Returns the bytes gathered so far, about.
    fn bytes(&self) -> usize;
}
