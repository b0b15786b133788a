//! Requests of this node's own clients until they are answered: their queue, the barriers of reads that
//! take the way through the log, retries and deadlines.

use crate::driver::{Answer, Done, Outcome};
use crate::log_index::{LogIndex, RequestId};
use crate::reads::Reads;
use crate::{ReplicaSettings, Request, RequestKind, RequestSeq, Session, Token};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use synod_consensus::Refusal;
use synod_types::{Instant, NodeId, ReadId, Slot, Ticket};

/// Longest pause before a retry, in multiples of the shortest.
const MAX_RETRY_FACTOR: u32 = 32;

/// Requests of this node's clients that wait for an answer.
pub(crate) struct Requests {
    session: Session,
    /// Shortest pause before a retry.
    retry: Duration,
    max_outstanding: usize,
    /// Bound on `forwarded_bytes`.
    forward_window: usize,
    last: RequestSeq,
    pending: BTreeMap<RequestSeq, Pending>,
    deadlines: BTreeSet<(Instant, RequestSeq)>,
    /// Reads that wait for an answer of the core or for the state machine.
    reads: Reads,
    /// Reads that wait for a barrier.
    barrier_reads: usize,
    /// Requests that wait for room at the disk or in the window of forwards; barriers (`false`)
    /// first, for they take no room, then the oldest.
    queued: BTreeSet<(bool, RequestSeq)>,
    /// Commands in flight to a leader and not yet applied here, in bytes.
    forwarded_bytes: usize,
    /// Smoothed time from the first attempt of a request until it was applied.
    latency: Duration,
    /// Time of the next search for requests that may be lost.
    next_sweep: Instant,
    answers: Vec<Answer>,
}

#[derive(Clone, Debug)]
struct Pending {
    waiter: Waiter,
    /// The whole command, session and number included: equal in every attempt.
    command: Bytes,
    is_command: bool,
    /// Earliest deadline of its waiters.
    deadline: Instant,
    location: Location,
    /// Time of the last attempt.
    sent: Instant,
    /// Number of attempts. A refusal proves that a request was not taken only if it is the first
    /// and the core's own: the network may hold copies of all others.
    attempts: u32,
}

/// Client or clients that wait for a request.
#[derive(Clone, Debug)]
enum Waiter {
    Command(Token),
    /// A barrier: every read that came in before it was proposed, with its deadline.
    Reads(Vec<(Token, Instant)>),
}

/// Place of a request on its way to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Location {
    /// Refused and not queued; retried after a pause.
    Refused,
    /// In the queue of what is sent as soon as there is room.
    Queued,
    /// Offered to the core of this node, which has neither placed nor refused it.
    Offered,
    /// In this node's log.
    Placed(Slot),
    /// In flight to another node.
    Forwarded,
    /// In the queue or in the log of the leader, which has acknowledged it.
    Acknowledged,
}

impl Location {
    /// Returns whether the request counts in the window of forwards.
    fn is_elsewhere(self) -> bool {
        matches!(self, Self::Forwarded | Self::Acknowledged)
    }
}

impl Requests {
    pub(crate) fn new(settings: &ReplicaSettings, applied: Slot) -> Self {
        Self {
            session: settings.session(),
            retry: settings.retry,
            max_outstanding: settings.max_outstanding,
            forward_window: settings.forward_window,
            last: RequestSeq(0),
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            reads: Reads::new(settings, applied),
            barrier_reads: 0,
            queued: BTreeSet::new(),
            forwarded_bytes: 0,
            latency: Duration::ZERO,
            next_sweep: Instant::ZERO,
            answers: Vec::new(),
        }
    }

    /// Queues a client's command; refuses it if too many requests are outstanding.
    pub(crate) fn submit(&mut self, now: Instant, token: Token, command: Bytes, deadline: Instant) {
        if self.has_room(token) {
            self.open(now, Waiter::Command(token), RequestKind::Command(command), deadline);
        }
    }

