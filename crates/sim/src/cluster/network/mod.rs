//! The network: links, their delays and their faults.

pub(crate) mod lanes;
pub(crate) mod links;
pub(crate) mod message;
pub(crate) mod throughput;
mod transmission;
pub(crate) mod transmitter;

use super::event::SimEvent;
use crate::faults::schedule::{MessageFault, ScheduledFault};
use crate::faults::source::FaultSource;
use crate::plan::Plan;
use crate::rng::SimRng;
use links::{Link, LinkSet};
use message::{MessageDraw, MessageFate, MessageFaults};
use std::time::Duration;
use synod_types::Instant;

/// Links between all nodes. Nodes are numbered from 0 here.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    links: Vec<LinkState>,
    is_faulty: bool,
    /// True if a cut loses the messages in flight, too.
    cuts_in_flight: bool,
    /// Transmitters of the links, if bandwidth is limited.
    transmitters: Option<transmitter::Transmitters>,
}

/// State of the link from one node to another.
#[derive(Debug)]
struct LinkState {
    rng: SimRng,
    /// Number of cuts in effect.
    cuts: u32,
    /// Number of clogs in effect, and the events held back until they end.
    clogs: u32,
    waiting: Vec<SimEvent>,
    /// Number of messages sent.
    sent: u64,
    /// Latest arrival so far. A message arrives before it only if it may overtake.
    newest: Instant,
}

impl Network {
    pub(crate) fn new(nodes: usize, plan: &Plan, rng: &mut SimRng) -> Self {
        let link = |_| LinkState {
            rng: rng.split(),
            cuts: 0,
            clogs: 0,
            waiting: Vec::new(),
            sent: 0,
            newest: Instant::ZERO,
        };
        let links = (0..nodes * nodes).map(link).collect();
        let transmitters =
            plan.capacity.as_ref().map(|capacity| transmitter::Transmitters::new(nodes, capacity));
        Self {
            nodes,
            links,
            is_faulty: true,
            cuts_in_flight: plan.network.cuts_in_flight,
            transmitters,
        }
    }

    /// Sends a message. Draws its faults, or reads them from the schedule, and records them.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        link: Link,
        plan: &Plan,
        fault_source: &mut FaultSource,
    ) -> MessageFate {
        let draw = self.draw(link, plan, fault_source);
        if self.links[self.index(link)].cuts > 0 {
            return MessageFate::default();
        }
        self.depart(now, link, &draw, fault_source)
    }

    /// Draws the faults of the next message of a link, or reads them from the schedule.
    fn draw(&mut self, link: Link, plan: &Plan, fault_source: &mut FaultSource) -> MessageDraw {
        let index = self.index(link);
        let state = &mut self.links[index];
        let number = state.sent;
        state.sent += 1;
        let mut rng = state.rng.split();
        let delay = rng.duration(&plan.network.delay);
        let message_faults = match (self.is_faulty, fault_source.is_random()) {
            (false, _) => MessageFaults::default(),
            (true, true) => MessageFaults::draw(&plan.network, &mut rng),
            (true, false) => MessageFaults::read(fault_source, link, number),
        };
        MessageDraw { number, delay, message_faults }
    }

    /// Puts a message on the link: returns its arrivals, and records its faults.
    fn depart(
        &mut self,
        now: Instant,
        link: Link,
        draw: &MessageDraw,
        fault_source: &mut FaultSource,
    ) -> MessageFate {
        let mut fate = MessageFate::default();
        if draw.message_faults.is_lost {
            fate.message_faults.push(MessageFault::Lost);
        } else {
            let index = self.index(link);
            self.links[index].set_arrivals(now, draw.delay, &draw.message_faults, &mut fate);
        }
        for message_fault in fate.message_faults.iter().copied() {
            let number = draw.number;
            fault_source.recorded.push(ScheduledFault::Message { link, number, message_fault });
        }
        fate
    }

    /// Ends all faults of messages and heals all cuts. Returns the events that waited on clogged
    /// links.
    pub(crate) fn end_faults(&mut self) -> Vec<SimEvent> {
        self.is_faulty = false;
        let mut waiting = Vec::new();
        for link in &mut self.links {
            (link.cuts, link.clogs) = (0, 0);
            waiting.append(&mut link.waiting);
        }
        waiting
    }

    /// Cuts links.
    pub(crate) fn cut(&mut self, now: Instant, links: &[Link]) -> LinkSet {
        let cut: Vec<_> = links.iter().map(|link| self.index(*link)).collect();
        cut.iter().for_each(|link| self.links[*link].cuts += 1);
        self.record_blocked_links(now);
        LinkSet(cut)
    }

    /// Returns whether messages in flight on this link are lost, because it was cut.
    pub(crate) fn is_severed(&self, link: Link) -> bool {
        self.cuts_in_flight && self.links[self.index(link)].cuts > 0
    }

    /// Heals a cut. Has no effect on links without cuts.
    pub(crate) fn heal_cut(&mut self, cut: &LinkSet) {
        for link in &cut.0 {
            let cuts = &mut self.links[*link].cuts;
            *cuts = cuts.saturating_sub(1);
        }
    }

    /// Clogs links: arriving messages are held back.
    pub(crate) fn clog(&mut self, links: &[Link]) -> LinkSet {
        let clogged: Vec<_> = links.iter().map(|link| self.index(*link)).collect();
        clogged.iter().for_each(|link| self.links[*link].clogs += 1);
        LinkSet(clogged)
    }

    /// Returns the queue of held-back events of this link, if it is clogged.
    pub(crate) fn clogged(&mut self, link: Link) -> Option<&mut Vec<SimEvent>> {
        let index = self.index(link);
        let state = &mut self.links[index];
        (state.clogs > 0).then_some(&mut state.waiting)
    }

    /// Ends a clog. Returns the events held back on links that are free now.
    pub(crate) fn unclog(&mut self, clog: &LinkSet) -> Vec<SimEvent> {
        let mut free = Vec::new();
        for index in &clog.0 {
            let link = &mut self.links[*index];
            link.clogs = link.clogs.saturating_sub(1);
            if link.clogs == 0 {
                free.append(&mut link.waiting);
            }
        }
        free
    }

    fn index(&self, link: Link) -> usize {
        link.from * self.nodes + link.to
    }
}

