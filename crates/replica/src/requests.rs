//! The requests of this node's own clients until they are answered, and those of others on their
//! way through.

use crate::driver::{Answer, Outcome};
use crate::frame::Payload;
use crate::{Body, Request, RequestSeq, Settings, Token};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use synod_consensus::Refusal;
use synod_types::{Instant, NodeId, Slot, Ticket, Values, ValuesBuilder};

/// Everything that is under way on behalf of clients.
pub(crate) struct Requests {
    settings: Settings,
    last: RequestSeq,
    pending: BTreeMap<RequestSeq, Pending>,
    deadlines: BTreeSet<(Instant, RequestSeq)>,
    /// Reads that came in since the last barrier.
    reads: Vec<(Token, Instant)>,
    reads_under_way: usize,
    /// Proposals on behalf of other nodes, until the core has placed or refused them.
    guests: BTreeMap<Ticket, (NodeId, RequestSeq)>,
    last_guest: u64,
    forwards: BTreeMap<NodeId, ValuesBuilder>,
    full_forwards: Vec<(NodeId, Values)>,
    /// What guests are told, gathered by node and reason.
    refusals: Vec<(NodeId, Refusal, Vec<u64>)>,
    next_sweep: Instant,
}

#[derive(Clone, Debug)]
struct Pending {
    waiter: Waiter,
    /// The whole command, session and number included: equal in every attempt.
    command: Bytes,
    /// When the first of its waiters gives up.
    deadline: Instant,
    whereabouts: Whereabouts,
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

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// Nowhere: it was refused, or there was no one to send it to.
    Here,
    /// With the core of this node, which has not yet said.
    Offered,
    /// In this node's log.
    Placed(Slot),
    /// On its way to another node.
    Forwarded,
}

/// What leaves for other nodes.
pub(crate) enum Outgoing {
    Forward(Values),
    Refused(Vec<u64>, Refusal),
}

impl Outgoing {
    pub(crate) fn typed<M>(self) -> Payload<M> {
        match self {
            Self::Forward(values) => Payload::Forward(values),
            Self::Refused(requests, why) => Payload::Refused { requests, why },
        }
    }
}

