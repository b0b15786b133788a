//! The apply side: a state machine, its sessions and its store.

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
/// Changes of this many bytes are sealed together.
const SEAL_BYTES: usize = 256 << 10;
const META_VERSION: u8 = 2;

/// Error after which the apply side cannot go on. Every one is final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state machine cannot load the stored state.
    #[error("the stored state cannot be loaded: {0}")]
    Load(StateError),
    /// The state machine cannot go on from the stored state.
    #[error("the stored state cannot be used: {0}")]
    State(StateError),
    /// The record about the state itself is damaged or of a newer version.
    #[error("the stored state's own record cannot be read: damaged, or written by a newer version")]
    Meta,
}

/// Report of the apply side to the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Everything up to here is applied.
    pub through: Slot,
    /// This node's own requests among it, with their replies.
    pub(crate) done: Vec<Done>,
}

/// Record stored beside the data and the sessions, in the same atomic batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    version: u8,
    applied: Slot,
    digest: u64,
    members: Option<Membership>,
}

/// Applies chosen runs to a state machine and keeps its durable form.
///
/// The state is written behind: changes are sealed from time to time together with the session table,
/// the members and the applied slot, and each sealed piece becomes durable in one atomic write, once
/// the log has passed it. [`persist`](Self::persist) writes them here and now; a node that must not
/// wait for its disk while it applies takes the [`Saver`] to another thread and hands it the pieces.
/// The state machine reads its stored form as applied, wherever the pieces are.
///
/// Every error is final: the node must stop, and nothing is sealed any more.
pub struct Applier {
    machine: Box<dyn StateMachine>,
    /// `None` once [`take_saver`](Self::take_saver) was called.
    saver: Option<Saver>,
    me: Session,
    meta: Meta,
    sessions: SessionTable,
    persisted: Slot,
    state: AppliedState,
    observer: Option<Observer>,
    /// The error of the state machine that ended it. What it left is not whole.
    failed: Option<ApplyError>,
}

