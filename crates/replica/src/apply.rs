//! The apply side: a state machine, its sessions and its store.

use crate::driver::{Done, Run};
use crate::session::SessionTable;
use crate::{Body, Request, Session};
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
const META_VERSION: u8 = 1;

/// Why the apply side cannot go on. Every one is final.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state machine does not know what is stored.
    #[error("the stored state cannot be loaded: {0}")]
    State(#[from] StateError),
    /// The record about the state itself is damaged or of a newer version.
    #[error("the stored state's own record cannot be read: damaged, or written by a newer version")]
    Meta,
}

/// What the apply side tells the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Everything up to here is applied.
    pub through: Slot,
    /// This node's own requests among it, with their replies.
    pub(crate) done: Vec<Done>,
}

/// What is stored beside the data, in the same atomic batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    version: u8,
    applied: Slot,
    digest: u64,
    sessions: SessionTable,
    members: Option<Membership>,
}

/// Applies chosen runs to a state machine and keeps its durable form.
///
/// The state is hot in memory and written behind: changes are sealed from time to time together
/// with the session table, the members and the applied slot, and each sealed piece becomes
/// durable in one atomic write, once the log has passed it.
pub struct Applier {
    machine: Box<dyn StateMachine>,
    store: Box<dyn StateStore>,
    me: Session,
    meta: Meta,
    persisted: Slot,
    open: Changes,
    sealed: VecDeque<(Slot, Changes)>,
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
            Some(bytes) => postcard::from_bytes::<Meta>(&bytes).map_err(|_| ApplyError::Meta)?,
            None => Meta {
                version: META_VERSION,
                applied: Slot::ZERO,
                digest: 0,
                sessions: SessionTable::default(),
                members: None,
            },
        };
        if meta.version != META_VERSION {
            return Err(ApplyError::Meta);
        }
        load(&mut *machine, &*store)?;
        let persisted = meta.applied;
        let (open, sealed) = (Changes::new(), VecDeque::new());
        Ok(Self { machine, store, me, meta, persisted, open, sealed })
    }

    /// The last slot applied.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.meta.applied
    }

    /// The last slot whose effects are in the store.
    #[must_use]
    pub fn persisted(&self) -> Slot {
        self.persisted
    }

    /// A digest of every command applied so far and its reply: equal on all nodes that have
    /// applied equally far. It survives restarts.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.meta.digest
    }

    /// Changes not yet in the store, in bytes.
    #[must_use]
    pub fn unsaved_bytes(&self) -> usize {
        self.open.byte_len() + self.sealed.iter().map(|(_, piece)| piece.byte_len()).sum::<usize>()
    }

    /// Applies a run; slots that were applied before are passed over. What it did for this node's
    /// own clients is added to `report`.
    ///
    /// # Panics
    /// If the run leaves out slots: the driver hands them over in order.
    pub fn apply(&mut self, run: &Run, report: &mut Applied) {
        assert!(
            run.first <= self.meta.applied.next(),
            "run from {:?} after {:?}",
            run.first,
            self.meta.applied
        );
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            if slot <= self.meta.applied {
                continue;
            }
            match value {
                ValueRef::Command(command) => self.apply_command(slot, command, report),
                ValueRef::Members(members) | ValueRef::Stop(members) => {
                    self.meta.members = Some(members);
                }
                ValueRef::Noop => {}
            }
            self.meta.applied = slot;
        }
        report.through = self.meta.applied;
        if self.open.byte_len() >= SEAL_BYTES {
            self.seal();
        }
    }

    /// A view of the state as applied so far; what is applied later does not change it.
    #[must_use]
    pub fn view(&self) -> Box<dyn StateView> {
        self.machine.view()
    }

    /// Answers a query from the state as applied so far.
    #[must_use]
    pub fn query(&self, query: &[u8]) -> Bytes {
        self.view().query(query)
    }

    /// Ends a piece: what was applied so far may become durable as a whole. Call it from time to
    /// time, and before the last [`persist`](Self::persist) of a clean stop.
    pub fn seal(&mut self) {
        let sealed = self.sealed.back().map_or(self.persisted, |(slot, _)| *slot);
        if self.meta.applied == sealed {
            return;
        }
        let mut piece = std::mem::take(&mut self.open);
        let meta = postcard::to_allocvec(&self.meta).expect("the record always encodes");
        piece.put(META, meta);
        self.sealed.push_back((self.meta.applied, piece));
    }

    /// Writes the sealed pieces that end at or before `durable`, in one atomic batch. `durable` is
    /// what [`Actions::durable`](crate::Actions::durable) last named. Returns whether anything was
    /// written.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    pub fn persist(&mut self, durable: Slot) -> Result<bool, ApplyError> {
        let mut batch = Changes::new();
        while let Some((slot, piece)) = self.sealed.front_mut() {
            if *slot > durable {
                break;
            }
            self.persisted = *slot;
            batch.append(piece);
            self.sealed.pop_front();
        }
        if batch.is_empty() {
            return Ok(false);
        }
        self.store.write(&batch)?;
        Ok(true)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// If the store fails; the node must stop.
    pub fn sync(&mut self) -> Result<(), ApplyError> {
        Ok(self.store.sync()?)
    }

    fn apply_command(&mut self, slot: Slot, command: &[u8], report: &mut Applied) {
        self.fold(slot, command);
        let Some(request) = Request::decode(command) else {
            return; // No driver of ours wrote it; nobody waits for it.
        };
        if !self.meta.sessions.admit(request.session, request.seq, request.settled) {
            return;
        }
        let mut reply = Bytes::new();
        if let Body::Command(body) = request.body {
            let mut changes = Changes::new();
            reply = self.machine.apply(slot, body, &mut changes);
            self.fold(slot, &reply);
            self.keep(&changes);
        }
        if request.session == self.me {
            report.done.push((request.seq, slot, reply));
        }
    }

    /// The machine's keys get a prefix, so that they cannot meet ours.
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