impl Requests {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            last: RequestSeq(0),
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            reads: Vec::new(),
            reads_under_way: 0,
            guests: BTreeMap::new(),
            last_guest: 0,
            forwards: BTreeMap::new(),
            full_forwards: Vec::new(),
            refusals: Vec::new(),
            next_sweep: Instant::ZERO,
        }
    }

    /// Takes a client's command; `None` if there are too many already, which is answered.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        token: Token,
        command: Bytes,
        deadline: Instant,
        answers: &mut Vec<Answer>,
    ) -> Option<RequestSeq> {
        if self.outstanding() >= self.settings.max_outstanding {
            answers.push(Answer { token, outcome: Outcome::Refused(Refusal::Busy) });
            return None;
        }
        Some(self.open(now, Waiter::Command(token), Body::Command(command), deadline))
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
    pub(crate) fn gather_reads(&mut self, now: Instant) -> Option<RequestSeq> {
        let deadline = self.reads.iter().map(|(_, deadline)| *deadline).min()?;
        let reads = std::mem::take(&mut self.reads);
        self.reads_under_way += reads.len();
        Some(self.open(now, Waiter::Reads(reads), Body::Barrier, deadline))
    }

    fn open(
        &mut self,
        now: Instant,
        waiter: Waiter,
        body: Body<Bytes>,
        deadline: Instant,
    ) -> RequestSeq {
        self.last.0 += 1;
        let seq = self.last;
        let settled = self.pending.first_key_value().map_or(seq, |(first, _)| *first);
        let request = Request { session: self.settings.session(), seq, settled, body };
        let pending = Pending {
            waiter,
            command: request.encode(),
            deadline,
            whereabouts: Whereabouts::Here,
            sent: now,
            attempts: 0,
        };
        if self.pending.is_empty() {
            self.next_sweep = now + self.settings.retry;
        }
        self.deadlines.insert((deadline, seq));
        self.pending.insert(seq, pending);
        seq
    }

    /// Hands a request to this node's core.
    pub(crate) fn offer(&mut self, now: Instant, seq: RequestSeq) -> Option<(Ticket, Bytes)> {
        let pending = self.pending.get_mut(&seq)?;
        pending.start_attempt(now, Whereabouts::Offered);
        Some((own_ticket(seq), pending.command.clone()))
    }

    /// Puts a request on its way to `leader`.
    pub(crate) fn forward(&mut self, now: Instant, seq: RequestSeq, leader: NodeId) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        pending.start_attempt(now, Whereabouts::Forwarded);
        let forward = self.forwards.entry(leader).or_default();
        forward.push_command(&pending.command);
        if forward.byte_len() >= self.settings.forward_bytes {
            self.full_forwards.push((leader, forward.finish()));
        }
    }

    /// A ticket for a request that `from` sent on; `None` if it is no request of that node.
    pub(crate) fn ticket_for(&mut self, from: NodeId, command: &[u8]) -> Option<Ticket> {
        let request = Request::decode(command).filter(|request| request.session.node == from)?;
        self.last_guest += 1;
        let ticket = guest_ticket(self.last_guest);
        self.guests.insert(ticket, (from, request.seq));
        Some(ticket)
    }

    pub(crate) fn placed(&mut self, ticket: Ticket, slot: Slot) {
        match own_seq(ticket) {
            Some(seq) => {
                if let Some(pending) = self.pending.get_mut(&seq) {
                    pending.whereabouts = Whereabouts::Placed(slot);
                }
            }
            None => {
                self.guests.remove(&ticket);
            }
        }
    }

    pub(crate) fn refused(&mut self, ticket: Ticket, why: Refusal, answers: &mut Vec<Answer>) {
        let Some(seq) = own_seq(ticket) else {
            if let Some((guest, seq)) = self.guests.remove(&ticket) {
                self.refuse_guest(guest, seq, why);
            }
            return;
        };
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        pending.whereabouts = Whereabouts::Here;
        let elsewhere = matches!(why, Refusal::NotLeader { .. });
        if pending.attempts == 1 && !elsewhere {
            self.finish(seq, |_| Outcome::Refused(why.clone()), answers);
        }
    }

    fn refuse_guest(&mut self, guest: NodeId, seq: RequestSeq, why: Refusal) {
        let same = |group: &&mut (NodeId, Refusal, Vec<u64>)| group.0 == guest && group.1 == why;
        match self.refusals.iter_mut().find(same) {
            Some((_, _, requests)) => requests.push(seq.0),
            None => self.refusals.push((guest, why, vec![seq.0])),
        }
    }

    /// Another node did not take these. They are kept and sent again: an earlier copy may still
    /// be under way, so it would be wrong to tell the client that nothing happened.
    pub(crate) fn refused_elsewhere(&mut self, requests: &[u64]) {
        for seq in requests {
            if let Some(pending) = self.pending.get_mut(&RequestSeq(*seq))
                && pending.whereabouts == Whereabouts::Forwarded
            {
                pending.whereabouts = Whereabouts::Here;
            }
        }
    }

    /// A request of this node was applied here.
    pub(crate) fn done(
        &mut self,
        seq: RequestSeq,
        slot: Slot,
        reply: Bytes,
        answers: &mut Vec<Answer>,
    ) {
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
            let outcome = match sent {
                true => Outcome::Unknown,
                false => Outcome::Refused(Refusal::NotLeader { hint: leader }),
            };
            if !self.shed(now, seq, &outcome, answers) {
                self.finish(seq, |_| outcome.clone(), answers);
            }
        }
    }

    /// Gives up those reads of a barrier that have run out of time; false if it is no barrier, or
    /// if none is left to wait for it.
    fn shed(
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

    /// What has waited long enough to be sent again. A request in this node's log is waited for
    /// until another one has been applied in its place.
    pub(crate) fn due_again(&mut self, now: Instant, applied: Slot) -> Vec<RequestSeq> {
        if now < self.next_sweep {
            return Vec::new();
        }
        self.next_sweep = now + self.settings.retry / 2;
        let retry = self.settings.retry;
        let due = self.pending.iter().filter(|(_, pending)| {
            let patience = retry * (1 << pending.attempts.saturating_sub(1).min(5));
            let lost = match pending.whereabouts {
                Whereabouts::Here | Whereabouts::Forwarded => true,
                Whereabouts::Placed(slot) => slot <= applied,
                Whereabouts::Offered => false,
            };
            lost && now - pending.sent >= patience
        });
        due.map(|(seq, _)| *seq).collect()
    }

    /// Everything under way, lowest number first.
    pub(crate) fn all(&self) -> Vec<RequestSeq> {
        self.pending.keys().copied().collect()
    }

    /// How many commands and reads wait for an answer.
    pub(crate) fn outstanding(&self) -> usize {
        self.pending.len() + self.reads.len() + self.reads_under_way
    }

    /// When [`expire`](Self::expire) or [`due_again`](Self::due_again) has something to do.
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
    fn start_attempt(&mut self, now: Instant, whereabouts: Whereabouts) {
        self.whereabouts = whereabouts;
        self.sent = now;
        self.attempts += 1;
    }
}

/// Even tickets are this node's own requests, odd ones are guests'.
fn own_ticket(seq: RequestSeq) -> Ticket {
    Ticket(seq.0 * 2)
}

fn guest_ticket(number: u64) -> Ticket {
    Ticket(number * 2 + 1)
}

fn own_seq(ticket: Ticket) -> Option<RequestSeq> {
    ticket.0.is_multiple_of(2).then_some(RequestSeq(ticket.0 / 2))
}
