//! Requests of this node's clients until they end: their queue, retries and deadlines, and the barriers
//! of reads.

use crate::driver::{Done, Outcome, Response};
use crate::log_index::{LogIndex, RequestId};
use crate::reads::Reads;
use crate::{ReplicaSettings, Request, RequestKind, RequestSeq, Session, Token};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use synod_consensus::Refusal;
use synod_types::{Instant, NodeId, ReadId, Slot, Ticket};

/// Longest delay before a retry, in multiples of the shortest.
const MAX_RETRY_FACTOR: u32 = 32;

/// Pending requests and reads of this node's clients.
pub(crate) struct Requests {
    session: Session,
    /// Shortest delay before a retry.
    retry: Duration,
    max_outstanding: usize,
    /// Bound on `forwarded_bytes`.
    forward_window: usize,
    last: RequestSeq,
    pending: BTreeMap<RequestSeq, Pending>,
    deadlines: BTreeSet<(Instant, RequestSeq)>,
    /// Reads that wait for a read index, or for the state machine to apply it.
    reads: Reads,
    /// Number of reads that wait for a barrier.
    barrier_reads: usize,
    /// Requests that wait for the disk or for the window of forwards, with true for commands. Barriers
    /// come first, because they take no space; then the oldest.
    queued: BTreeSet<(bool, RequestSeq)>,
    /// Size of the commands in flight to a leader and not yet applied here, in bytes.
    forwarded_bytes: usize,
    /// Smoothed time from the first attempt of a request until it was applied.
    latency: Duration,
    /// Time of the next sweep for requests that may be lost.
    next_sweep: Instant,
    responses: Vec<Response>,
}

#[derive(Clone, Debug)]
struct Pending {
    waiter: Waiter,
    /// Encoded request with session and number, the same in every attempt.
    command: Bytes,
    is_command: bool,
    /// Earliest deadline of its waiters.
    deadline: Instant,
    location: Location,
    /// Time of the last attempt.
    sent: Instant,
    /// Number of attempts. A refusal proves that a request will never be applied only if this node's core
    /// refuses the first attempt. After a forward, copies may be in flight.
    attempts: u32,
}

/// Clients that wait for a request.
#[derive(Clone, Debug)]
enum Waiter {
    Command(Token),
    /// Reads of a barrier, which arrived before it was proposed, with their deadlines.
    Reads(Vec<(Token, Instant)>),
}

/// Location of a request on its way to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Location {
    /// Refused and not queued; retried after a delay.
    Refused,
    /// In the queue, until the disk or the window of forwards has room.
    Queued,
    /// On offer to the core of this node, which has neither placed nor refused it.
    Offered,
    /// In this node's log.
    Placed(Slot),
    /// In flight to another node.
    Forwarded,
    /// In the queue or the log of the leader, which has acknowledged it.
    Acknowledged,
}

