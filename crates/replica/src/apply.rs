//! The apply side: a state machine, its session table and its store.

use crate::applied_state::AppliedState;
use crate::driver::{ChosenRun, Done};
use crate::saver::{Piece, SavedPieces, Saver};
use crate::session::{SESSIONS, SESSIONS_END, SessionTable};
use crate::{Request, RequestKind, Session};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use synod_consensus::{Output, StateError, StateEvent, StateMachine, StateReader};
use synod_storage::{StateStore, StorageError, StoreView};
use synod_types::{Changes, Membership, Slot, ValueRef};

const META: &[u8] = b"\0meta";
/// Size of the open changes at which they are sealed, in bytes.
const SEAL_BYTES: usize = 256 << 10;
const META_VERSION: u8 = 2;

/// Error after which the apply side cannot continue. Every error is final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state machine cannot load the stored state.
    #[error("the stored state cannot be loaded: {0}")]
    Load(StateError),
    /// The state machine cannot continue from the stored state.
    #[error("the stored state cannot be used: {0}")]
    State(StateError),
    /// The metadata or a session of the stored state is damaged, or of a newer version.
    #[error(
        "the stored state's metadata cannot be read: it is damaged, or a newer version wrote it"
    )]
    Meta,
}

/// Progress report of the apply side for the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Last slot applied.
    pub through: Slot,
    /// Newly applied requests of this node's clients, with their replies.
    pub(crate) done: Vec<Done>,
}

/// Metadata record, stored in the same atomic batch as the data and the sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    version: u8,
    applied: Slot,
    digest: u64,
    members: Option<Membership>,
}

/// Applier of chosen runs to a state machine, with write-behind to its store.
///
/// Changes are sealed into pieces from time to time, together with the session table, the members and
/// the applied slot. A sealed piece is written atomically once the log is durable through its last
/// slot. [`persist`](Self::persist) writes pieces on the calling thread. A node that must not wait for
/// its disk while it applies moves the [`Saver`] to another thread and hands it the pieces. The state
/// machine always reads the state as applied, even if pieces are not written yet.
///
/// Every error is final: the node must stop, and nothing more is sealed.
pub struct Applier {
    machine: Box<dyn StateMachine>,
    /// `None` after [`take_saver`](Self::take_saver).
    saver: Option<Saver>,
    me: Session,
    meta: Meta,
    sessions: SessionTable,
    persisted: Slot,
    state: AppliedState,
    observer: Option<Observer>,
    /// First error of the state machine. Its changes may be incomplete after it.
    failed: Option<ApplyError>,
}

/// Callback for the events of each slot.
type Observer = Box<dyn FnMut(Slot, &[StateEvent]) + Send>;

impl Applier {
    /// Loads the state machine from its store.
    ///
    /// # Errors
    /// If the store fails, or holds what the state machine or this version cannot read.
    pub fn open(
        mut machine: Box<dyn StateMachine>,
        store: Box<dyn StateStore>,
        me: Session,
    ) -> Result<Self, ApplyError> {
        let (reader, saved) = (store.reader(), SavedPieces::default());
        let meta = match reader.get(META)? {
            // The version is the first byte, so it can be checked before the rest is decoded.
            Some(bytes) if bytes.first() != Some(&META_VERSION) => return Err(ApplyError::Meta),
            // A damaged record must not pass for a new store: the log would be applied twice.
            Some(bytes) => postcard::from_bytes::<Meta>(&bytes).map_err(|_| ApplyError::Meta)?,
            None => Meta { version: META_VERSION, applied: Slot::ZERO, digest: 0, members: None },
        };
        let sessions = load_sessions(&*reader)?;
        // A separate view for the load, so that a state machine that reads only now needs no overlay.
        let stored = AppliedState::new(store.reader(), saved.clone());
        machine.load(&stored).map_err(ApplyError::Load)?;
        let state = AppliedState::new(reader, saved.clone());
        Ok(Self {
            machine,
            saver: Some(Saver::new(store, saved)),
            me,
            persisted: meta.applied,
            meta,
            sessions,
            state,
            observer: None,
            failed: None,
        })
    }

