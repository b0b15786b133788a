//! The requests of this node's own clients until they are answered, and those of others on their
//! way through.

use crate::driver::{Answer, Done, Outcome};
use crate::frame::Payload;
use crate::log_index::{LogIndex, RequestId};
use crate::remote_proposals::RemoteProposals;
use crate::{ReplicaSettings, Request, RequestKind, RequestSeq, Token};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use synod_consensus::Refusal;
use synod_types::{Instant, Lane, NodeId, Slot, Ticket, Values, ValuesBuilder};

/// The longest pause before a request is sent again, in multiples of the shortest.
const LONGEST: u32 = 32;

/// Everything that is under way on behalf of clients.
pub(crate) struct Requests {
    settings: ReplicaSettings,
    last: RequestSeq,
    pending: BTreeMap<RequestSeq, Pending>,
    deadlines: BTreeSet<(Instant, RequestSeq)>,
    /// Reads that came in since the last barrier.
    reads: Vec<(Token, Instant)>,
    reads_under_way: usize,
    /// Requests of this node that wait for room at the disk or in the window of forwards; barriers
    /// (`false`) first, for they take no room, then the oldest.
    queued: BTreeSet<(bool, RequestSeq)>,
    /// Commands on their way to a leader and not yet applied here, in bytes.
    forwarded_bytes: usize,
    remote_proposals: RemoteProposals,
    /// The next node to propose for, in turn: 0 is this node, above are the others.
    turn: usize,
    /// Requests, of this node and of others, that stand in this node's log.
    log: LogIndex,
    /// Own requests that stood in this node's log and were removed from it.
    lost: Vec<RequestId>,
    /// Smoothed time from the first attempt of a request until it was applied.
    service: Duration,
    forwards: BTreeMap<NodeId, ValuesBuilder>,
    full_forwards: Vec<(NodeId, Values)>,
    /// Remote proposals that this node has, to be acknowledged.
    taken: BTreeMap<NodeId, Vec<u64>>,
    /// Refusals of remote proposals, gathered by node and reason.
    refusals: Vec<(NodeId, Refusal, Vec<u64>)>,
    next_sweep: Instant,
}

#[derive(Clone, Debug)]
struct Pending {
    waiter: Waiter,
    /// The whole command, session and number included: equal in every attempt.
    command: Bytes,
    is_command: bool,
    /// When the first of its waiters gives up.
    deadline: Instant,
    location: Location,
    /// When it was last sent anywhere.
    sent: Instant,
    /// How often it was sent. A refusal proves that a request was not taken only if it is the
    /// first and the core's own: the network may have kept copies of all others.
    attempts: u32,
}

/// Who waits for a request.
#[derive(Clone, Debug)]
enum Waiter {
    Command(Token),
    /// A barrier: every read that came in before it was proposed, and when its client gives up.
    Reads(Vec<(Token, Instant)>),
}

/// Place of a request on its way to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Location {
    /// Here and not queued: it was refused, and is sent again after a while.
    Here,
    /// In the queue of what is sent as soon as there is room.
    Queued,
    /// Offered to the core of this node, which has not answered.
    Offered,
    /// In this node's log.
    Placed(Slot),
    /// On its way to another node.
    Forwarded,
    /// In the queue or in the log of the leader, which has acknowledged it.
    Taken,
}

impl Location {
    /// Returns whether the request counts in the window of forwards.
    fn is_elsewhere(self) -> bool {
        matches!(self, Self::Forwarded | Self::Taken)
    }
}

/// What leaves for other nodes.
pub(crate) enum Outgoing {
    Forward(Values),
    Taken(Vec<u64>),
    Refused(Vec<u64>, Refusal),
}

impl Outgoing {
    /// The lane of the network: answers are small and must not wait behind requests.
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::Forward(_) => Lane::Forward,
            Self::Taken(_) | Self::Refused(..) => Lane::Control,
        }
    }

    pub(crate) fn typed<M>(self) -> Payload<M> {
        match self {
            Self::Forward(values) => Payload::Forward(values),
            Self::Taken(requests) => Payload::Taken { requests },
            Self::Refused(requests, why) => Payload::Refused { requests, why },
        }
    }
}

