//! Host of a core: the loop that each driver runs, and the fence between disk and network.

use crate::effects::{Outbox, Outputs};
use crate::{Contradiction, Gate, Input, Message, Protocol, RecoveryError, Run, Saved, Write};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::mem;
use synod_types::{Instant, NodeId, Seq, Slot};

/// Self-messages that one round delivers at most.
const MAX_SELF_MESSAGES: usize = 1000;

/// Observer of a core's effects, called at the step that makes them: for checkers, and for drivers that
/// keep an index of the log. `()` ignores everything.
pub trait Observer<P: Protocol> {
    /// Observes a write. Called in the order of the writes, before the other outputs of the step.
    fn on_write(&mut self, _core: &P, _write: &Write<P>) {}

    /// Observes slots that the core reports as chosen.
    fn on_chosen(&mut self, _core: &P, _run: &Run<P::Stamp>) {}

    /// Observes a message that may leave: everything that it waited for is durable. Messages of the node
    /// to itself are observed before they are delivered.
    fn on_release(&mut self, _core: &P, _to: NodeId, _message: &P::Message) {}
}

impl<P: Protocol> Observer<P> for () {}

/// Final error of a core: it would undo what it reported as chosen, or a peer has chosen other values.
/// The log and the state do not belong together, or the core has a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FatalError {
    /// The log would be cut at or below a slot that was reported as chosen.
    #[error(
        "the log would be truncated from slot {from}, but the slots through {chosen} are chosen \
         and applied on this node: a quorum has lost its log; nothing was written"
    )]
    TruncatesChosen {
        /// The first slot that would be removed.
        from: Slot,
        /// The last slot that was reported as chosen.
        chosen: Slot,
    },
    /// A peer's chosen values differ from this node's.
    #[error(
        "node {by} has chosen other values than this node in the slots through {slot}: \
         a quorum has lost its log; nothing was written"
    )]
    Contradicted {
        /// The values differ in this slot or in one before it.
        slot: Slot,
        /// The peer.
        by: NodeId,
    },
    /// Slots were reported as chosen twice, or with a gap before them.
    #[error("slot {slot} was reported as chosen, but slot {next} is next: nothing was written")]
    OutOfOrder {
        /// The first slot that was reported.
        slot: Slot,
        /// The slot after the last one that was reported before.
        next: Slot,
    },
    /// The log's base would go back, or pass the last chosen slot.
    #[error(
        "the log would be compacted through slot {through}, but it is compacted through slot \
         {base}, and chosen through slot {chosen}: nothing was written"
    )]
    CompactsElsewhere {
        /// The new base.
        through: Slot,
        /// The present base.
        base: Slot,
        /// The last slot that was reported as chosen.
        chosen: Slot,
    },
}

/// Core with the fence between its disk and the network.
///
/// [`input`](Self::input) steps the core; [`round`](Self::round) flushes it and lends writes for the
/// disk and messages for the network; [`written`](Self::written) records that a batch is durable. A round
/// lends a message whose gate is [`Gate::Durable`] only after `written` was called for the newest batch
/// that the core had written when it sent the message. There is no other way out.
///
/// Two hosts are equal, and hash the same, if all their later outputs are equal: numbers of batches
/// count from the last durable one.
#[derive(Clone, Debug)]
pub struct Host<P: Protocol> {
    me: NodeId,
    core: P,
    outbox: Outbox<P>,
    /// Messages of this node to itself that may be delivered.
    own: VecDeque<P::Message>,
    /// Messages to peers that may leave.
    ready: Vec<(NodeId, P::Message)>,
    /// Durable messages of this round: their batch has no number yet.
    fresh: Vec<(NodeId, P::Message)>,
    /// Messages that wait for the disk, those of the oldest batch first.
    held: VecDeque<(NodeId, P::Message)>,
    /// Batches that were handed out and are not durable, the oldest first.
    unwritten: VecDeque<Unwritten>,
    /// Number of the newest durable batch.
    written: Seq,
    /// Messages at the front of `held` whose batch is durable.
    free: usize,
    /// Number of writes and of chosen runs in the outbox that were sorted.
    seen: (usize, usize),
    /// True if the last round lent the writes and the messages that may leave.
    is_lent: bool,
    /// True if outputs were lent since the last call began.
    is_dirty: bool,
    max_held: usize,
    /// Last slot that is compacted out of the log.
    base: Slot,
    /// Last slot that the core reported as chosen, or that an installed snapshot covers.
    chosen: Slot,
    /// Last slot that a round reported as chosen and durable in the log.
    durable: Slot,
    /// Value of `durable` after the next round.
    next_durable: Slot,
    /// Last slot of the snapshot that the latest input installed.
    installing: Option<Slot>,
    fatal: Option<FatalError>,
}

