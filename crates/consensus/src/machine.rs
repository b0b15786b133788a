//! The contract of a deterministic state machine, to which chosen commands are applied in order.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::any::Any;
use core::ops::Bound;
use synod_types::{Changes, Slot};

/// Error of a state machine that cannot use its stored form. It is final while the machine loads, applies,
/// removes keys or creates a reader: the node must stop. From a reader's query it ends that read only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The stored entries were not written by this state machine.
    #[error("{0}")]
    Malformed(String),
    /// The store of the state cannot be read.
    #[error("{0}")]
    Store(String),
}

/// Iterator over stored entries, in the order of their keys.
pub type StateEntries<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StateError>> + 'a>;

/// The stored form of a state machine as of one slot: every change applied so far, also those that are
/// not on the disk yet.
///
/// A map implements it, for tests of a state machine.
pub trait StateView: Send + Sync {
    /// Returns the value of `key`.
    ///
    /// # Errors
    /// [`Store`](StateError::Store) if the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// Returns the entries from `from` to before `to` (`None`: to the end), in the order of their keys'
    /// bytes. It ends after an error.
    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StateEntries<'a>;

    /// Returns a view of the same slot that later slots do not change, for other threads. It holds a
    /// snapshot of the store, and keeps the store open, until it is dropped.
    ///
    /// # Errors
    /// [`Store`](StateError::Store) if the store cannot be read.
    fn owned(&self) -> Result<Arc<dyn StateView>, StateError>;
}

impl StateView for BTreeMap<Bytes, Bytes> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StateEntries<'a> {
        // The map would panic on a reversed range.
        let to = to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.max(from)));
        let entries = BTreeMap::range::<[u8], _>(self, (Bound::Included(from), to));
        Box::new(entries.map(|(key, value)| Ok((key.clone(), value.clone()))))
    }

    fn owned(&self) -> Result<Arc<dyn StateView>, StateError> {
        Ok(Arc::new(self.clone()))
    }
}

/// An event of a state machine, for observers of its own node. Observers downcast it.
pub type StateEvent = Arc<dyn Any + Send + Sync>;

/// Results of a command beside its reply.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Changes of the stored form. A state machine that keeps its state in memory puts everything
    /// here that must survive a restart.
    pub changes: Changes,
    /// Events, in order. They are not stored: a slot that is applied again after a restart gives its
    /// events again.
    pub events: Vec<StateEvent>,
}

impl Output {
    /// Creates an empty output.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event.
    pub fn emit(&mut self, event: impl Any + Send + Sync) {
        self.events.push(Arc::new(event));
    }
}

/// The user's state machine. It lives outside the driver, on the apply side.
///
/// The apply side writes the changes, the session table and the applied slot in one atomic batch, some
/// time later, and never past what the log itself has made durable. A state machine may hold its whole
/// state in memory and use the stored form to restart only; or it holds an index and reads values from
/// the stored form, which includes what is not written yet.
pub trait StateMachine: Send {
    /// Replaces the whole state by its stored form. Called before anything else, and again whenever
    /// another state is installed; a new store is empty.
    ///
    /// # Errors
    /// If the entries were not written by this state machine, or cannot be read.
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError>;

    /// Applies one command and returns its reply. `state` shows the effects of all earlier commands, and
    /// not the changes that this one has put into `output`. The result must depend on nothing but the
    /// state, the slot and the command: every node applies the same commands in the same order and
    /// must reach the same state.
    ///
    /// # Errors
    /// Only if the stored form is malformed or cannot be read, which is final. An invalid command gets
    /// a reply that says so.
    fn apply(
        &mut self,
        slot: Slot,
        command: &[u8],
        state: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError>;

    /// Returns a reader of the state as it is now, for other threads. Commands applied later do not
    /// change it.
    ///
    /// It is taken between two commands, so it has to be cheap: it should share the state and not copy
    /// it. If it reads stored values, it holds [`state.owned()`](StateView::owned), which costs a
    /// snapshot of the store.
    ///
    /// # Errors
    /// If the stored form cannot be read, which is final.
    fn reader(&self, state: &dyn StateView) -> Result<Box<dyn StateReader>, StateError>;

    /// Removes stored keys that no reply depends on, in a slice of about `budget` keys; returns whether
    /// there are more. Called between commands. Nodes do it at their own pace, and it is not part of
    /// the digest: replies, and the changes of later commands, must be the same before and after.
    ///
    /// # Errors
    /// If the stored form is malformed or cannot be read, which is final.
    fn maintain(
        &mut self,
        state: &dyn StateView,
        budget: usize,
        changes: &mut Changes,
    ) -> Result<bool, StateError> {
        let _ = (state, budget, changes);
        Ok(false)
    }
}

/// Reader of a state machine's state after one of its commands. It serves reads on other threads, while the
/// state machine applies later commands.
///
/// A caller can downcast it to the concrete type through [`Any`], and read in pieces or without the
/// encoding.
pub trait StateReader: Any + Send + Sync {
    /// Returns the reply to a query. The reply to an invalid query is an error in the machine's own encoding.
    ///
    /// # Errors
    /// If the stored form is malformed or cannot be read. Only this read fails. The node stops
    /// when it next fails to apply a command.
    fn query(&self, query: &[u8]) -> Result<Bytes, StateError>;
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
    /// Reply to the read.
    type Reply: Send + 'static;

    /// Executes the next piece, and returns the reply if it was the last one.
    fn step(&mut self) -> Option<Self::Reply>;

    /// Returns the approximate size of the reply so far, in bytes.
    fn bytes(&self) -> usize;
}
