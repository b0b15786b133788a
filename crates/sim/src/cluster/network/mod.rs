//! Which message arrives, and when.

mod lanes;
mod transmitter;

pub use lanes::LaneBounds;
pub(crate) use lanes::Lanes;
pub(crate) use transmitter::{Transmission, time_for};

use crate::cluster::Happening;
use crate::faults::schedule::{Director, Mishap, Moment};
use crate::plan::{NetworkPlan, Plan};
use crate::rng::{Dice, MILLION};
use std::time::Duration;
use synod_types::Instant;

/// The links between all nodes. Nodes are counted from 0 here.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    links: Vec<Link>,
    troubled: bool,
    /// Whether a cut takes what is under way, too.
    sharp: bool,
    /// The transmitters, if bytes take time.
    wires: Option<transmitter::Wires>,
}

/// From one node to another.
#[derive(Debug)]
struct Link {
    dice: Dice,
    /// How many cuts lie on it.
    cuts: u32,
    /// How many clogs lie on it, and what waits for their end.
    clogs: u32,
    waiting: Vec<Happening>,
    /// How many messages were sent.
    sent: u64,
    /// When the message arrives that keeps its place and was sent last.
    newest: Instant,
}

/// A message's number on its link and what was drawn for it.
#[derive(Debug)]
pub(crate) struct Draw {
    number: u64,
    delay: Duration,
    mishaps: Mishaps,
}

/// When a message arrives: never, once or twice. And what befell it.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    pub(crate) arrivals: [Option<Instant>; 2],
    /// When it comes once more, if it does.
    pub(crate) replay: Option<Instant>,
    /// Which bit of what arrives first is flipped.
    pub(crate) flipped: Option<u32>,
    pub(crate) mishaps: Vec<Mishap>,
}

/// What is to befall one message.
#[derive(Debug, Default)]
struct Mishaps {
    lost: bool,
    again: Option<Duration>,
    late: Option<Duration>,
    overtakes: bool,
    replayed: Option<Duration>,
    flipped: Option<u32>,
}

/// Links that were cut, or clogged, together.
#[derive(Clone, Debug)]
pub(crate) struct Cut(Vec<usize>);

impl Mishaps {
    fn draw(network: &NetworkPlan, dice: &mut Dice) -> Self {
        // One throw decides which of the rare things happens, if any.
        let mut throw = dice.below(u64::from(MILLION)) as u32;
        let mut befalls = |chance: u32| {
            let hit = throw < chance;
            throw = if hit { MILLION } else { throw - chance };
            hit
        };
        let lost = befalls(network.loss);
        let again = befalls(network.duplicate).then(|| dice.duration(&network.delay) * 4);
        let late = befalls(network.spikes).then(|| dice.duration(&network.spike));
        let replayed = befalls(network.replay).then(|| dice.duration(&network.replay_after));
        let flipped = befalls(network.corruption).then(|| dice.word() as u32);
        Self { lost, again, late, overtakes: dice.chance(network.reorder), replayed, flipped }
    }

    fn read(director: &mut Director, link: (usize, usize), number: u64) -> Self {
        let mut mishaps = Self::default();
        while let Some(mishap) = director.take(link, number) {
            match mishap {
                Mishap::Lost => mishaps.lost = true,
                Mishap::Again(after) => mishaps.again = Some(after),
                Mishap::Late(more) => mishaps.late = Some(more),
                Mishap::Overtakes => mishaps.overtakes = true,
                Mishap::Replayed(after) => mishaps.replayed = Some(after),
                Mishap::Flipped(bit) => mishaps.flipped = Some(bit),
            }
        }
        mishaps
    }
}

impl Network {
    pub(crate) fn new(nodes: usize, plan: &Plan, dice: &mut Dice) -> Self {
        let link = |_| Link {
            dice: dice.split(),
            cuts: 0,
            clogs: 0,
            waiting: Vec::new(),
            sent: 0,
            newest: Instant::ZERO,
        };
        let links = (0..nodes * nodes).map(link).collect();
        let wires = plan.capacity.as_ref().map(|capacity| transmitter::Wires::new(nodes, capacity));
        Self { nodes, links, troubled: true, sharp: plan.network.sharp, wires }
    }