impl Requests {
    pub(crate) fn new(settings: ReplicaSettings, applied: Slot) -> Self {
        Self {
            settings,
            last: RequestSeq(0),
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            reads: Vec::new(),
            reads_under_way: 0,
            queued: BTreeSet::new(),
            forwarded_bytes: 0,
            remote_proposals: RemoteProposals::default(),
            turn: 0,
            log: LogIndex::new(applied),
            lost: Vec::new(),
            service: Duration::ZERO,
            forwards: BTreeMap::new(),
            full_forwards: Vec::new(),
            taken: BTreeMap::new(),
            refusals: Vec::new(),
            next_sweep: Instant::ZERO,
        }
    }

    /// Takes a client's command into the queue; refuses it if there are too many already.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        token: Token,
        command: Bytes,
        deadline: Instant,
        answers: &mut Vec<Answer>,
    ) {
        if self.outstanding() >= self.settings.max_outstanding {
            answers.push(Answer { token, outcome: Outcome::Refused(Refusal::Busy) });
        } else {
            self.open(now, Waiter::Command(token), RequestKind::Command(command), deadline);
        }
    }

    /// Takes a client's read.
    pub(crate) fn read(&mut self, token: Token, deadline: Instant, answers: &mut Vec<Answer>) {
        if self.outstanding() >= self.settings.max_outstanding {
            answers.push(Answer { token, outcome: Outcome::Refused(Refusal::Busy) });
        } else {
            self.reads.push((token, deadline));
        }
    }

    /// Makes one barrier for all reads that came in since the last.
    pub(crate) fn gather_reads(&mut self, now: Instant) {
        let deadline = self.reads.iter().map(|(_, deadline)| *deadline).min();
        let Some(deadline) = deadline else { return };
        let reads = std::mem::take(&mut self.reads);
        self.reads_under_way += reads.len();
        self.open(now, Waiter::Reads(reads), RequestKind::Barrier, deadline);
    }

    fn open(&mut self, now: Instant, waiter: Waiter, body: RequestKind<Bytes>, deadline: Instant) {
        self.last.0 += 1;
        let seq = self.last;
        let settled = self.pending.first_key_value().map_or(seq, |(first, _)| *first);
        let is_command = matches!(body, RequestKind::Command(_));
        let request = Request { session: self.settings.session(), seq, settled, body };
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
            self.next_sweep = now + self.settings.retry;
        }
        self.deadlines.insert((deadline, seq));
        self.queued.insert((is_command, seq));
        self.pending.insert(seq, pending);
    }

    /// Takes the next request for this node's core, which leads. Without `room` on the disk, only
    /// a barrier. Every node has its turn: one request of this node, then one for each node that
    /// forwards, or clients of the leader would be served faster than all others.
    pub(crate) fn next_proposal(&mut self, now: Instant, room: bool) -> Option<(Ticket, Bytes)> {
        self.turn = if self.turn >= self.remote_proposals.nodes() { 0 } else { self.turn + 1 };
        if self.turn > 0 {
            self.remote_proposals.next(room).or_else(|| self.next_own(now, room))
        } else {
            self.next_own(now, room).or_else(|| self.remote_proposals.next(room))
        }
    }

    fn next_own(&mut self, now: Instant, room: bool) -> Option<(Ticket, Bytes)> {
        let session = self.settings.session();
        while let Some((is_command, seq)) = self.queued.first().copied() {
            if is_command && !room {
                return None;
            }
            self.queued.pop_first();
            let Some(pending) = self.pending.get_mut(&seq) else { continue };
            if let Some(slot) = self.log.slot_of(&(session, seq)) {
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

    /// Puts the request that was taken last at the front of its queue: the core had no room for it.
    pub(crate) fn put_back(&mut self, ticket: Ticket, command: Bytes) {
        let Some(seq) = own_seq(ticket) else {
            return self.remote_proposals.put_back(ticket, command);
        };
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        pending.location = Location::Queued;
        pending.attempts -= 1;
        self.queued.insert((pending.is_command, seq));
    }

    /// Puts queued requests on their way to `leader`, as many as the window of forwards admits.
    /// Returns how many.
    pub(crate) fn forward_queued(&mut self, now: Instant, leader: NodeId) -> u64 {
        let mut count = 0;
        while let Some((is_command, seq)) = self.queued.first().copied() {
            let Some(pending) = self.pending.get_mut(&seq) else {
                self.queued.pop_first();
                continue;
            };
            let bytes = pending.command.len();
            let full = self.forwarded_bytes + bytes > self.settings.forward_window;
            // A command longer than the window travels alone.
            if is_command && full && self.forwarded_bytes > 0 {
                return count;
            }
            self.queued.pop_first();
            pending.start_attempt(now, Location::Forwarded);
            self.forwarded_bytes += bytes;
            count += 1;
            let forward = self.forwards.entry(leader).or_default();
            forward.push_command(&pending.command);
            if forward.byte_len() >= self.settings.forward_bytes {
                self.full_forwards.push((leader, forward.finish()));
            }
        }
        count
    }

    /// Puts requests back into the queue. Returns how many.
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

    /// Queues a request that `from` forwarded, unless it is no request of that node or is in the queue or
    /// in the log already; acknowledges it if this node leads.
    pub(crate) fn take_remote_proposal(&mut self, from: NodeId, command: &[u8], leads: bool) {
        let request = Request::decode(command).filter(|request| request.session.node == from);
        let Some(request) = request else { return };
        let id = (request.session, request.seq);
        self.remote_proposals.settle(request.session, request.settled);
        // Only a leader's log keeps what it holds; another node says that it does not lead.
        if self.remote_proposals.knows(&id) || leads && self.log.slot_of(&id).is_some() {
            self.acknowledge(from, id.1, leads);
            return;
        }
        if self.remote_proposals.waiting_bytes() + command.len()
            > self.settings.remote_proposal_bytes
        {
            return self.refuse_remote_proposal(from, id.1, &Refusal::Busy);
        }
        let is_barrier = request.body == RequestKind::Barrier;
        self.remote_proposals.push(id, Bytes::copy_from_slice(command), is_barrier);
        self.acknowledge(from, id.1, leads);
    }

    fn acknowledge(&mut self, node: NodeId, seq: RequestSeq, leads: bool) {
        if leads {
            self.taken.entry(node).or_default().push(seq.0);
        }
    }

    /// The leader has these requests. They are sent again only if it refuses them, if another one
    /// leads, or if they take far longer than others do.
    pub(crate) fn taken_elsewhere(&mut self, now: Instant, requests: &[u64]) {
        for seq in requests {
            if let Some(pending) = self.pending.get_mut(&RequestSeq(*seq))
                && pending.location == Location::Forwarded
            {
                pending.location = Location::Taken;
                pending.sent = now;
            }
        }
    }

    /// This node does not lead: what it was sent goes back to its nodes.
    pub(crate) fn dismiss_remote_proposals(&mut self, hint: Option<NodeId>) {
        for (session, seq) in self.remote_proposals.dismiss() {
            self.refuse_remote_proposal(session.node, seq, &Refusal::NotLeader { hint });
        }
    }

    pub(crate) fn placed(&mut self, ticket: Ticket, slot: Slot) {
        match own_seq(ticket) {
            Some(seq) => {
                if let Some(pending) = self.pending.get_mut(&seq) {
                    pending.location = Location::Placed(slot);
                }
            }
            None => {
                self.remote_proposals.answered(ticket);
            }
        }
    }

    /// The core wrote values to its log.
    pub(crate) fn wrote(&mut self, first: Slot, values: &Values) {
        self.log.put(first, values, &mut self.lost);
    }

    /// The core cut its log.
    pub(crate) fn truncated(&mut self, from: Slot) {
        self.log.truncate_from(from, &mut self.lost);
    }

    pub(crate) fn refused(&mut self, ticket: Ticket, why: Refusal, answers: &mut Vec<Answer>) {
        let Some(seq) = own_seq(ticket) else {
            if let Some((session, seq)) = self.remote_proposals.answered(ticket) {
                self.refuse_remote_proposal(session.node, seq, &why);
            }
            return;
        };
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        pending.location = Location::Here;
        let elsewhere = matches!(why, Refusal::NotLeader { .. });
        if pending.attempts == 1 && !elsewhere {
            self.finish(seq, |_| Outcome::Refused(why.clone()), answers);
        }
    }

    fn refuse_remote_proposal(&mut self, node: NodeId, seq: RequestSeq, why: &Refusal) {
        let same = |group: &&mut (NodeId, Refusal, Vec<u64>)| group.0 == node && group.1 == *why;
        match self.refusals.iter_mut().find(same) {
            Some((_, _, requests)) => requests.push(seq.0),
            None => self.refusals.push((node, why.clone(), vec![seq.0])),
        }
    }

    /// Another node did not take these. They are kept and sent again: an earlier copy may still
    /// be under way, so it would be wrong to tell the client that nothing happened.
    pub(crate) fn refused_elsewhere(&mut self, requests: &[u64]) {
        for seq in requests {
            if let Some(pending) = self.pending.get_mut(&RequestSeq(*seq))
                && pending.location.is_elsewhere()
            {
                self.forwarded_bytes -= pending.command.len();
                pending.location = Location::Here;
            }
        }
    }

    /// A request of this node was applied here.
    pub(crate) fn done(
        &mut self,
        now: Instant,
        (seq, slot, reply): Done,
        answers: &mut Vec<Answer>,
    ) {
        if let Some(pending) = self.pending.get(&seq)
            && pending.attempts == 1
        {
            // Later attempts are left out: it is not known which of them was applied.
            self.service = (self.service * 7 + (now - pending.sent)) / 8;
        }
        let outcome = |waiter: &Waiter| match waiter {
            Waiter::Command(_) => Outcome::Done(slot, reply.clone()),
            Waiter::Reads(_) => Outcome::Readable,
        };
        self.finish(seq, outcome, answers);
    }

    /// Gives up what has run out of time.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        leader: Option<NodeId>,
        answers: &mut Vec<Answer>,
    ) {
        while let Some((deadline, seq)) = self.deadlines.first().copied() {
            if deadline > now {
                return;
            }
            let sent = self.pending.get(&seq).is_some_and(|pending| pending.attempts > 0);
            let outcome = match (sent, leader) {
                (true, _) => Outcome::Unknown,
                (false, None) => Outcome::Refused(Refusal::NotLeader { hint: None }),
                // There was no room for it all the time.
                (false, Some(_)) => Outcome::Refused(Refusal::Busy),
            };
            if !self.expire_reads(now, seq, &outcome, answers) {
                self.finish(seq, |_| outcome.clone(), answers);
            }
        }
    }

    /// Answers those reads of a barrier that have run out of time; returns false if it is no barrier,
    /// or if no read is left to wait for it.
    fn expire_reads(
        &mut self,
        now: Instant,
        seq: RequestSeq,
        outcome: &Outcome,
        answers: &mut Vec<Answer>,
    ) -> bool {
        let Some(pending) = self.pending.get_mut(&seq) else { return false };
        let Waiter::Reads(reads) = &mut pending.waiter else { return false };
        let patient = reads.iter().map(|(_, deadline)| *deadline).filter(|end| *end > now);
        let Some(next) = patient.min() else { return false };
        for (token, _) in reads.extract_if(.., |(_, deadline)| *deadline <= now) {
            self.reads_under_way -= 1;
            answers.push(Answer { token, outcome: outcome.clone() });
        }
        self.deadlines.remove(&(pending.deadline, seq));
        self.deadlines.insert((next, seq));
        pending.deadline = next;
        true
    }

    /// Puts back into the queue what has waited long enough and is probably lost. Returns how many.
    ///
    /// What the present leader has written to this node's log is not lost. What an earlier one
    /// wrote may be: the new leader need not have it. Leaders drop copies of what they hold, so a
    /// retry that was not needed costs its bytes and no slot.
    pub(crate) fn requeue_due(&mut self, now: Instant, applied: Slot) -> u64 {
        if now < self.next_sweep {
            return 0;
        }
        self.next_sweep = now + self.settings.retry / 2;
        let session = self.settings.session();
        let due = self.pending.iter().filter(|(seq, pending)| {
            let stands = || self.log.holds_since_reign_began(&(session, **seq));
            let may_be_lost = match pending.location {
                Location::Here => true,
                Location::Queued | Location::Offered => false,
                Location::Placed(slot) => slot <= applied || !stands(),
                Location::Forwarded | Location::Taken => !stands(),
            };
            may_be_lost && now - pending.sent >= self.patience(pending)
        });
        let due = due.map(|(seq, _)| *seq).collect();
        self.requeue(due)
    }

    /// Time after which a request is sent again. A cluster that is slow, but
    /// works, is given the time that it has been taking.
    fn patience(&self, pending: &Pending) -> Duration {
        let retry = self.settings.retry;
        if pending.location == Location::Taken {
            return retry * LONGEST;
        }
        let first = (self.service * 2).clamp(retry, retry * 8);
        let doublings = pending.attempts.saturating_sub(1).min(5);
        (first * (1 << doublings)).min(retry * LONGEST)
    }

    /// Another leader, or another term of the same one. What was sent under the last one goes
    /// back into the queue unless it stands in this node's log: there it is either chosen, or
    /// removed before the log goes on, and then it is known to be lost.
    pub(crate) fn begin_reign(&mut self, has_leader: bool, applied: Slot) -> u64 {
        self.log.begin_reign();
        if !has_leader {
            return 0;
        }
        let session = self.settings.session();
        let lost = self.pending.iter().filter(|(seq, pending)| match pending.location {
            Location::Here => true,
            Location::Queued | Location::Offered => false,
            Location::Placed(slot) => slot > applied && !self.log.holds(&(session, **seq)),
            Location::Forwarded | Location::Taken => !self.log.holds(&(session, **seq)),
        });
        let lost = lost.map(|(seq, _)| *seq).collect();
        self.requeue(lost)
    }

    /// Puts back into the queue what was removed from this node's log. Returns how many.
    pub(crate) fn requeue_lost(&mut self) -> u64 {
        let session = self.settings.session();
        let mut lost = Vec::new();
        for id in self.lost.drain(..) {
            let own = id.0 == session && !self.log.holds(&id);
            let sent = self.pending.get(&id.1).is_some_and(|pending| {
                matches!(pending.location, Location::Placed(_)) || pending.location.is_elsewhere()
            });
            if own && sent {
                lost.push(id.1);
            }
        }
        self.requeue(lost)
    }

    /// Everything through this slot is applied.
    pub(crate) fn applied(&mut self, through: Slot) {
        self.log.applied(through);
    }

    /// How many commands and reads wait for an answer.
    pub(crate) fn outstanding(&self) -> usize {
        self.pending.len() + self.reads.len() + self.reads_under_way
    }

    /// When [`expire`](Self::expire) or [`requeue_due`](Self::requeue_due) has something to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let (deadline, _) = self.deadlines.first()?;
        Some((*deadline).min(self.next_sweep))
    }

    /// Takes what is to leave for other nodes.
    pub(crate) fn outgoing(&mut self) -> Vec<(NodeId, Outgoing)> {
        let mut out = Vec::new();
        for (to, values) in self.full_forwards.drain(..) {
            out.push((to, Outgoing::Forward(values)));
        }
        for (to, forward) in &mut self.forwards {
            if !forward.is_empty() {
                out.push((*to, Outgoing::Forward(forward.finish())));
            }
        }
        for (to, requests) in std::mem::take(&mut self.taken) {
            out.push((to, Outgoing::Taken(requests)));
        }
        for (to, why, requests) in self.refusals.drain(..) {
            out.push((to, Outgoing::Refused(requests, why)));
        }
        out
    }

    fn finish(
        &mut self,
        seq: RequestSeq,
        outcome: impl Fn(&Waiter) -> Outcome,
        answers: &mut Vec<Answer>,
    ) {
        let Some(pending) = self.pending.remove(&seq) else { return };
        self.deadlines.remove(&(pending.deadline, seq));
        match pending.location {
            Location::Queued => {
                self.queued.remove(&(pending.is_command, seq));
            }
            Location::Forwarded | Location::Taken => {
                self.forwarded_bytes -= pending.command.len();
            }
            Location::Here | Location::Offered | Location::Placed(_) => {}
        }
        let outcome = outcome(&pending.waiter);
        match pending.waiter {
            Waiter::Command(token) => answers.push(Answer { token, outcome }),
            Waiter::Reads(reads) => {
                self.reads_under_way -= reads.len();
                let answer = |(token, _)| Answer { token, outcome: outcome.clone() };
                answers.extend(reads.into_iter().map(answer));
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

/// Even tickets are this node's own requests, odd ones are remote proposals.
fn own_ticket(seq: RequestSeq) -> Ticket {
    Ticket(seq.0 * 2)
}

fn own_seq(ticket: Ticket) -> Option<RequestSeq> {
    ticket.0.is_multiple_of(2).then_some(RequestSeq(ticket.0 / 2))
}
