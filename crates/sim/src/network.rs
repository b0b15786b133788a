//! Which message arrives, and when.

use crate::dice::{Dice, MILLION};
use crate::faults::Fault;
use crate::plan::Plan;
use synod_types::Instant;

/// The links between all nodes. Nodes are counted from 0 here.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    /// How many cuts lie on each link.
    cuts: Vec<u32>,
    /// When the message sent last on each link arrives.
    newest: Vec<Instant>,
    troubled: bool,
    /// Whether a cut takes what is under way, too.
    sharp: bool,
}

/// When a message arrives: never, once or twice. And what befell it.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    pub(crate) arrivals: [Option<Instant>; 2],
    pub(crate) faults: [Option<Fault>; 2],
}

/// Links that were cut together.
#[derive(Clone, Debug)]
pub(crate) struct Cut(Vec<usize>);

impl Network {
    pub(crate) fn new(nodes: usize, sharp: bool) -> Self {
        let links = nodes * nodes;
        let newest = vec![Instant::ZERO; links];
        Self { nodes, cuts: vec![0; links], newest, troubled: true, sharp }
    }

    /// A message leaves.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        (from, to): (usize, usize),
        plan: &Plan,
        dice: &mut Dice,
    ) -> Fate {
        let mut fate = Fate::default();
        let link = self.link(from, to);
        if self.cuts[link] > 0 {
            return fate;
        }
        let network = &plan.network;
        // One throw decides which of the rare things happens, if any.
        let mut throw = if self.troubled { dice.below(u64::from(MILLION)) as u32 } else { MILLION };
        let mut befalls = |chance: u32| {
            let hit = throw < chance;
            throw = if hit { MILLION } else { throw - chance.min(throw) };
            hit
        };
        if befalls(network.loss) {
            fate.faults[0] = Some(Fault::Loss);
            return fate;
        }
        let twice = befalls(network.duplicate);
        let mut delay = dice.duration(&network.delay);
        if befalls(network.spikes) {
            delay += dice.duration(&network.spike);
            fate.faults[0] = Some(Fault::DelaySpike);
        }
        fate.arrivals[0] = Some(self.arrival(link, now + delay, plan, &mut fate.faults[1]));
        if twice {
            fate.faults[0] = Some(Fault::Duplicate);
            let again = now + dice.duration(&network.delay) * 4;
            fate.arrivals[1] = Some(self.arrival(link, again, plan, &mut fate.faults[1]));
        }
        fate
    }

    /// Keeps the order of a link's messages where the plan does not allow another.
    fn arrival(
        &mut self,
        link: usize,
        at: Instant,
        plan: &Plan,
        fault: &mut Option<Fault>,
    ) -> Instant {
        let newest = &mut self.newest[link];
        if at >= *newest {
            *newest = at;
            return at;
        }
        if self.troubled && plan.has(Fault::Reorder) {
            *fault = Some(Fault::Reorder);
            return at;
        }
        *newest
    }

    /// From here on nothing is lost, doubled, overtaken or late, and every cut is mended.
    pub(crate) fn calm_down(&mut self) {
        self.troubled = false;
        self.cuts.fill(0);
    }

    /// Cuts every link from a node of `from` to one of `to`.
    pub(crate) fn cut(&mut self, from: &[usize], to: &[usize]) -> Cut {
        let pairs = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
        let links: Vec<_> =
            pairs.filter(|(from, to)| from != to).map(|(from, to)| self.link(from, to)).collect();
        links.iter().for_each(|link| self.cuts[*link] += 1);
        Cut(links)
    }

    /// Whether what was sent on this link before it was cut is lost.
    pub(crate) fn is_severed(&self, from: usize, to: usize) -> bool {
        self.sharp && self.cuts[self.link(from, to)] > 0
    }

    /// Takes a cut back; one that was mended before is gone already.
    pub(crate) fn mend(&mut self, cut: &Cut) {
        for link in &cut.0 {
            self.cuts[*link] = self.cuts[*link].saturating_sub(1);
        }
    }

    fn link(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn arrivals(network: &mut Network, plan: &Plan, count: usize) -> Vec<Instant> {
        let mut dice = Dice::new(5);
        let mut all = Vec::new();
        for index in 0..count {
            let fate = network.send(Instant(index as u64), (0, 1), plan, &mut dice);
            all.extend(fate.arrivals.into_iter().flatten());
        }
        all
    }

    #[test]
    fn a_calm_link_keeps_the_order_and_loses_nothing() {
        let mut plan = Plan::calm(2);
        plan.network.delay = Duration::ZERO..Duration::from_millis(50);
        let all = arrivals(&mut Network::new(2, false), &plan, 100);
        assert_eq!(all.len(), 100);
        assert!(all.is_sorted());
    }

    #[test]
    fn faults_come_at_about_their_rate() {
        let mut plan = Plan::calm(2);
        plan.faults = [Fault::Loss, Fault::Duplicate, Fault::Reorder].into_iter().collect();
        (plan.network.loss, plan.network.duplicate) = (250_000, 500_000);
        let all = arrivals(&mut Network::new(2, false), &plan, 4000);
        assert!(
            (4700..5300).contains(&all.len()),
            "3000 arrive, 2000 of them twice: {}",
            all.len()
        );
        assert!(!all.is_sorted());
    }

    #[test]
    fn a_link_is_open_when_every_cut_on_it_is_mended() {
        let plan = Plan::calm(3);
        let mut network = Network::new(3, false);
        let first = network.cut(&[0], &[0, 1, 2]);
        let second = network.cut(&[0, 2], &[1]);
        let open = |network: &mut Network, link| {
            network.send(Instant(0), link, &plan, &mut Dice::new(1)).arrivals[0].is_some()
        };
        assert!(!open(&mut network, (0, 1)) && open(&mut network, (1, 0)));
        network.mend(&first);
        assert!(!open(&mut network, (0, 1)) && open(&mut network, (0, 2)));
        network.mend(&second);
        assert!(open(&mut network, (0, 1)) && open(&mut network, (2, 1)));
    }
}