    /// Queues a client's read; refuses it if too many requests are outstanding.
    pub(crate) fn submit_read(&mut self, token: Token, deadline: Instant) {
        if self.has_room(token) {
            self.reads.push(token, deadline);
        }
    }

    /// Returns whether another request is admitted; refuses it otherwise.
    fn has_room(&mut self, token: Token) -> bool {
        let has_room = self.outstanding() < self.max_outstanding;
        if !has_room {
            self.answers.push(Answer { token, outcome: Outcome::Refused(Refusal::Busy) });
        }
        has_room
    }

    /// Returns the id of the next read that the core is to be asked for.
    pub(crate) fn next_read(&mut self, now: Instant) -> Option<ReadId> {
        self.reads.next_read(now)
    }

    /// Handles the core's answer to a read.
    pub(crate) fn read_answered(&mut self, id: ReadId, answer: Result<Slot, Refusal>) {
        match answer {
            Ok(slot) => self.reads.ready(id, slot, &mut self.answers),
            Err(Refusal::Unsupported) => self.reads.unsupported(),
            // The core is asked again after a pause, or when another node leads.
            Err(_) => {}
        }
    }

    /// Serves the reads of which the state is recent enough.
    pub(crate) fn serve_reads(&mut self, applied: Slot) {
        self.reads.applied(applied, &mut self.answers);
    }

    /// Has the core asked again for the reads that wait: another node leads.
    pub(crate) fn leader_changed(&mut self, leader: Option<NodeId>) {
        self.reads.leader_changed(leader);
    }

    /// Makes one barrier for all reads that came in since the last, for a core that has no other way. A
    /// read needs a barrier that is proposed after it: an earlier one may be placed before a write that
    /// the client has seen.
    pub(crate) fn gather_reads(&mut self, now: Instant) {
        let reads = self.reads.take_arrived();
        let deadline = reads.iter().map(|(_, deadline)| *deadline).min();
        let Some(deadline) = deadline else { return };
        self.barrier_reads += reads.len();
        self.open(now, Waiter::Reads(reads), RequestKind::Barrier, deadline);
    }

    fn open(&mut self, now: Instant, waiter: Waiter, body: RequestKind<Bytes>, deadline: Instant) {
        self.last.0 += 1;
        let seq = self.last;
        // All nodes may drop what their session tables hold below the oldest pending request.
        let settled = self.pending.first_key_value().map_or(seq, |(first, _)| *first);
        let is_command = matches!(body, RequestKind::Command(_));
        let request = Request { session: self.session, seq, settled, body };
        let pending = Pending {
            waiter,
            command: request.encode(),
            is_command,
            deadline,
            location: Location::Queued,
            sent: now,
            attempts: 0,
        };
        if self.pending.is_empty() {
            // An idle node has no sweep scheduled.
            self.next_sweep = now + self.retry;
        }
        self.deadlines.insert((deadline, seq));
        self.queued.insert((is_command, seq));
        self.pending.insert(seq, pending);
    }

    /// Takes the next request for this node's core, which leads and has this `log`. Without `room`
    /// on the disk, only a barrier.
    pub(crate) fn next_proposal(
        &mut self,
        now: Instant,
        room: bool,
        log: &LogIndex,
    ) -> Option<(Ticket, Bytes)> {
        while let Some((is_command, seq)) = self.queued.first().copied() {
            if is_command && !room {
                return None;
            }
            // A barrier goes on without room: it takes none, and reads wait for it.
            self.queued.pop_first();
            let Some(pending) = self.pending.get_mut(&seq) else { continue };
            if let Some(slot) = log.slot_of(&(self.session, seq)) {
                // It stands in the log of the leader: a second copy would be chosen for nothing.
                pending.location = Location::Placed(slot);
                pending.sent = now;
                continue;
            }
            pending.start_attempt(now, Location::Offered);
            return Some((own_ticket(seq), pending.command.clone()));
        }
        None
    }