    /// Registers `observer`, which receives the events of each slot in order, while the slot is applied.
    /// Slots that are applied again after a restart emit their events again.
    pub fn on_events(&mut self, observer: impl FnMut(Slot, &[StateEvent]) + Send + 'static) {
        self.observer = Some(Box::new(observer));
    }

    /// Returns the last slot applied.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.meta.applied
    }

    /// Returns the last slot whose effects are in the store or were handed to the saver.
    #[must_use]
    pub fn persisted(&self) -> Slot {
        self.persisted
    }

    /// Returns a digest of all applied commands and their replies. It is equal on all nodes that have
    /// applied through the same slot, and survives restarts.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.meta.digest
    }

    /// Returns the size of the changes that are neither in the store nor handed to the saver, in bytes.
    #[must_use]
    pub fn unsaved_bytes(&self) -> usize {
        self.state.unsaved_bytes()
    }

    /// Returns whether there are changes that are neither in the store nor handed to the saver.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.meta.applied > self.persisted || self.state.is_unsaved()
    }

    /// Applies a run; skips slots that were applied before. Adds replies for this node's clients to
    /// `report`.
    ///
    /// # Errors
    /// If the state machine fails; the node must stop.
    ///
    /// # Panics
    /// If slots are missing before the run: the driver hands runs out in order.
    pub fn apply(&mut self, run: &ChosenRun, report: &mut Applied) -> Result<(), ApplyError> {
        assert!(
            run.first <= self.meta.applied.next(),
            "run begins at {:?}, but the state is applied through {:?}",
            run.first,
            self.meta.applied
        );
        self.check()?;
        self.state.release();
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            // After a restart the log may be replayed from a slot before the applied one.
            if slot <= self.meta.applied {
                continue;
            }
            match value {
                ValueRef::Command(command) => {
                    let applied = self.apply_command(slot, command, report);
                    applied.map_err(|error| self.fail(error))?;
                }
                // Saved with the state, so that the configuration survives a compaction of the log.
                ValueRef::Members(members) | ValueRef::Stop(members) => {
                    self.meta.members = Some(members);
                }
                ValueRef::Noop => {}
            }
            self.meta.applied = slot;
        }
        report.through = self.meta.applied;
        // Sealed between runs, so that a piece stays small enough for one write.
        self.seal_if_large();
        Ok(())
    }

    /// Lets the state machine remove about `budget` obsolete keys from its store. Returns whether more
    /// are left. Call it from time to time, between runs.
    ///
    /// # Errors
    /// If the state machine fails; the node must stop.
    pub fn maintain(&mut self, budget: usize) -> Result<bool, ApplyError> {
        self.check()?;
        self.state.release();
        let mut changes = Changes::new();
        let maintained = self.machine.maintain(&self.state, budget, &mut changes);
        let is_more = maintained.map_err(|error| self.fail(error))?;
        self.state.add_changes(&changes);
        self.seal_if_large();
        Ok(is_more)
    }

    /// Returns a reader of the state as applied now. Later slots do not change it.
    ///
    /// # Errors
    /// If the store cannot be read; the node must stop.
    pub fn reader(&self) -> Result<Box<dyn StateReader>, ApplyError> {
        self.check()?;
        self.machine.reader(&self.state).map_err(ApplyError::State)
    }

    /// Runs a query on the state as applied now.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn query(&self, query: &[u8]) -> Result<Bytes, ApplyError> {
        self.reader()?.query(query).map_err(ApplyError::State)
    }

    /// Ends a piece with all changes applied so far and the sessions that changed. Call it from time to
    /// time, and before the last [`persist`](Self::persist) of a clean stop.
    pub fn seal(&mut self) {
        let sealed = self.state.sealed().unwrap_or(self.persisted);
        // Maintenance changes the state without applying a slot.
        let is_changed = self.meta.applied > sealed || self.state.open_bytes() > 0;
        if self.failed.is_some() || !is_changed {
            return;
        }
        // Data, sessions and applied slot are in one piece, so that a crash keeps all of them or none.
        self.state.seal(self.meta.applied, |changes| {
            let meta = postcard::to_allocvec(&self.meta).expect("the record always encodes");
            changes.put(META, meta);
            for (key, entry) in self.sessions.drain_changed() {
                changes.put(key, entry);
            }
        });
    }

    /// Removes and returns the saver. From now on the caller passes it the pieces of
    /// [`take_sealed`](Self::take_sealed).
    ///
    /// # Panics
    /// If the saver was taken before.
    pub fn take_saver(&mut self) -> Saver {
        self.saver.take().expect("the saver was taken before")
    }

    /// Removes the sealed pieces that end at or before `durable` and returns them as one. `durable` is
    /// the last value of [`Actions::durable`](crate::Actions::durable): the state must not be ahead of
    /// the log on disk.
    pub fn take_sealed(&mut self, durable: Slot) -> Option<Piece> {
        let sealed = self.state.take_sealed(durable)?;
        // The caller writes the piece next. If the write fails, the node stops.
        self.persisted = sealed.through();
        Some(sealed)
    }

    /// Writes the sealed pieces that end at or before `durable` in one atomic batch. Returns whether
    /// there were any.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    ///
    /// # Panics
    /// If the saver was taken.
    pub fn persist(&mut self, durable: Slot) -> Result<bool, ApplyError> {
        let Some(piece) = self.take_sealed(durable) else { return Ok(false) };
        self.saver.as_mut().expect("the saver was taken").save(&piece)?;
        Ok(true)
    }

    /// Makes the written pieces durable.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    ///
    /// # Panics
    /// If the saver was taken.
    pub fn sync(&mut self) -> Result<(), ApplyError> {
        Ok(self.saver.as_mut().expect("the saver was taken").sync()?)
    }

    fn check(&self) -> Result<(), ApplyError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: StateError) -> ApplyError {
        self.failed.insert(ApplyError::State(error)).clone()
    }

    fn seal_if_large(&mut self) {
        if self.state.open_bytes() >= SEAL_BYTES {
            self.seal();
        }
    }

    fn apply_command(
        &mut self,
        slot: Slot,
        command: &[u8],
        report: &mut Applied,
    ) -> Result<(), StateError> {
        // The digest covers the log, so copies that the session table drops are part of it.
        self.fold(slot, command);
        let Some(request) = Request::decode(command) else {
            return Ok(()); // No driver proposed it, so no client waits for it.
        };
        if !self.sessions.admit(request.session, request.seq, request.settled) {
            return Ok(());
        }
        let mut reply = Bytes::new();
        if let RequestKind::Command(body) = request.body {
            let mut output = Output::new();
            reply = self.machine.apply(slot, body, &self.state, &mut output)?;
            // Replies are part of the digest, to detect state machines that differ only in replies.
            self.fold(slot, &reply);
            self.state.add_changes(&output.changes);
            if let Some(observe) = self.observer.as_mut().filter(|_| !output.events.is_empty()) {
                observe(slot, &output.events);
            }
        }
        // Each node replies to its own clients, when it has applied the request itself.
        if request.session == self.me {
            report.done.push(Done { seq: request.seq, slot, reply });
        }
        Ok(())
    }

    /// Mixes the bytes of a slot into the digest.
    fn fold(&mut self, slot: Slot, bytes: &[u8]) {
        let word = self.meta.digest ^ (slot.0 << 32) ^ u64::from(crc32fast::hash(bytes));
        // The finaliser of SplitMix64: each bit of the input affects every bit of the digest.
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.meta.digest = word ^ (word >> 31);
    }
}

fn load_sessions(store: &dyn StoreView) -> Result<SessionTable, ApplyError> {
    let mut sessions = SessionTable::default();
    for entry in store.range(&SESSIONS, Some(&SESSIONS_END)) {
        let (key, value) = entry?;
        if !sessions.load(&key, &value) {
            return Err(ApplyError::Meta);
        }
    }
    Ok(sessions)
}