impl Location {
    /// Returns whether the request counts against the window of forwards.
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
            responses: Vec::new(),
        }
    }

    /// Queues a client's command; refuses it as busy if too many requests are outstanding.
    pub(crate) fn submit(&mut self, now: Instant, token: Token, command: Bytes, deadline: Instant) {
        if self.has_room(token) {
            self.open(now, Waiter::Command(token), RequestKind::Command(command), deadline);
        }
    }

    /// Queues a client's read; refuses it as busy if too many requests are outstanding.
    pub(crate) fn submit_read(&mut self, token: Token, deadline: Instant) {
        if self.has_room(token) {
            self.reads.push(token, deadline);
        }
    }

    /// Returns whether another request is admitted. If not, refuses it as busy.
    fn has_room(&mut self, token: Token) -> bool {
        let has_room = self.outstanding() < self.max_outstanding;
        if !has_room {
            self.responses.push(Response { token, outcome: Outcome::Refused(Refusal::Busy) });
        }
        has_room
    }

    /// Returns the id of the next request of a read index, if one is due.
    pub(crate) fn next_read(&mut self, now: Instant) -> Option<ReadId> {
        self.reads.next_read(now)
    }

    /// Handles a read index of the core, or its refusal.
    pub(crate) fn read_index(&mut self, id: ReadId, index: Result<Slot, Refusal>) {
        match index {
            Ok(slot) => self.reads.ready(id, slot, &mut self.responses),
            Err(Refusal::Unsupported) => self.reads.unsupported(),
            // The request is retried after a delay, or when another node leads.
            Err(_) => {}
        }
    }

    /// Serves the reads whose index is applied.
    pub(crate) fn serve_reads(&mut self, applied: Slot) {
        self.reads.applied(applied, &mut self.responses);
    }

    /// Schedules a new request of a read index for the pending reads, because the leader has changed.
    pub(crate) fn leader_changed(&mut self, leader: Option<NodeId>) {
        self.reads.leader_changed(leader);
    }

    /// Queues one barrier for all reads since the last one, if the core has no read index. The barrier
    /// must be proposed after the reads arrive: an earlier one may be placed before a write that the
    /// client has seen.
    pub(crate) fn queue_barrier(&mut self, now: Instant) {
        let reads = self.reads.drain_unsupported();
        let deadline = reads.iter().map(|(_, deadline)| *deadline).min();
        let Some(deadline) = deadline else { return };
        self.barrier_reads += reads.len();
        self.open(now, Waiter::Reads(reads), RequestKind::Barrier, deadline);
    }

    /// Numbers a request and queues it.
    fn open(&mut self, now: Instant, waiter: Waiter, body: RequestKind<Bytes>, deadline: Instant) {
        self.last.0 += 1;
        let seq = self.last;
        // Session tables may drop the numbers below the oldest pending request.
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

    /// Removes the next request from the queue for this node's core, which leads and whose log is indexed
    /// by `log`. If the disk has no `room`, only a barrier qualifies.
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
            // Barriers pass without `room`: they take no disk space, and reads wait for them.
            self.queued.pop_first();
            let Some(pending) = self.pending.get_mut(&seq) else { continue };
            if let Some(slot) = log.slot_of(&(self.session, seq)) {
                // It is in the leader's log already: a second copy would waste a slot.
                pending.location = Location::Placed(slot);
                pending.sent = now;
                continue;
            }
            pending.start_attempt(now, Location::Offered);
            return Some((own_ticket(seq), pending.command.clone()));
        }
        None
    }

    /// Returns the request of the last offer to the queue, because the core has no room for it.
    pub(crate) fn put_back(&mut self, seq: RequestSeq) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        pending.location = Location::Queued;
        // The core did not accept it, so a refusal of the next attempt is still conclusive.
        pending.attempts -= 1;
        self.queued.insert((pending.is_command, seq));
    }

    /// Removes the next request from the queue for the leader, if the window of forwards admits it.
    pub(crate) fn next_forward(&mut self, now: Instant) -> Option<Bytes> {
        while let Some((is_command, seq)) = self.queued.first().copied() {
            let Some(pending) = self.pending.get_mut(&seq) else {
                self.queued.pop_first();
                continue;
            };
            // Barriers are exempt from the window. A command longer than the window is forwarded alone.
            let bytes = pending.command.len();
            let full = self.forwarded_bytes + bytes > self.forward_window;
            if is_command && full && self.forwarded_bytes > 0 {
                return None;
            }
            // From now on copies may exist, so that only its application or its deadline ends it.
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

    /// Records that the leader has these requests. They are retried only if it refuses them, if another
    /// node leads, or if they take far longer than others.
    pub(crate) fn acknowledged(&mut self, now: Instant, requests: &[u64]) {
        for seq in requests {
            if let Some(pending) = self.pending.get_mut(&RequestSeq(*seq))
                && pending.location == Location::Forwarded
            {
                // The retry delay restarts: the leader has just shown that it is alive.
                pending.location = Location::Acknowledged;
                pending.sent = now;
            }
        }
    }

    /// Records that the core placed a request in its log.
    pub(crate) fn placed(&mut self, seq: RequestSeq, slot: Slot) {
        if let Some(pending) = self.pending.get_mut(&seq) {
            pending.location = Location::Placed(slot);
        }
    }

    /// Handles the core's refusal of a request: ends the request if no copy of it can exist; otherwise
    /// keeps it for a retry.
    pub(crate) fn refused(&mut self, seq: RequestSeq, why: &Refusal) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        pending.location = Location::Refused;
        // If this node does not lead any more, the request is retried with the next leader.
        let lost_leadership = matches!(why, Refusal::NotLeader { .. });
        if pending.attempts == 1 && !lost_leadership {
            self.finish(seq, |_| Outcome::Refused(why.clone()));
        }
    }

    /// Handles another node's refusal of these requests: keeps them for a retry. An earlier copy may
    /// still be in flight, so the refusal does not prove that they will never be applied.
    pub(crate) fn refused_elsewhere(&mut self, requests: &[u64]) {
        for seq in requests {
            if let Some(pending) = self.pending.get_mut(&RequestSeq(*seq))
                && pending.location.is_elsewhere()
            {
                // Until its retry it leaves room in the window for other requests.
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
            // Of several attempts, the applied one is unknown, so they give no sample.
            self.latency = (self.latency * 7 + (now - pending.sent)) / 8;
        }
        // The applied barrier shows that the state is recent enough for its reads.
        let outcome = |waiter: &Waiter| match waiter {
            Waiter::Command(_) => Outcome::Done(slot, reply.clone()),
            Waiter::Reads(_) => Outcome::Readable,
        };
        self.finish(seq, outcome);
    }

    /// Ends the requests whose deadlines have passed.
    pub(crate) fn expire(&mut self, now: Instant, leader: Option<NodeId>) {
        self.reads.expire(now, leader, &mut self.responses);
        while let Some((deadline, seq)) = self.deadlines.first().copied() {
            if deadline > now {
                return;
            }
            // A request that was never sent cannot be applied: its client may safely retry.
            let sent = self.pending.get(&seq).is_some_and(|pending| pending.attempts > 0);
            let outcome = match (sent, leader) {
                (true, _) => Outcome::Unknown,
                (false, None) => Outcome::Refused(Refusal::NotLeader { hint: None }),
                // It never left the queue, because the disk or the window was full.
                (false, Some(_)) => Outcome::Refused(Refusal::Busy),
            };
            if !self.expire_reads(now, seq, &outcome) {
                self.finish(seq, |_| outcome.clone());
            }
        }
    }

    /// Ends the reads of a barrier whose deadlines have passed. Returns false if the request is not a
    /// barrier, or if no read would be left.
    fn expire_reads(&mut self, now: Instant, seq: RequestSeq, outcome: &Outcome) -> bool {
        let Some(pending) = self.pending.get_mut(&seq) else { return false };
        let Waiter::Reads(reads) = &mut pending.waiter else { return false };
        let later = reads.iter().map(|(_, deadline)| *deadline).filter(|end| *end > now);
        // Without a later read, the caller ends the whole barrier.
        let Some(next) = later.min() else { return false };
        for (token, _) in reads.extract_if(.., |(_, deadline)| *deadline <= now) {
            self.barrier_reads -= 1;
            self.responses.push(Response { token, outcome: outcome.clone() });
        }
        // The barrier stays pending for the other reads.
        self.deadlines.remove(&(pending.deadline, seq));
        self.deadlines.insert((next, seq));
        pending.deadline = next;
        true
    }

    /// Queues the requests that are overdue and may be lost for a retry. Returns their number.
    ///
    /// A request that the present leader wrote to this node's log is not lost. One that an earlier leader
    /// wrote may be lost: the new leader may lack it. Leaders drop copies of requests in their logs, so an
    /// unnecessary retry costs bandwidth, but no slot.
    pub(crate) fn requeue_due(&mut self, now: Instant, applied: Slot, log: &LogIndex) -> u64 {
        if now < self.next_sweep {
            return 0;
        }
        // The sweep examines every request, so it does not run with every wake.
        self.next_sweep = now + self.retry / 2;
        let due = self.pending.iter().filter(|(seq, pending)| {
            let is_in_log = || log.holds_since_leader_change(&(self.session, **seq));
            let may_be_lost = match pending.location {
                Location::Refused => true,
                Location::Queued | Location::Offered => false,
                // Still pending after its slot was applied: another value took the slot.
                Location::Placed(slot) => slot <= applied || !is_in_log(),
                Location::Forwarded | Location::Acknowledged => !is_in_log(),
            };
            // An unnecessary copy is harmless, so the delay only saves bandwidth.
            may_be_lost && now - pending.sent >= self.retry_delay(pending)
        });
        let due = due.map(|(seq, _)| *seq).collect();
        self.requeue(due)
    }

    /// Returns the time from an attempt to the next one.
    fn retry_delay(&self, pending: &Pending) -> Duration {
        let retry = self.retry;
        // The leader has it. A retry is needed only if the leader's refusal was lost.
        if pending.location == Location::Acknowledged {
            return retry * MAX_RETRY_FACTOR;
        }
        // Adapts to the measured latency, so that a slow cluster is not loaded with retries.
        let first = (self.latency * 2).clamp(retry, retry * 8);
        let doublings = pending.attempts.saturating_sub(1).min(5);
        (first * (1 << doublings)).min(retry * MAX_RETRY_FACTOR)
    }

    /// Queues the requests in flight to the last leader for a retry, except those in this node's log. A
    /// request in the log is either chosen or removed, and [`requeue_removed`](Self::requeue_removed)
    /// handles the removal. Returns the number of queued requests.
    pub(crate) fn requeue_unlogged(&mut self, applied: Slot, log: &LogIndex) -> u64 {
        // A request that is pending although its slot is applied lost the slot to another value. The
        // sweep retries it.
        let lost = self.pending.iter().filter(|(seq, pending)| match pending.location {
            Location::Refused => true,
            Location::Queued | Location::Offered => false,
            Location::Placed(slot) => slot > applied && !log.holds(&(self.session, **seq)),
            Location::Forwarded | Location::Acknowledged => !log.holds(&(self.session, **seq)),
        });
        let lost = lost.map(|(seq, _)| *seq).collect();
        self.requeue(lost)
    }

    /// Queues the requests that were removed from this node's log for a retry, except those with another
    /// copy in it. Returns the number of queued requests.
    pub(crate) fn requeue_removed(&mut self, removed: Vec<RequestId>, log: &LogIndex) -> u64 {
        let mut lost = Vec::new();
        for id in removed {
            // Other nodes retry their own requests.
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

    /// Returns the number of pending commands and reads.
    pub(crate) fn outstanding(&self) -> usize {
        self.pending.len() + self.reads.len() + self.barrier_reads
    }

    /// Returns the time of the next deadline, sweep or retry.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let requests = self.deadlines.first().map(|(deadline, _)| (*deadline).min(self.next_sweep));
        requests.into_iter().chain(self.reads.next_wake()).min()
    }

    /// Removes and returns the responses for clients.
    pub(crate) fn drain_responses(&mut self) -> Vec<Response> {
        std::mem::take(&mut self.responses)
    }

    /// Ends a request with an outcome for its clients.
    fn finish(&mut self, seq: RequestSeq, outcome: impl Fn(&Waiter) -> Outcome) {
        // It may have ended before, at its deadline.
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
            Waiter::Command(token) => self.responses.push(Response { token, outcome }),
            Waiter::Reads(reads) => {
                // All reads of a barrier end together.
                self.barrier_reads -= reads.len();
                let response = |(token, _)| Response { token, outcome: outcome.clone() };
                self.responses.extend(reads.into_iter().map(response));
            }
        }
    }
}

impl Pending {
    /// Records an attempt to get the request into the log.
    fn start_attempt(&mut self, now: Instant, location: Location) {
        self.location = location;
        self.sent = now;
        self.attempts += 1;
    }
}

/// Returns the ticket of a request of this node. It is even; tickets of remote proposals are odd.
fn own_ticket(seq: RequestSeq) -> Ticket {
    Ticket(seq.0 * 2)
}

/// Returns the number of the request with this ticket, or `None` for a remote proposal.
pub(crate) fn own_seq(ticket: Ticket) -> Option<RequestSeq> {
    ticket.0.is_multiple_of(2).then_some(RequestSeq(ticket.0 / 2))
}