impl LinkState {
    /// Sets the arrivals of a message, one or two.
    fn set_arrivals(
        &mut self,
        now: Instant,
        delay: Duration,
        message_faults: &MessageFaults,
        fate: &mut MessageFate,
    ) {
        let delay_fault = message_faults.delayed.unwrap_or_default();
        let (first, overtook) = self.arrival(now + delay + delay_fault, message_faults.reordered);
        fate.message_faults.extend(message_faults.delayed.map(MessageFault::Delayed));
        let duplicate = message_faults
            .duplicated
            .map(|after| self.arrival(now + after, message_faults.reordered));
        fate.message_faults.extend(message_faults.duplicated.map(MessageFault::Duplicated));
        if overtook || duplicate.is_some_and(|(_, overtook)| overtook) {
            fate.message_faults.push(MessageFault::Reordered);
        }
        fate.arrivals = [Some(first), duplicate.map(|(at, _)| at)];
        fate.message_faults.extend(message_faults.replayed.map(MessageFault::Replayed));
        fate.replay = message_faults.replayed.map(|after| now + after);
        fate.message_faults.extend(message_faults.corrupted.map(MessageFault::Corrupted));
        fate.flipped = message_faults.corrupted;
    }

    /// Returns the arrival of a message, and whether it overtakes an earlier one.
    fn arrival(&mut self, at: Instant, may_overtake: bool) -> (Instant, bool) {
        let overtook = may_overtake && at < self.newest;
        self.newest = self.newest.max(at);
        (if overtook { at } else { self.newest }, overtook)
    }
}

#[cfg(test)]
mod tests {
    use super::links::links;
    use super::*;
    use crate::faults::kind::Fault;
    use std::time::Duration;

    fn network(nodes: usize) -> Network {
        Network::new(nodes, &Plan::healthy(nodes as u64), &mut SimRng::new(5))
    }

    fn arrivals(plan: &Plan, count: u64, fault_source: &mut FaultSource) -> Vec<Instant> {
        let mut network = network(2);
        let mut all = Vec::new();
        for at in 0..count {
            let fate = network.send(Instant(at), Link { from: 0, to: 1 }, plan, fault_source);
            all.extend(fate.arrivals.into_iter().flatten());
        }
        all
    }

    fn faulty() -> Plan {
        let mut plan = Plan::healthy(2);
        (plan.network.loss, plan.network.duplicate) = (250_000, 500_000);
        plan.network.reorder = 900_000;
        plan
    }

    #[test]
    fn healthy_link_keeps_order_and_loses_nothing() {
        let mut plan = Plan::healthy(2);
        plan.network.delay = Duration::ZERO..Duration::from_millis(50);
        let all = arrivals(&plan, 100, &mut FaultSource::random(2));
        assert_eq!(all.len(), 100);
        assert!(all.is_sorted());
    }

    #[test]
    fn faults_occur_at_about_their_rate() {
        let all = arrivals(&faulty(), 4000, &mut FaultSource::random(2));
        let count = all.len();
        assert!((4700..5300).contains(&count), "about 3000 + 2000 expected: {count}");
        assert!(!all.is_sorted());
    }

    #[test]
    fn replay_without_one_fault_changes_no_other_arrival() {
        let mut drawn = FaultSource::random(2);
        let first = arrivals(&faulty(), 400, &mut drawn);
        let schedule = drawn.recorded;
        let mut played = FaultSource::scheduled(2, &schedule);
        assert_eq!(arrivals(&faulty(), 400, &mut played), first);
        assert_eq!(played.recorded, schedule);
        let lost = schedule.entries().iter().position(|entry| entry.fault() == Fault::Loss);
        let mut rest = schedule.entries().to_vec();
        rest.remove(lost.unwrap());
        let mut played = FaultSource::scheduled(2, &rest.into_iter().collect());
        let more = arrivals(&faulty(), 400, &mut played);
        let moved = more.iter().filter(|at| !first.contains(at)).count();
        assert!(more.len() == first.len() + 1 && moved <= 2, "{moved} messages moved");
    }

    #[test]
    fn link_opens_when_every_cut_on_it_is_healed() {
        let plan = Plan::healthy(3);
        let mut network = network(3);
        let first = network.cut(Instant(0), &links(&[0], &[0, 1, 2]));
        let second = network.cut(Instant(0), &links(&[0, 2], &[1]));
        let open = |network: &mut Network, from, to| {
            let link = Link { from, to };
            let fate = network.send(Instant(0), link, &plan, &mut FaultSource::random(3));
            fate.arrivals[0].is_some()
        };
        assert!(!open(&mut network, 0, 1) && open(&mut network, 1, 0));
        network.heal_cut(&first);
        assert!(!open(&mut network, 0, 1) && open(&mut network, 0, 2));
        network.heal_cut(&second);
        assert!(open(&mut network, 0, 1) && open(&mut network, 2, 1));
    }
}