    /// A message leaves. What befalls it is drawn, or read from the schedule; and written down.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        link: (usize, usize),
        plan: &Plan,
        director: &mut Director,
    ) -> Fate {
        let draw = self.draw(link, plan, director);
        if self.links[self.index(link.0, link.1)].cuts > 0 {
            return Fate::default();
        }
        self.leave(now, link, &draw, director)
    }

    /// Draws what befalls the next message of a link, or reads it from the schedule.
    fn draw(&mut self, (from, to): (usize, usize), plan: &Plan, director: &mut Director) -> Draw {
        let index = self.index(from, to);
        let link = &mut self.links[index];
        let number = link.sent;
        link.sent += 1;
        let mut dice = link.dice.split();
        let delay = dice.duration(&plan.network.delay);
        let mishaps = match (self.troubled, director.is_drawing()) {
            (false, _) => Mishaps::default(),
            (true, true) => Mishaps::draw(&plan.network, &mut dice),
            (true, false) => Mishaps::read(director, (from, to), number),
        };
        Draw { number, delay, mishaps }
    }

    /// A message is on the link: decides when it arrives, and records what befalls it.
    fn leave(
        &mut self,
        now: Instant,
        link: (usize, usize),
        draw: &Draw,
        director: &mut Director,
    ) -> Fate {
        let mut fate = Fate::default();
        if draw.mishaps.lost {
            fate.mishaps.push(Mishap::Lost);
        } else {
            let index = self.index(link.0, link.1);
            self.links[index].deliver(now, draw.delay, &draw.mishaps, &mut fate);
        }
        for mishap in fate.mishaps.iter().copied() {
            let number = draw.number;
            director.recorded.push(Moment::Message { link, number, mishap });
        }
        fate
    }

    /// From here on nothing is lost, doubled, overtaken or late, and every cut is mended. Returns
    /// what waited on clogged links.
    pub(crate) fn calm_down(&mut self) -> Vec<Happening> {
        self.troubled = false;
        let mut waiting = Vec::new();
        for link in &mut self.links {
            (link.cuts, link.clogs) = (0, 0);
            waiting.append(&mut link.waiting);
        }
        waiting
    }

    /// Cuts links.
    pub(crate) fn cut(&mut self, now: Instant, links: &[(usize, usize)]) -> Cut {
        let cut: Vec<_> = links.iter().map(|(from, to)| self.index(*from, *to)).collect();
        cut.iter().for_each(|link| self.links[*link].cuts += 1);
        self.note_blocked(now);
        Cut(cut)
    }

    /// Whether what was sent on this link before it was cut is lost.
    pub(crate) fn is_severed(&self, from: usize, to: usize) -> bool {
        self.sharp && self.links[self.index(from, to)].cuts > 0
    }

    /// Takes a cut back; one that was mended before is gone already.
    pub(crate) fn mend(&mut self, cut: &Cut) {
        for link in &cut.0 {
            let cuts = &mut self.links[*link].cuts;
            *cuts = cuts.saturating_sub(1);
        }
    }

    /// Clogs links: what arrives there waits.
    pub(crate) fn clog(&mut self, links: &[(usize, usize)]) -> Cut {
        let clogged: Vec<_> = links.iter().map(|(from, to)| self.index(*from, *to)).collect();
        clogged.iter().for_each(|link| self.links[*link].clogs += 1);
        Cut(clogged)
    }

    /// Where what arrives on this link now must wait, if it must.
    pub(crate) fn clogged(&mut self, from: usize, to: usize) -> Option<&mut Vec<Happening>> {
        let index = self.index(from, to);
        let link = &mut self.links[index];
        (link.clogs > 0).then_some(&mut link.waiting)
    }

    /// Takes a clog back. Returns what waited on links that are free now.
    pub(crate) fn unclog(&mut self, clog: &Cut) -> Vec<Happening> {
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

    fn index(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }
}