    /// Puts the request that was offered last back to the front of the queue.
    pub(crate) fn put_back(&mut self, seq: RequestSeq) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        pending.location = Location::Queued;
        // The core never had it, so a refusal of the next attempt is still conclusive.
        pending.attempts -= 1;
        self.queued.insert((pending.is_command, seq));
    }

    /// Takes the next request for another node, which leads, if the window of forwards admits it.
    pub(crate) fn next_forward(&mut self, now: Instant) -> Option<Bytes> {
        while let Some((is_command, seq)) = self.queued.first().copied() {
            let Some(pending) = self.pending.get_mut(&seq) else {
                self.queued.pop_first();
                continue;
            };
            // A barrier is exempt from the window, as it is from the room at the disk.
            let bytes = pending.command.len();
            let full = self.forwarded_bytes + bytes > self.forward_window;
            // A command longer than the window travels alone.
            if is_command && full && self.forwarded_bytes > 0 {
                return None;
            }
            // From here on copies may exist anywhere, so that only an apply or the deadline ends it.
            self.queued.pop_first();
            pending.start_attempt(now, Location::Forwarded);
            self.forwarded_bytes += bytes;
            return Some(pending.command.clone());
        }
        None
    }

    /// Queues requests again. Returns their number.
    fn requeue(&mut self, seqs: Vec<RequestSeq>) -> u64 {
        let mut count = 0;
        for seq in seqs {
            let Some(pending) = self.pending.get_mut(&seq) else { continue };
            if pending.location.is_elsewhere() {
                self.forwarded_bytes -= pending.command.len();
            }
            pending.location = Location::Queued;
            self.queued.insert((pending.is_command, seq));
            count += 1;
        }
        count
    }

    /// The leader has these requests. They are sent again only if it refuses them, if another one
    /// leads, or if they take far longer than others do.
    pub(crate) fn acknowledged(&mut self, now: Instant, requests: &[u64]) {
        for seq in requests {
            if let Some(pending) = self.pending.get_mut(&RequestSeq(*seq))
                && pending.location == Location::Forwarded
            {
                // The retry delay counts from here: the leader has just shown that it takes requests.
                pending.location = Location::Acknowledged;
                pending.sent = now;
            }
        }
    }

    /// The core placed a request in its log.
    pub(crate) fn placed(&mut self, seq: RequestSeq, slot: Slot) {
        if let Some(pending) = self.pending.get_mut(&seq) {
            pending.location = Location::Placed(slot);
        }
    }

    /// The core refused a request: it ends if no copy of it can exist, and is retried otherwise.
    pub(crate) fn refused(&mut self, seq: RequestSeq, why: &Refusal) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        pending.location = Location::Refused;
        // Without a leader here the request is not lost: it is retried with the next leader.
        let elsewhere = matches!(why, Refusal::NotLeader { .. });
        if pending.attempts == 1 && !elsewhere {
            self.finish(seq, |_| Outcome::Refused(why.clone()));
        }
    }

    /// Another node refused these requests. They are kept and retried: an earlier copy may still be
    /// in flight, so the refusal does not prove that they will never be applied.
    pub(crate) fn refused_elsewhere(&mut self, requests: &[u64]) {
        for seq in requests {
            if let Some(pending) = self.pending.get_mut(&RequestSeq(*seq))
                && pending.location.is_elsewhere()
            {
                // It makes room in the window for other requests until its retry.
                self.forwarded_bytes -= pending.command.len();
                pending.location = Location::Refused;
            }
        }
    }

    /// Ends a request of this node that was applied here.
    pub(crate) fn complete(&mut self, now: Instant, done: Done) {
        let Done { seq, slot, reply } = done;
        if let Some(pending) = self.pending.get(&seq)
            && pending.attempts == 1
        {
            // Later attempts are left out: it is not known which of them was applied.
            self.latency = (self.latency * 7 + (now - pending.sent)) / 8;
        }
        // Reads share the barrier's slot: the state read is at least as recent.
        let outcome = |waiter: &Waiter| match waiter {
            Waiter::Command(_) => Outcome::Done(slot, reply.clone()),
            Waiter::Reads(_) => Outcome::Readable,
        };
        self.finish(seq, outcome);
    }

    /// Ends the requests whose deadlines have passed.
    pub(crate) fn expire(&mut self, now: Instant, leader: Option<NodeId>) {
        self.reads.expire(now, leader, &mut self.answers);
        while let Some((deadline, seq)) = self.deadlines.first().copied() {
            if deadline > now {
                return;
            }
            // A request that was never sent cannot be applied, which its client may rely on.
            let sent = self.pending.get(&seq).is_some_and(|pending| pending.attempts > 0);
            let outcome = match (sent, leader) {
                (true, _) => Outcome::Unknown,
                (false, None) => Outcome::Refused(Refusal::NotLeader { hint: None }),
                // It was queued for room the whole time.
                (false, Some(_)) => Outcome::Refused(Refusal::Busy),
            };
            if !self.expire_reads(now, seq, &outcome) {
                self.finish(seq, |_| outcome.clone());
            }
        }
    }

    /// Ends the reads of a barrier whose deadlines have passed. Returns false if it is no barrier, or
    /// if no read is left to wait for it.
    fn expire_reads(&mut self, now: Instant, seq: RequestSeq, outcome: &Outcome) -> bool {
        let Some(pending) = self.pending.get_mut(&seq) else { return false };
        let Waiter::Reads(reads) = &mut pending.waiter else { return false };
        let later = reads.iter().map(|(_, deadline)| *deadline).filter(|end| *end > now);
        // Without a later read the whole barrier ends.
        let Some(next) = later.min() else { return false };
        for (token, _) in reads.extract_if(.., |(_, deadline)| *deadline <= now) {
            self.barrier_reads -= 1;
            self.answers.push(Answer { token, outcome: outcome.clone() });
        }
        // The barrier itself goes on for the reads that are left.
        self.deadlines.remove(&(pending.deadline, seq));
        self.deadlines.insert((next, seq));
        pending.deadline = next;
        true
    }

    /// Queues again the requests that are overdue and probably lost. Returns their number.
    ///
    /// A request that the present leader has written to this node's log is not lost. One that an
    /// earlier leader wrote may be: the new leader need not have it. Leaders drop copies of what they
    /// hold, so a retry that was not needed costs its bytes and no slot.
    pub(crate) fn requeue_due(&mut self, now: Instant, applied: Slot, log: &LogIndex) -> u64 {
        if now < self.next_sweep {
            return 0;
        }
        // Every request is looked at, so not with every wake.
        self.next_sweep = now + self.retry / 2;
        let due = self.pending.iter().filter(|(seq, pending)| {
            let stands = || log.holds_since_leader_change(&(self.session, **seq));
            let may_be_lost = match pending.location {
                Location::Refused => true,
                Location::Queued | Location::Offered => false,
                Location::Placed(slot) => slot <= applied || !stands(),
                Location::Forwarded | Location::Acknowledged => !stands(),
            };
            // A copy too many is harmless, so the delay only saves bandwidth.
            may_be_lost && now - pending.sent >= self.retry_delay(pending)
        });
        let due = due.map(|(seq, _)| *seq).collect();
        self.requeue(due)
    }

    /// Returns the time from an attempt to the next one.
    fn retry_delay(&self, pending: &Pending) -> Duration {
        let retry = self.retry;
        // The leader holds it. A retry only guards against a refusal that was lost on the way.
        if pending.location == Location::Acknowledged {
            return retry * MAX_RETRY_FACTOR;
        }
        // A cluster that is slow, but works, gets the time that it has been taking.
        let first = (self.latency * 2).clamp(retry, retry * 8);
        let doublings = pending.attempts.saturating_sub(1).min(5);
        (first * (1 << doublings)).min(retry * MAX_RETRY_FACTOR)
    }

    /// Queues again what was in flight to the last leader, unless it stands in this node's log: there
    /// it is either chosen, or removed before the log goes on, and then it is known to be lost.
    /// Returns the number of requests.
    pub(crate) fn requeue_unlogged(&mut self, applied: Slot, log: &LogIndex) -> u64 {
        // A pending request whose slot is applied lost that slot to another value: the periodic sweep
        // finds it.
        let lost = self.pending.iter().filter(|(seq, pending)| match pending.location {
            Location::Refused => true,
            Location::Queued | Location::Offered => false,
            Location::Placed(slot) => slot > applied && !log.holds(&(self.session, **seq)),
            Location::Forwarded | Location::Acknowledged => !log.holds(&(self.session, **seq)),
        });
        let lost = lost.map(|(seq, _)| *seq).collect();
        self.requeue(lost)
    }

    /// Queues again the requests that were removed from this node's log and do not stand in it once
    /// more. Returns their number.
    pub(crate) fn requeue_removed(&mut self, removed: Vec<RequestId>, log: &LogIndex) -> u64 {
        let mut lost = Vec::new();
        for id in removed {
            // Requests of other nodes are retried by these, and a second copy in the log serves as well.
            let own = id.0 == self.session && !log.holds(&id);
            let sent = self.pending.get(&id.1).is_some_and(|pending| {
                matches!(pending.location, Location::Placed(_)) || pending.location.is_elsewhere()
            });
            if own && sent {
                lost.push(id.1);
            }
        }
        self.requeue(lost)
    }

    /// Returns the number of commands and reads that wait for an answer.
    pub(crate) fn outstanding(&self) -> usize {
        self.pending.len() + self.reads.len() + self.barrier_reads
    }

    /// Returns the time at which [`expire`](Self::expire) or [`requeue_due`](Self::requeue_due) has
    /// something to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let requests = self.deadlines.first().map(|(deadline, _)| (*deadline).min(self.next_sweep));
        requests.into_iter().chain(self.reads.next_wake()).min()
    }

    /// Takes the answers for clients.
    pub(crate) fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Answers the clients of a request and removes it.
    fn finish(&mut self, seq: RequestSeq, outcome: impl Fn(&Waiter) -> Outcome) {
        // A second copy that was applied, or an apply after the deadline, finds nothing.
        let Some(pending) = self.pending.remove(&seq) else { return };
        self.deadlines.remove(&(pending.deadline, seq));
        match pending.location {
            Location::Queued => {
                self.queued.remove(&(pending.is_command, seq));
            }
            Location::Forwarded | Location::Acknowledged => {
                self.forwarded_bytes -= pending.command.len();
            }
            Location::Refused | Location::Offered | Location::Placed(_) => {}
        }
        let outcome = outcome(&pending.waiter);
        match pending.waiter {
            Waiter::Command(token) => self.answers.push(Answer { token, outcome }),
            Waiter::Reads(reads) => {
                // All reads of a barrier end together.
                self.barrier_reads -= reads.len();
                let answer = |(token, _)| Answer { token, outcome: outcome.clone() };
                self.answers.extend(reads.into_iter().map(answer));
            }
        }
    }
}

impl Pending {
    fn start_attempt(&mut self, now: Instant, location: Location) {
        self.location = location;
        self.sent = now;
        self.attempts += 1;
    }
}

/// Returns the ticket of a request of this node: even, while those of remote proposals are odd.
fn own_ticket(seq: RequestSeq) -> Ticket {
    Ticket(seq.0 * 2)
}

/// Returns the number of the request with this ticket, if it is one of this node.
pub(crate) fn own_seq(ticket: Ticket) -> Option<RequestSeq> {
    ticket.0.is_multiple_of(2).then_some(RequestSeq(ticket.0 / 2))
}