/// Batch of writes that is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Unwritten {
    /// Messages that wait for this batch, and not for the one before it.
    held: usize,
    /// Last slot chosen when the batch was handed out, or before the next one was.
    chosen: Slot,
}

/// Outcome of a [round](Host::round). The next call discards what is left in its lists: messages then
/// count as lost, and writes must not be left.
#[derive(Debug)]
#[must_use]
pub struct Round<'a, P: Protocol> {
    /// Number of the batch that `writes` are; `None` if there are none.
    pub seq: Option<Seq>,
    /// For the disk, in order: durable together or not at all, and then reported with
    /// [`Host::written`].
    pub writes: &'a mut Vec<Write<P>>,
    /// For the network. Nothing here waits for a write.
    pub sends: &'a mut Vec<(NodeId, P::Message)>,
    /// Last slot that is chosen and durable in the log, if it has risen: the state machine's
    /// changes may be made durable up to here.
    pub durable: Option<Slot>,
    /// True if no self-message is left. A core that sends itself messages without end is wrong;
    /// those that are left are delivered by the next round.
    pub is_quiet: bool,
    /// All other outputs.
    pub outputs: &'a mut Outputs<P>,
}

impl<P: Protocol> Host<P> {
    /// Recovers the core of node `me` from its disk. The first input must be
    /// [`Input::Start`].
    ///
    /// # Errors
    /// If the settings and the disk cannot belong together.
    pub fn recover(me: NodeId, config: P::Config, saved: Saved<P>) -> Result<Self, RecoveryError> {
        let (base, floor) = (saved.base.through, saved.floor()?);
        Ok(Self {
            me,
            core: P::recover(config, saved)?,
            outbox: Outbox::default(),
            own: VecDeque::new(),
            ready: Vec::new(),
            fresh: Vec::new(),
            held: VecDeque::new(),
            free: 0,
            seen: (0, 0),
            is_lent: false,
            is_dirty: false,
            max_held: usize::MAX,
            unwritten: VecDeque::new(),
            written: Seq(0),
            base,
            // Applied slots were chosen, and are on disk: a recovered core does not report them again.
            chosen: floor,
            durable: floor,
            next_durable: floor,
            installing: None,
            fatal: None,
        })
    }

    /// Bounds the messages to peers that wait for the disk. Messages past the bound are dropped, as
    /// the network may drop them; messages of the node to itself never are, because no peer's retry
    /// would replace them.
    #[must_use]
    pub fn with_max_held(mut self, messages: usize) -> Self {
        self.max_held = messages;
        self
    }

    /// Returns the core.
    #[must_use]
    pub fn core(&self) -> &P {
        &self.core
    }

    /// Returns the last slot that the core reported as chosen, or that an installed snapshot
    /// covers.
    #[must_use]
    pub fn chosen(&self) -> Slot {
        self.chosen
    }

    /// Returns the last slot that is chosen and durable in the log, as of the last round.
    #[must_use]
    pub fn durable(&self) -> Slot {
        self.durable
    }

    /// Returns the number of the newest batch that was handed out.
    #[must_use]
    pub fn newest(&self) -> Seq {
        // Batches are numbered without gaps, so the number need not be stored with each.
        Seq(self.written.0 + self.unwritten.len() as u64)
    }