/// Receives the events of each slot.
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
            // The version comes first, so that the rest is read only if it is known.
            Some(bytes) if bytes.first() != Some(&META_VERSION) => return Err(ApplyError::Meta),
            // A damaged record must not count as a new store: the node would apply the log twice.
            Some(bytes) => postcard::from_bytes::<Meta>(&bytes).map_err(|_| ApplyError::Meta)?,
            None => Meta { version: META_VERSION, applied: Slot::ZERO, digest: 0, members: None },
        };
        let sessions = load_sessions(&*reader)?;
        // A state of its own, so that a machine which reads at its start alone gets no overlay.
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

    /// Hands the events of each slot that gives any to `observer`, in order, while it is applied. Slots
    /// that are applied again after a restart give their events again.
    pub fn on_events(&mut self, observer: impl FnMut(Slot, &[StateEvent]) + Send + 'static) {
        self.observer = Some(Box::new(observer));
    }

    /// Returns the last slot applied.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.meta.applied
    }

    /// Returns the last slot whose effects are in the store, or were handed to the saver's thread.
    #[must_use]
    pub fn persisted(&self) -> Slot {
        self.persisted
    }

    /// Returns a digest of every command applied so far and its reply: equal on all nodes that have
    /// applied equally far. It survives restarts.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.meta.digest
    }

    /// Returns the size of the changes that are not in the store and not with the saver, in bytes.
    #[must_use]
    pub fn unsaved_bytes(&self) -> usize {
        self.state.unsaved_bytes()
    }

    /// Returns whether there is anything that is not in the store and not with the saver.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.meta.applied > self.persisted || self.state.is_unsaved()
    }

    /// Applies a run; slots that were applied before are skipped. Replies to this node's own clients
    /// are added to `report`.
    ///
    /// # Errors
    /// If the state machine cannot go on; the node must stop.
    ///
    /// # Panics
    /// If the run leaves out slots: the driver hands them over in order.
    pub fn apply(&mut self, run: &ChosenRun, report: &mut Applied) -> Result<(), ApplyError> {
        assert!(
            run.first <= self.meta.applied.next(),
            "run from {:?} after {:?}",
            run.first,
            self.meta.applied
        );
        self.check()?;
        self.state.release();
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            // After a restart the log is replayed from before the applied slot.
            if slot <= self.meta.applied {
                continue;
            }
            match value {
                ValueRef::Command(command) => {
                    let applied = self.apply_command(slot, command, report);
                    applied.map_err(|error| self.fail(error))?;
                }
                // Stored with the state, so that a compacted log does not lose the configuration.
                ValueRef::Members(members) | ValueRef::Stop(members) => {
                    self.meta.members = Some(members);
                }
                ValueRef::Noop => {}
            }
            self.meta.applied = slot;
        }
        report.through = self.meta.applied;
        // Pieces end between runs, never inside one, and stay small enough for one write.
        self.seal_if_large();
        Ok(())
    }

    /// Has the state machine remove about `budget` stored keys that it needs no more; returns whether
    /// there are others. Call it from time to time, between runs.
    ///
    /// # Errors
    /// If the state machine cannot go on; the node must stop.
    pub fn maintain(&mut self, budget: usize) -> Result<bool, ApplyError> {
        self.check()?;
        self.state.release();
        let mut changes = Changes::new();
        let maintained = self.machine.maintain(&self.state, budget, &mut changes);
        let is_more = maintained.map_err(|error| self.fail(error))?;
        self.state.keep(&changes);
        self.seal_if_large();
        Ok(is_more)
    }

    /// Returns a reader of the state as applied so far; later slots do not change it.
    ///
    /// # Errors
    /// If the store cannot be read; the node must stop.
    pub fn reader(&self) -> Result<Box<dyn StateReader>, ApplyError> {
        self.check()?;
        self.machine.reader(&self.state).map_err(ApplyError::State)
    }

    /// Answers a query from the state as applied so far.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn query(&self, query: &[u8]) -> Result<Bytes, ApplyError> {
        self.reader()?.query(query).map_err(ApplyError::State)
    }

    /// Ends a piece: what was applied so far may become durable as a whole, with the sessions that
    /// changed since the last piece. Call it from time to time, and before the last
    /// [`persist`](Self::persist) of a clean stop.
    pub fn seal(&mut self) {
        let sealed = self.state.sealed().unwrap_or(self.persisted);
        // Maintenance changes the state without a slot.
        let is_changed = self.meta.applied > sealed || self.state.open_bytes() > 0;
        if self.failed.is_some() || !is_changed {
            return;
        }
        // One piece holds data, sessions and applied slot: a crash leaves all of them or none.
        self.state.seal(self.meta.applied, |changes| {
            let meta = postcard::to_allocvec(&self.meta).expect("the record always encodes");
            changes.put(META, meta);
            for (key, entry) in self.sessions.drain_changed() {
                changes.put(key, entry);
            }
        });
    }

    /// Takes the saver: from now on the pieces go to it, by [`take_sealed`](Self::take_sealed).
    ///
    /// # Panics
    /// If it was taken before.
    pub fn take_saver(&mut self) -> Saver {
        self.saver.take().expect("the saver is taken once")
    }

    /// Takes the sealed pieces that end at or before `durable`, as one. `durable` is what
    /// [`Actions::durable`](crate::Actions::durable) last named.
    pub fn take_sealed(&mut self, durable: Slot) -> Option<Piece> {
        let sealed = self.state.take_sealed(durable)?;
        // The caller writes the piece next; if that fails, the node stops.
        self.persisted = sealed.through();
        Some(sealed)
    }

    /// Writes the sealed pieces that end at or before `durable`, in one atomic batch. Returns
    /// whether anything was written.
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

    /// Makes what was written durable.
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
        // Copies count, too: the digest covers the log, not only what takes effect.
        self.fold(slot, command);
        let Some(request) = Request::decode(command) else {
            return Ok(()); // No driver wrote it, so no client waits for it.
        };
        if !self.sessions.admit(request.session, request.seq, request.settled) {
            return Ok(());
        }
        let mut reply = Bytes::new();
        if let RequestKind::Command(body) = request.body {
            let mut output = Output::new();
            reply = self.machine.apply(slot, body, &self.state, &mut output)?;
            // The reply is part of the digest: machines that differ in replies only have diverged, too.
            self.fold(slot, &reply);
            self.state.keep(&output.changes);
            if let Some(observe) = self.observer.as_mut().filter(|_| !output.events.is_empty()) {
                observe(slot, &output.events);
            }
        }
        // Other nodes answer their own clients when they apply the request.
        if request.session == self.me {
            report.done.push(Done { seq: request.seq, slot, reply });
        }
        Ok(())
    }

    fn fold(&mut self, slot: Slot, bytes: &[u8]) {
        let word = self.meta.digest ^ (slot.0 << 32) ^ u64::from(crc32fast::hash(bytes));
        // The finaliser of SplitMix64: every bit of the past decides every bit of the digest.
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