impl Link {
    /// Lets a message arrive, once or twice.
    fn deliver(&mut self, now: Instant, delay: Duration, mishaps: &Mishaps, fate: &mut Fate) {
        let late = mishaps.late.unwrap_or_default();
        let (first, overtook) = self.arrival(now + delay + late, mishaps.overtakes);
        fate.mishaps.extend(mishaps.late.map(Mishap::Late));
        let again = mishaps.again.map(|after| self.arrival(now + after, mishaps.overtakes));
        fate.mishaps.extend(mishaps.again.map(Mishap::Again));
        if overtook || again.is_some_and(|(_, overtook)| overtook) {
            fate.mishaps.push(Mishap::Overtakes);
        }
        fate.arrivals = [Some(first), again.map(|(at, _)| at)];
        fate.mishaps.extend(mishaps.replayed.map(Mishap::Replayed));
        fate.replay = mishaps.replayed.map(|after| now + after);
        fate.mishaps.extend(mishaps.flipped.map(Mishap::Flipped));
        fate.flipped = mishaps.flipped;
    }

    /// When a message arrives, and whether it overtakes an earlier one: most keep their place.
    fn arrival(&mut self, at: Instant, overtakes: bool) -> (Instant, bool) {
        let overtook = overtakes && at < self.newest;
        self.newest = self.newest.max(at);
        (if overtook { at } else { self.newest }, overtook)
    }
}

/// Every link from a node of one side to one of the other.
pub(crate) fn links(from: &[usize], to: &[usize]) -> Vec<(usize, usize)> {
    let pairs = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::kind::Fault;
    use std::time::Duration;

    fn network(nodes: usize) -> Network {
        Network::new(nodes, &Plan::calm(nodes as u64), &mut Dice::new(5))
    }

    fn arrivals(plan: &Plan, count: u64, director: &mut Director) -> Vec<Instant> {
        let mut network = network(2);
        let mut all = Vec::new();
        for at in 0..count {
            let fate = network.send(Instant(at), (0, 1), plan, director);
            all.extend(fate.arrivals.into_iter().flatten());
        }
        all
    }

    fn rough() -> Plan {
        let mut plan = Plan::calm(2);
        (plan.network.loss, plan.network.duplicate) = (250_000, 500_000);
        plan.network.reorder = 900_000;
        plan
    }

    #[test]
    fn a_calm_link_keeps_the_order_and_loses_nothing() {
        let mut plan = Plan::calm(2);
        plan.network.delay = Duration::ZERO..Duration::from_millis(50);
        let all = arrivals(&plan, 100, &mut Director::drawing(2));
        assert_eq!(all.len(), 100);
        assert!(all.is_sorted());
    }

    #[test]
    fn faults_come_at_about_their_rate() {
        let all = arrivals(&rough(), 4000, &mut Director::drawing(2));
        let count = all.len();
        assert!((4700..5300).contains(&count), "3000 arrive, 2000 of them twice: {count}");
        assert!(!all.is_sorted());
    }

    #[test]
    fn what_was_drawn_can_be_played_again_and_one_fault_less_moves_no_other_message() {
        let mut drawn = Director::drawing(2);
        let first = arrivals(&rough(), 400, &mut drawn);
        let schedule = drawn.recorded;
        let mut played = Director::playing(2, &schedule);
        assert_eq!(arrivals(&rough(), 400, &mut played), first);
        assert_eq!(played.recorded, schedule);
        let lost = schedule.entries().iter().position(|entry| entry.fault() == Fault::Loss);
        let mut rest = schedule.entries().to_vec();
        rest.remove(lost.unwrap());
        let mut played = Director::playing(2, &rest.into_iter().collect());
        let more = arrivals(&rough(), 400, &mut played);
        let moved = more.iter().filter(|at| !first.contains(at)).count();
        assert!(more.len() == first.len() + 1 && moved <= 2, "{moved} messages moved");
    }

    #[test]
    fn a_link_is_open_when_every_cut_on_it_is_mended() {
        let plan = Plan::calm(3);
        let mut network = network(3);
        let first = network.cut(Instant(0), &links(&[0], &[0, 1, 2]));
        let second = network.cut(Instant(0), &links(&[0, 2], &[1]));
        let open = |network: &mut Network, link| {
            let fate = network.send(Instant(0), link, &plan, &mut Director::drawing(3));
            fate.arrivals[0].is_some()
        };
        assert!(!open(&mut network, (0, 1)) && open(&mut network, (1, 0)));
        network.mend(&first);
        assert!(!open(&mut network, (0, 1)) && open(&mut network, (0, 2)));
        network.mend(&second);
        assert!(open(&mut network, (0, 1)) && open(&mut network, (2, 1)));
    }
}