    /// Returns whether all that the core ever wrote is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        // A round that lends writes has entered their batch in `unwritten` already.
        self.unwritten.is_empty() && (self.is_lent || self.outbox.writes.is_empty())
    }

    /// Steps the core, and lends its outputs other than writes and messages. `now` never goes back.
    /// After a [fatal error](FatalError) nothing happens.
    #[inline]
    #[must_use = "timers, chosen slots and replies would be discarded"]
    pub fn input(
        &mut self,
        now: Instant,
        input: Input<P>,
        observer: &mut impl Observer<P>,
    ) -> &mut Outputs<P> {
        self.begin(observer);
        // The slots of a snapshot count as chosen without a report, if the core compacts to it.
        self.installing = match &input {
            Input::Installed { base } => Some(base.through),
            _ => None,
        };
        self.step(now, input, observer);
        self.lend()
    }

    /// Ends a round: flushes the core, delivers its messages to itself as far as the disk allows,
    /// numbers the batch of writes, and lends writes, messages and outputs. Costs little if there is
    /// nothing to do. May be called several times before a batch is durable: a durable message waits
    /// for the newest batch of its own round.
    pub fn round(&mut self, now: Instant, observer: &mut impl Observer<P>) -> Round<'_, P> {
        self.begin(observer);
        let is_quiet = self.settle(now, observer);
        if self.fatal.is_some() {
            // The disk stays at the last consistent batch, and peers count no claim of this round.
            self.outbox.writes.clear();
            self.ready.clear();
            // The writes are dropped, so slots that this round chose may never become durable.
            self.next_durable = self.durable;
        }
        let is_written = !self.outbox.writes.is_empty();
        if self.fatal.is_none() {
            self.seal(is_written);
        }
        let durable = (self.next_durable > self.durable).then_some(self.next_durable);
        self.durable = self.next_durable;
        (self.is_lent, self.is_dirty) = (true, true);
        let seq = is_written.then(|| self.newest());
        self.lend();
        let Outbox { writes, outputs, .. } = &mut self.outbox;
        Round { seq, writes, sends: &mut self.ready, durable, is_quiet, outputs }
    }

    /// Records that everything through batch `seq` is durable. Messages that waited for it leave with the
    /// next round.
    ///
    /// # Panics
    /// If no round has handed out that batch.
    pub fn written(&mut self, seq: Seq) {
        assert!(seq <= self.newest(), "{seq:?} was never handed out");
        // Batches become durable in order, so `seq` covers all batches before it.
        while self.written < seq
            && let Some(batch) = self.unwritten.pop_front()
        {
            self.written = self.written.next();
            // Only counted here: the next call releases them, with its observer.
            self.free += batch.held;
            self.next_durable = batch.chosen;
        }
    }

    /// Begins a call: discards lent outputs that were not taken, and releases messages whose batch is
    /// durable.
    #[inline]
    fn begin(&mut self, observer: &mut impl Observer<P>) {
        if mem::take(&mut self.is_dirty) {
            self.discard();
        }
        if self.free > 0 {
            self.release_free(observer);
        }
    }

    fn discard(&mut self) {
        self.outbox.outputs.clear();
        self.seen.1 = 0;
        // Every call lends outputs, but only a round lends writes and messages: between rounds they
        // gather here.
        if mem::take(&mut self.is_lent) {
            self.outbox.writes.clear();
            self.ready.clear();
            self.seen.0 = 0;
        }
    }

    fn lend(&mut self) -> &mut Outputs<P> {
        let outputs = &mut self.outbox.outputs;
        if self.fatal.is_some() {
            // A client must not receive a reply that the dropped writes were to back.
            outputs.clear();
            outputs.fatal = self.fatal;
        }
        outputs
    }

    #[inline]
    fn step(&mut self, now: Instant, input: Input<P>, observer: &mut impl Observer<P>) {
        // A core that is wrong about chosen values must not take part in the protocol any more.
        if self.fatal.is_none() {
            self.core.step(now, input, &mut self.outbox.effects());
            self.absorb(observer);
        }
    }

    /// Flushes the core and delivers its messages to itself, until none is left. Returns false if the
    /// limit of one round was reached before.
    fn settle(&mut self, now: Instant, observer: &mut impl Observer<P>) -> bool {
        let mut left = MAX_SELF_MESSAGES;
        while self.fatal.is_none() {
            self.core.flush(now, &mut self.outbox.effects());
            self.absorb(observer);
            // With nothing unwritten a claim has no batch to wait for. Self-messages come first,
            // because the core may write when it handles one.
            if self.own.is_empty() && !self.fresh.is_empty() && self.is_idle() {
                for (to, message) in mem::take(&mut self.fresh) {
                    self.release(to, message, observer);
                }
            }
            if self.own.is_empty() {
                return true;
            }
            while let Some(message) = self.own.pop_front() {
                // A core that sends itself messages without end must not block its driver.
                if left == 0 {
                    self.own.push_front(message);
                    return false;
                }
                left -= 1;
                self.step(now, Input::Message { from: self.me, message }, observer);
            }
        }
        true
    }

    #[inline]
    fn absorb(&mut self, observer: &mut impl Observer<P>) {
        if mem::take(&mut self.outbox.is_touched) {
            self.is_dirty = true;
            self.sort(observer);
        }
    }

    /// Checks the effects of a step, and sorts its messages into those that may leave and those that
    /// wait for the disk.
    fn sort(&mut self, observer: &mut impl Observer<P>) {
        // Effects gather until a round takes them, and each is observed once.
        let (writes, chosen) = self.seen;
        for write in &self.outbox.writes[writes..] {
            observer.on_write(&self.core, write);
            let fatal = match write {
                // Chosen values never change, so such a cut proves that a quorum lost its log.
                Write::TruncateFrom(from) if *from <= self.chosen => {
                    Some(FatalError::TruncatesChosen { from: *from, chosen: self.chosen })
                }
                // The core has accepted the snapshot of this input, and snapshots hold chosen slots only.
                Write::Compact(new) if Some(new.through) == self.installing => {
                    self.base = self.base.max(new.through);
                    self.chosen = self.chosen.max(new.through);
                    None
                }
                Write::Compact(new) if new.through < self.base || new.through > self.chosen => {
                    let (through, base) = (new.through, self.base);
                    Some(FatalError::CompactsElsewhere { through, base, chosen: self.chosen })
                }
                Write::Compact(new) => {
                    self.base = new.through;
                    None
                }
                // Checking these takes the disk's content, which only checkers keep.
                Write::HardState(_) | Write::Put(_) | Write::TruncateFrom(_) => None,
            };
            // The first error is reported: the others may be its consequences.
            self.fatal = self.fatal.or(fatal);
        }
        for run in &self.outbox.outputs.chosen[chosen..] {
            // The state machine would skip a slot after a gap, and apply a repeated one twice.
            let next = self.chosen.next();
            if run.first != next {
                self.fatal = self.fatal.or(Some(FatalError::OutOfOrder { slot: run.first, next }));
                break;
            }
            self.chosen = run.last();
            observer.on_chosen(&self.core, run);
        }
        self.seen = (self.outbox.writes.len(), self.outbox.outputs.chosen.len());
        let contradicted = self.outbox.contradiction;
        let contradicted =
            contradicted.map(|Contradiction { slot, by }| FatalError::Contradicted { slot, by });
        self.fatal = self.fatal.or(contradicted);
        let mut sends = mem::take(&mut self.outbox.sends);
        for (to, message) in sends.drain(..) {
            match message.gate() {
                // Even if this step wrote nothing: an earlier write of the round may back the claim.
                Gate::Durable => self.fresh.push((to, message)),
                Gate::Immediate => self.release(to, message, observer),
            }
        }
        // Keeps the buffer.
        self.outbox.sends = sends;
    }

    /// Releases the messages whose batch is durable.
    fn release_free(&mut self, observer: &mut impl Observer<P>) {
        // `held` is in the order of batches, so these are at its front.
        for _ in 0..mem::take(&mut self.free) {
            if let Some((to, message)) = self.held.pop_front() {
                self.release(to, message, observer);
            }
        }
    }

    /// Releases a message to the network, or to this node itself.
    fn release(&mut self, to: NodeId, message: P::Message, observer: &mut impl Observer<P>) {
        observer.on_release(&self.core, to, &message);
        // The core is not re-entered from here: `settle` delivers its own messages.
        if to == self.me {
            self.own.push_back(message);
        } else {
            self.ready.push((to, message));
        }
    }

    /// Numbers this round's batch, and queues the messages that wait for it.
    fn seal(&mut self, is_written: bool) {
        if is_written {
            self.unwritten.push_back(Unwritten { held: 0, chosen: self.chosen });
        }
        let Some(newest) = self.unwritten.back_mut() else {
            // All writes are durable, and the values of chosen slots are among them. `fresh` is empty,
            // unless self-messages have no end: then it waits for the next round.
            self.next_durable = self.chosen;
            return;
        };
        // The newest batch also covers slots that were chosen without a write after it.
        newest.chosen = self.chosen;
        for (to, message) in self.fresh.drain(..) {
            if to == self.me || self.held.len() < self.max_held {
                newest.held += 1;
                self.held.push_back((to, message));
            }
        }
    }

    /// Returns the fields on which later outputs depend.
    fn identity(&self) -> impl Eq + Hash + '_ {
        (
            (&self.core, &self.own, &self.fresh, &self.held, self.free),
            // The next call discards lent messages.
            if self.is_lent { &[] } else { &self.ready[..] },
            (&self.unwritten, self.base, self.chosen, self.durable, self.next_durable, self.fatal),
        )
    }
}

impl<P: Protocol> PartialEq for Host<P> {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl<P: Protocol> Eq for Host<P> {}

impl<P: Protocol> Hash for Host<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

#[cfg(test)]
pub(crate) mod tests;
