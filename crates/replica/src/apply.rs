//! The apply side: a state machine, its sessions and its store.

use crate::driver::{ChosenRun, Done};
use crate::session::{SESSIONS, SESSIONS_END, SessionTable};
use crate::{Request, RequestKind, Session};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use synod_consensus::{StateError, StateMachine, StateView};
use synod_storage::{StateStore, StorageError};
use synod_types::{Change, Changes, Membership, Slot, ValueRef};

const META: &[u8] = b"\0meta";
const DATA: u8 = 1;
/// Changes of this many bytes are sealed together.
const SEAL_BYTES: usize = 256 << 10;
const META_VERSION: u8 = 2;

/// Error after which the apply side cannot go on. Every one is final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state machine rejects the stored state.
    #[error("the stored state cannot be loaded: {0}")]
    State(#[from] StateError),
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
/// The state is hot in memory and written behind: changes are sealed from time to time together
/// with the session table, the members and the applied slot, and each sealed piece becomes
/// durable in one atomic write, once the log has passed it. [`persist`](Self::persist) writes
/// them here and now; a node that must not wait for its disk while it applies takes the
/// [`Saver`] to another thread and hands it the pieces.
pub struct Applier {
    machine: Box<dyn StateMachine>,
    /// `None` once [`take_saver`](Self::take_saver) was called.
    saver: Option<Saver>,
    me: Session,
    meta: Meta,
    sessions: SessionTable,
    persisted: Slot,
    open: Changes,
    sealed: VecDeque<Piece>,
}

/// Changes that become part of the stored state together, and the slot that they end at.
#[derive(Debug)]
pub struct Piece {
    through: Slot,
    changes: Changes,
}

impl Piece {
    /// Returns the last slot whose effects are part of the piece.
    #[must_use]
    pub fn through(&self) -> Slot {
        self.through
    }
}

/// Writes pieces of the applied state to its store.
pub struct Saver {
    store: Box<dyn StateStore>,
}

impl Saver {
    /// Writes a piece, in one atomic batch, after all pieces before it.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    pub fn save(&mut self, piece: &Piece) -> Result<(), ApplyError> {
        Ok(self.store.write(&piece.changes)?)
    }

    /// Makes what was written durable. Nothing waits for this: until it is done, the log has what
    /// the store may lose.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    pub fn sync(&mut self) -> Result<(), ApplyError> {
        Ok(self.store.sync()?)
    }
}

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
        let meta = match store.get(META)? {
            // The version comes first, so that the rest is read only if it is known.
            Some(bytes) if bytes.first() != Some(&META_VERSION) => return Err(ApplyError::Meta),
            // A damaged record must not count as a new store: the node would apply the log twice.
            Some(bytes) => postcard::from_bytes::<Meta>(&bytes).map_err(|_| ApplyError::Meta)?,
            None => Meta { version: META_VERSION, applied: Slot::ZERO, digest: 0, members: None },
        };
        let sessions = load_sessions(&*store)?;
        load(&mut *machine, &*store)?;
        let persisted = meta.applied;
        let (open, sealed) = (Changes::new(), VecDeque::new());
        // From here on nothing reads the store, so writes may happen on another thread.
        let saver = Some(Saver { store });
        Ok(Self { machine, saver, me, meta, sessions, persisted, open, sealed })
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
        let sealed: usize = self.sealed.iter().map(|piece| piece.changes.byte_len()).sum();
        self.open.byte_len() + sealed
    }

    /// Applies a run; slots that were applied before are skipped. Replies to this node's own clients
    /// are added to `report`.
    ///
    /// # Panics
    /// If the run leaves out slots: the driver hands them over in order.
    pub fn apply(&mut self, run: &ChosenRun, report: &mut Applied) {
        assert!(
            run.first <= self.meta.applied.next(),
            "run from {:?} after {:?}",
            run.first,
            self.meta.applied
        );
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            // After a restart the log is replayed from before the applied slot.
            if slot <= self.meta.applied {
                continue;
            }
            match value {
                ValueRef::Command(command) => self.apply_command(slot, command, report),
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
        if self.open.byte_len() >= SEAL_BYTES {
            self.seal();
        }
    }

    /// Returns a view of the state as applied so far; later slots do not change it.
    #[must_use]
    pub fn view(&self) -> Box<dyn StateView> {
        self.machine.view()
    }

    /// Answers a query from the state as applied so far.
    #[must_use]
    pub fn query(&self, query: &[u8]) -> Bytes {
        self.view().query(query)
    }

    /// Ends a piece: what was applied so far may become durable as a whole, with the sessions that
    /// changed since the last piece. Call it from time to
    /// time, and before the last [`persist`](Self::persist) of a clean stop.
    pub fn seal(&mut self) {
        let sealed = self.sealed.back().map_or(self.persisted, |piece| piece.through);
        if self.meta.applied == sealed {
            return;
        }
        // One piece holds data, sessions and applied slot: a crash leaves all of them or none.
        let mut changes = std::mem::take(&mut self.open);
        let meta = postcard::to_allocvec(&self.meta).expect("the record always encodes");
        changes.put(META, meta);
        for (key, entry) in self.sessions.drain_changed() {
            changes.put(key, entry);
        }
        self.sealed.push_back(Piece { through: self.meta.applied, changes });
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
        let mut sealed = self.sealed.pop_front_if(|piece| piece.through <= durable)?;
        while let Some(mut next) = self.sealed.pop_front_if(|piece| piece.through <= durable) {
            sealed.changes.append(&mut next.changes);
            sealed.through = next.through;
        }
        // The caller writes the piece next; if that fails, the node stops.
        self.persisted = sealed.through;
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
        self.saver.as_mut().expect("the saver was taken").sync()
    }

    fn apply_command(&mut self, slot: Slot, command: &[u8], report: &mut Applied) {
        // Copies count, too: the digest covers the log, not only what takes effect.
        self.fold(slot, command);
        let Some(request) = Request::decode(command) else {
            return; // No driver wrote it, so no client waits for it.
        };
        if !self.sessions.admit(request.session, request.seq, request.settled) {
            return;
        }
        let mut reply = Bytes::new();
        if let RequestKind::Command(body) = request.body {
            let mut changes = Changes::new();
            // The reply is part of the digest: machines that differ in replies only have diverged, too.
            reply = self.machine.apply(slot, body, &mut changes);
            self.fold(slot, &reply);
            self.keep(&changes);
        }
        // Other nodes answer their own clients when they apply the request.
        if request.session == self.me {
            report.done.push(Done { seq: request.seq, slot, reply });
        }
    }

    /// Adds the machine's changes, with a prefix so that its keys differ from all other ones.
    fn keep(&mut self, changes: &Changes) {
        for change in changes.as_slice() {
            match change {
                Change::Put(key, value) => self.open.put(data_key(key), value.clone()),
                Change::Delete(key) => self.open.delete(data_key(key)),
            }
        }
    }

    fn fold(&mut self, slot: Slot, bytes: &[u8]) {
        let word = self.meta.digest ^ (slot.0 << 32) ^ u64::from(crc32fast::hash(bytes));
        // The finaliser of SplitMix64: every bit of the past decides every bit of the digest.
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.meta.digest = word ^ (word >> 31);
    }
}

fn data_key(key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(key.len() + 1);
    prefixed.push(DATA);
    prefixed.extend_from_slice(key);
    prefixed
}

fn load_sessions(store: &dyn StateStore) -> Result<SessionTable, ApplyError> {
    let mut sessions = SessionTable::default();
    for entry in store.range(&SESSIONS, Some(&SESSIONS_END)) {
        let (key, value) = entry?;
        if !sessions.load(&key, &value) {
            return Err(ApplyError::Meta);
        }
    }
    Ok(sessions)
}

fn load(machine: &mut dyn StateMachine, store: &dyn StateStore) -> Result<(), ApplyError> {
    let mut failure = None;
    let mut entries = store.range(&[DATA], Some(&[DATA + 1])).map_while(|entry| match entry {
        Ok((key, value)) => Some((key.slice(1..), value)),
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let loaded = machine.load(&mut entries);
    drop(entries);
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(loaded?),
    }
}
