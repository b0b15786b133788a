//! Faults: drawn or read from a schedule, and the end of them all.

use crate::cluster::network::links;
use crate::cluster::node::Node;
use crate::cluster::{Cluster, Happening};
use crate::faults::kind::Fault;
use crate::faults::schedule::{Effect, Entry, Moment, Schedule, Trouble, Victim};
use crate::rng::Dice;
use crate::trace::fault_text::trouble_in_words;
use crate::violation::{Checked, Violation, ViolationKind, violation};
use std::time::Duration;
use synod_consensus::{Protocol, Role, Status};
use synod_types::{NodeId, Slot};

impl<P: Protocol> Cluster<P> {
    /// Has the dice throw faults from now on, or those of a schedule come at their time.
    pub(crate) fn schedule_faults(&mut self, schedule: Option<&Schedule>) {
        let Some(schedule) = schedule else {
            for (fault, _) in self.plan.injection.mean.clone() {
                self.schedule_fault(fault);
            }
            let skewed = if self.plan.has(Fault::Skew) { self.nodes.len() } else { 0 };
            for _ in 0..skewed {
                self.queue.push(self.now, Happening::Inject(Fault::Skew));
            }
            return;
        };
        for Entry(moment) in schedule.entries() {
            let Moment::At(at, trouble) = moment else { continue };
            let befall = Happening::Befall(trouble.clone());
            match trouble.fault {
                // Before the nodes start; all else comes after what happens at its moment.
                Fault::Skew => self.queue.push(*at, befall),
                _ => self.queue.push_last(*at, befall),
            }
        }
    }

    fn schedule_fault(&mut self, fault: Fault) {
        let mut means = self.plan.injection.mean.iter();
        if let Some((_, mean)) = means.find(|(kind, _)| *kind == fault) {
            let at = self.now + self.injector.duration(&(*mean / 4..*mean * 7 / 4));
            self.queue.push_last(at, Happening::Inject(fault));
        }
    }

    /// It is time for a fault: what it does is drawn now.
    pub(crate) fn on_inject(&mut self, fault: Fault) -> Checked {
        if !self.troubled {
            return Ok(());
        }
        self.schedule_fault(fault);
        let node = self.injector.below(self.plan.nodes) as usize;
        let effect = match fault {
            Fault::Partition | Fault::OneWay | Fault::Isolate => self.draw_cut(fault, node),
            Fault::Bridge | Fault::Ring | Fault::Clog => self.draw_shape(fault),
            Fault::CrashAll => {
                let all = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up());
                let all: Vec<_> = all.collect();
                Effect::Crash(all.into_iter().map(|node| self.draw_victim(node)).collect())
            }
            Fault::Pause | Fault::SlowDisk | Fault::DiskStall | Fault::ApplyStall => {
                self.draw_hold(fault, node)
            }
            Fault::LoseAnyOrder
            | Fault::TornWrite
            | Fault::BitFlip
            | Fault::MisdirectedWrite
            | Fault::ReadError
            | Fault::FsyncError
            | Fault::DiskFull => self.draw_failure(fault, node),
            Fault::Skew | Fault::Drift | Fault::JumpAhead | Fault::JumpBack => {
                self.draw_clock(fault, node)
            }
            _ => Effect::Crash(vec![self.draw_victim(node)]),
        };
        self.befall(Trouble { fault, effect })
    }

    /// A fault at a chosen moment.
    pub(crate) fn on_strike(&mut self, node: usize, life: u64, fault: Fault) -> Checked {
        if !self.troubled || self.nodes[node].life != life {
            return Ok(());
        }
        let effect = match fault {
            Fault::Isolate => self.draw_cut(fault, node),
            Fault::SlowStart => self.draw_hold(fault, node),
            _ => Effect::Crash(vec![self.draw_victim(node)]),
        };
        self.befall(Trouble { fault, effect })
    }

    /// A node starts: perhaps that takes it long.
    pub(crate) fn tempt_start(&mut self, node: usize) {
        let may = self.troubled && self.director.is_drawing() && self.plan.has(Fault::SlowStart);
        if may && self.injector.percent(25) {
            let life = self.nodes[node].life;
            let fault = Fault::SlowStart;
            self.queue.push_last(self.now, Happening::Strike { node, life, fault });
        }
    }

    /// A leader has just chosen a slot, and nobody else knows yet: a good moment for it to fall,
    /// above all if it is the first slot that it chooses.
    pub(crate) fn tempt(&mut self, node: usize, status: &Status) {
        if status.role != Role::Leader {
            return;
        }
        let round = status.ballot.round;
        let first = std::mem::replace(&mut self.nodes[node].chose_in, round) != round;
        let chance = self.plan.injection.strike_commit;
        self.strike(node, if first { chance } else { chance / 50 });
    }

    /// Perhaps fells a node at the moment at which that hurts most: right now, before anything
    /// that it says arrives, or within a few round trips.
    pub(crate) fn strike(&mut self, node: usize, chance: u32) {
        let may = self.troubled && self.director.is_drawing();
        if !may || !self.injector.chance(chance) {
            return;
        }
        let (plan, dice) = (&self.plan, &mut self.injector);
        let crash = plan.has(Fault::Crash) && (!plan.has(Fault::Isolate) || dice.percent(60));
        let fault = if crash { Fault::Crash } else { Fault::Isolate };
        let one_way = plan.network.delay.end + plan.disk.sync.end;
        let within = match dice.below(10) {
            0..3 => Duration::ZERO,
            3..7 => one_way,
            _ => one_way * 5,
        };
        let at = self.now + dice.duration(&(Duration::ZERO..within));
        let life = self.nodes[node].life;
        self.queue.push_last(at, Happening::Strike { node, life, fault });
    }

    fn draw_cut(&mut self, fault: Fault, node: usize) -> Effect {
        let (count, dice) = (self.nodes.len(), &mut self.injector);
        let mut order: Vec<_> = (0..count).collect();
        dice.shuffle(&mut order);
        let size = match fault {
            Fault::Isolate => {
                order.retain(|other| *other != node);
                order.insert(0, node);
                // Sometimes a node is cut off together with another.
                1 + usize::from(count > 3 && dice.percent(40))
            }
            _ => dice.within(1..count as u64) as usize,
        };
        let (here, there) = order.split_at(size);
        let mut cut = links(here, there);
        if fault != Fault::OneWay {
            cut.extend(links(there, here));
        }
        let time = Duration::from_millis(50) + dice.mostly_short(self.plan.injection.cut);
        Effect::Links(cut, time)
    }

    /// A cut, or a clog, that follows a pattern.
    fn draw_shape(&mut self, fault: Fault) -> Effect {
        let (count, dice) = (self.nodes.len(), &mut self.injector);
        let mut order: Vec<_> = (0..count).collect();
        dice.shuffle(&mut order);
        let cut = match fault {
            Fault::Bridge => {
                let (here, there) = order[1..].split_at((count - 1) / 2);
                [links(here, there), links(there, here)].concat()
            }
            Fault::Ring => ring(&order),
            _ => match dice.below(3) {
                0 => links(&order[..1], &order[1..]),
                1 => links(&order[1..], &order[..1]),
                _ => links(&order[..1], &order[1..count.min(2)]),
            },
        };
        let time = Duration::from_millis(50) + dice.mostly_short(self.plan.injection.cut);
        Effect::Links(cut, time)
    }

    fn draw_failure(&mut self, fault: Fault, node: usize) -> Effect {
        // What damages a write needs a write.
        let busy = |node: &usize| self.nodes[*node].disk.at_stake()[0] > 0;
        let busy: Vec<_> = (0..self.nodes.len()).filter(busy).collect();
        let hits_writes = matches!(fault, Fault::LoseAnyOrder | Fault::TornWrite);
        let node = if hits_writes && !busy.is_empty() { *self.injector.pick(&busy) } else { node };
        let mut victim = self.draw_victim(node);
        let (dice, ms) = (&mut self.injector, Duration::from_millis);
        let time = match fault {
            Fault::FsyncError => {
                // What the disk holds of a sync that failed is anyone's guess.
                victim.keep = Some(dice.below(4) as usize);
                Duration::ZERO
            }
            Fault::DiskFull => {
                victim.keep = Some(0);
                ms(50) + dice.mostly_short(ms(3000))
            }
            Fault::ReadError => ms(50) + dice.mostly_short(ms(3000)),
            _ => {
                victim.keep = Some(0);
                return Effect::Damage(victim, dice.word());
            }
        };
        Effect::Fail(victim, time)
    }

    fn draw_clock(&mut self, fault: Fault, node: usize) -> Effect {
        let (dice, ms) = (&mut self.injector, Duration::from_millis);
        match fault {
            Fault::Skew => Effect::Shift(node, dice.duration(&(ms(1)..ms(1_000_000_000)))),
            Fault::JumpAhead => Effect::Shift(node, ms(10) + dice.mostly_short(ms(5000))),
            Fault::JumpBack => Effect::Shift(node, ms(10) + dice.mostly_short(ms(1500))),
            _ => {
                // From what a bad quartz does to what a bad hypervisor does.
                let most = *dice.pick(&[500, 20_000, 250_000]);
                let gains = dice.within(0..2 * most + 1) as i32 - most as i32;
                Effect::Drift(node, gains, ms(500) + dice.mostly_short(ms(10_000)))
            }
        }
    }

    fn draw_hold(&mut self, fault: Fault, node: usize) -> Effect {
        let (stall, dice) = (self.plan.disk.stall, &mut self.injector);
        let time = match fault {
            Fault::SlowDisk => dice.duration(&(stall / 4..stall * 2)),
            Fault::Pause | Fault::SlowStart => {
                Duration::from_millis(10) + dice.mostly_short(self.plan.injection.pause)
            }
            _ => stall / 2 + dice.mostly_short(stall * 3),
        };
        Effect::Hold(node, time)
    }

    fn draw_victim(&mut self, node: usize) -> Victim {
        let (plan, dice) = (&self.plan, &mut self.injector);
        let at_stake = self.nodes[node].disk.at_stake();
        let mut keep = |fault: Fault, most: usize| {
            plan.has(fault).then(|| dice.below(most as u64 + 1) as usize)
        };
        Victim {
            node,
            keep: keep(Fault::LoseLogSuffix, at_stake[0]),
            keep_state: keep(Fault::LoseStateSuffix, at_stake[1]),
            muted: dice.chance(plan.network.die_with_sender),
            down: dice.mostly_short(plan.injection.down),
        }
    }

    /// A fault fires, unless there is nothing that it could do anything to; and is written down.
    pub(crate) fn befall(&mut self, trouble: Trouble) -> Checked {
        if !self.troubled || !self.can_befall(&trouble.effect) {
            return Ok(());
        }
        let Trouble { fault, effect } = &trouble;
        if !matches!(effect, Effect::Fail(..)) {
            // A clock that is wrong from the start on is wrong under load, too. Failures count
            // when they show.
            self.faults.fired(*fault, self.clients.is_loaded() || *fault == Fault::Skew);
        }
        self.fold(9, 0, *fault as u64);
        let at_stake = |node: usize| self.nodes[node].disk.at_stake();
        self.journal.event(|| trouble_in_words(*fault, effect, at_stake));
        let result = match effect {
            Effect::Links(links, time) => {
                let relief = match fault {
                    Fault::Clog => Happening::Unclog(self.network.clog(links)),
                    _ => Happening::Mend(self.network.cut(self.now, links)),
                };
                self.queue.push(self.now + *time, relief);
                Ok(())
            }
            Effect::Crash(victims) => self.fell(victims),
            Effect::Hold(node, time) => {
                self.hinder(*fault, *node, *time);
                Ok(())
            }
            Effect::Damage(victim, place) => self.damage(*fault, victim, *place),
            Effect::Fail(victim, time) => self.let_fail(*fault, victim, *time),
            Effect::Shift(..) | Effect::Drift(..) => {
                self.meddle(*fault, effect);
                Ok(())
            }
        };
        self.director.recorded.push(Moment::At(self.now, trouble));
        result
    }

    /// Whether anything would come of it.
    fn can_befall(&self, effect: &Effect) -> bool {
        let count = self.nodes.len();
        let is_up = |node: usize| self.nodes.get(node).is_some_and(|node| node.is_up());
        match effect {
            Effect::Links(links, _) => {
                !links.is_empty() && links.iter().all(|(from, to)| *from < count && *to < count)
            }
            Effect::Crash(victims) => {
                victims.iter().all(|victim| victim.node < count)
                    && victims.iter().any(|victim| is_up(victim.node))
            }
            Effect::Hold(node, _) => is_up(*node),
            Effect::Fail(victim, _) => is_up(victim.node),
            // Never so many that no quorum is left, and not before there is a log to damage.
            Effect::Damage(Victim { node, .. }, _) => {
                let has_log = |node: &Node<P>| node.disk.synced.log.last() > Slot::ZERO;
                let others: Vec<_> = self.whole().filter(|other| other != node).collect();
                is_up(*node) && has_log(&self.nodes[*node]) && self.is_quorum(&others)
            }
            Effect::Shift(node, _) | Effect::Drift(node, ..) => *node < count,
        }
    }

    /// The nodes that nothing was done to that cannot be undone.
    pub(crate) fn whole(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_whole())
    }

    /// Whether these nodes can do without all others.
    pub(crate) fn is_quorum(&self, nodes: &[usize]) -> bool {
        let has = |id: NodeId| nodes.contains(&Self::index(id));
        self.quorum.is_first(has) && self.quorum.is_second(has)
    }

    /// A node dies, and what its log's disk holds is not what the store wrote.
    fn damage(&mut self, fault: Fault, victim: &Victim, place: u64) -> Checked {
        let this = &self.nodes[victim.node];
        let wreck = this
            .disk
            .wreck(fault, &mut Dice::new(place))
            .map_err(|error| violation(ViolationKind::StoreFailed, [this.id], error.to_string()))?;
        self.fell(std::slice::from_ref(victim))?;
        self.nodes[victim.node].disk.replace(wreck);
        Ok(())
    }

    /// A disk fails: at once, or when the node writes next.
    fn let_fail(&mut self, fault: Fault, victim: &Victim, time: Duration) -> Checked {
        let disk = &mut self.nodes[victim.node].disk;
        if fault == Fault::ReadError {
            disk.shut = Some((fault, self.now + time));
            return self.fell(std::slice::from_ref(victim));
        }
        disk.failing = Some((fault, victim.clone(), time));
        Ok(())
    }

    /// A sync fails. That is final: the node stops, and nothing that waited for it leaves.
    pub(crate) fn fail_sync(&mut self, fault: Fault, victim: &Victim, time: Duration) -> Checked {
        self.count(fault);
        let id = self.nodes[victim.node].id;
        self.journal.event(|| format!("{id:?} stops: its sync fails"));
        if fault == Fault::DiskFull {
            self.nodes[victim.node].disk.shut = Some((fault, self.now + time));
        }
        self.fell(std::slice::from_ref(victim))
    }

    /// Something is wrong with a node's clock.
    fn meddle(&mut self, fault: Fault, effect: &Effect) {
        let now = self.now;
        let node = match effect {
            Effect::Shift(node, by) if fault == Fault::JumpBack => {
                self.nodes[*node].clock.jump_back(now, *by);
                *node
            }
            Effect::Shift(node, by) => {
                self.nodes[*node].clock.jump_ahead(now, *by);
                *node
            }
            Effect::Drift(node, gains, time) => {
                self.nodes[*node].clock.drift(now, *gains);
                self.queue.push(now + *time, Happening::Steady { node: *node });
                *node
            }
            _ => return,
        };
        self.reset_alarm(node);
    }

    /// A node is woken when its clock, as it is now, shows the time that it waits for.
    fn reset_alarm(&mut self, node: usize) {
        self.nodes[node].alarm = None;
        self.set_alarm(node);
    }

    /// Something is over.
    pub(crate) fn on_relief(&mut self, relief: &Happening) {
        match relief {
            Happening::Mend(cut) if self.troubled => {
                self.network.mend(cut);
                self.restart_links();
            }
            Happening::Unclog(clog) if self.troubled => {
                let free = self.network.unclog(clog);
                self.happen_now(free);
            }
            Happening::Steady { node } if self.troubled => {
                self.nodes[*node].clock.drift(self.now, 0);
                self.reset_alarm(*node);
            }
            _ => {}
        }
    }

    /// What had to wait happens now, in the order in which it came.
    fn happen_now(&mut self, waiting: Vec<Happening>) {
        for happening in waiting {
            self.queue.push(self.now, happening);
        }
    }

    /// A pause ends, unless another one has begun since, or the node is left as it is for good.
    pub(crate) fn on_resume(&mut self, node: usize, life: u64) -> Checked {
        let this = &self.nodes[node];
        let due = this.life == life && this.paused_until.is_some_and(|until| until <= self.now);
        if due && (self.troubled || self.core.contains(&node)) {
            self.resume(node);
        }
        Ok(())
    }

    /// All that a paused node has missed comes at once: first what was sent, then what it waits
    /// for itself.
    fn resume(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.paused_until = None;
        let life = this.life;
        let waiting = std::mem::take(&mut this.waiting);
        if this.disk.sync_due.is_some_and(|due| due <= now) {
            this.disk.sync_due = Some(now);
            self.queue.push(now, Happening::Synced { node, life });
        }
        if let Some(running) = this.running.as_mut() {
            if running.apply_due.is_some_and(|due| due <= now) {
                running.apply_due = Some(now);
                self.queue.push(now, Happening::Applied { node, life });
            }
            if let Some(inbox) = running.inbox.as_mut().filter(|inbox| inbox.is_due(now)) {
                inbox.due = Some(now);
                self.queue.push(now, Happening::Round { node, life });
            }
        }
        self.happen_now(waiting);
        self.reset_alarm(node);
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        self.faults.fired(fault, self.clients.is_loaded());
    }

    fn hinder(&mut self, fault: Fault, node: usize, time: Duration) {
        let until = self.now + time;
        let this = &mut self.nodes[node];
        match fault {
            Fault::SlowDisk => this.disk.slow_until = until,
            Fault::DiskStall => this.disk.stalled_until = until,
            Fault::Pause | Fault::SlowStart => {
                this.paused_until = this.paused_until.max(Some(until));
                self.queue.push(until, Happening::Resume { node, life: this.life });
            }
            _ => {
                if let Some(running) = this.running.as_mut() {
                    running.apply_stalled_until = until;
                }
            }
        }
    }

    /// Nodes die and come back.
    fn fell(&mut self, victims: &[Victim]) -> Checked {
        for victim in victims {
            if self.nodes[victim.node].is_up() {
                self.kill(victim)?;
                self.start_after(victim.node, victim.down);
            }
        }
        Ok(())
    }

    /// A dead node starts, unless its disk cannot be opened or it is left as it is for good.
    pub(crate) fn on_start(&mut self, node: usize) -> Checked {
        if !self.troubled && !self.core.contains(&node) || self.nodes[node].lost {
            return Ok(());
        }
        if let Some((fault, until)) = self.nodes[node].disk.shut
            && self.now < until
        {
            if fault == Fault::ReadError {
                self.count(fault);
            }
            // Whoever looks after the node tries again when the disk works.
            self.queue.push(until, Happening::Start { node });
            return Ok(());
        }
        self.start(node)
    }

    /// Starts a node after a while, and perhaps has it die again at once.
    fn start_after(&mut self, node: usize, down: Duration) {
        let at = self.now + down;
        self.queue.push(at, Happening::Start { node });
        let may = self.director.is_drawing() && self.plan.has(Fault::CrashRecovering);
        if may && self.injector.percent(20) {
            // Starting raises the life by one.
            let life = self.nodes[node].life + 1;
            let at = at + self.injector.mostly_short(Duration::from_millis(30));
            let fault = Fault::CrashRecovering;
            self.queue.push_last(at, Happening::Strike { node, life, fault });
        }
    }

    /// The end of all faults: `core` is whole again, every node in it alive and connected; the
    /// others stay as they are, alive, paused or dead, and hear the core no more, or are heard no
    /// more, or both, for good.
    pub(crate) fn heal_core(&mut self, mut core: Vec<usize>) {
        core.sort_unstable();
        self.troubled = false;
        let waiting = self.network.calm_down();
        self.happen_now(waiting);
        self.restart_links();
        let others: Vec<_> = (0..self.nodes.len()).filter(|node| !core.contains(node)).collect();
        // Some of those left out still hear the core, or are heard by it.
        let half = self.healer.below(3);
        if half != 1 {
            self.network.cut(self.now, &links(&core, &others));
        }
        if half != 2 {
            self.network.cut(self.now, &links(&others, &core));
        }
        self.nodes.iter_mut().for_each(|node| node.disk.failing = None);
        for node in &core {
            self.relieve(*node);
        }
        for node in others {
            // Whoever waits for a node that never goes on gives up.
            if self.nodes[node].paused_until.is_some() {
                self.clients.node_died(node);
            }
        }
        self.core = core;
    }

    /// A node's clock, disk and apply side work again; what they were at ends now. A paused node
    /// goes on, a dead one starts.
    fn relieve(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.clock.mend(now);
        (this.disk.stalled_until, this.disk.slow_until) = (now, now);
        this.disk.shut = None;
        if this.disk.sync_due.is_some() {
            this.disk.sync_due = Some(now);
        }
        let Some(running) = this.running.as_mut() else {
            let at = now + self.healer.mostly_short(Duration::from_millis(200));
            return self.queue.push(at, Happening::Start { node });
        };
        running.apply_stalled_until = now;
        if running.apply_due.is_some() {
            running.apply_due = Some(now);
        }
        self.resume(node);
    }

    /// Kills a node. Of what it had not synced a random part is lost.
    ///
    /// # Errors
    /// The first violation.
    pub fn crash(&mut self, node: NodeId) -> Result<(), Violation> {
        let node = Self::index(node);
        let [log, state] = self.nodes[node].disk.at_stake();
        let dice = &mut self.injector;
        let keep = Some(dice.below(log as u64 + 1) as usize);
        let keep_state = Some(dice.below(state as u64 + 1) as usize);
        let muted = dice.chance(self.plan.network.die_with_sender);
        let victim = Victim { node, keep, keep_state, muted, down: Duration::ZERO };
        self.kill(&victim).map_err(|found| self.dated(*found))
    }

    /// Starts a dead node.
    ///
    /// # Errors
    /// The first violation.
    pub fn restart(&mut self, node: NodeId) -> Result<(), Violation> {
        self.start(Self::index(node)).map_err(|found| self.dated(*found))
    }

    /// Cuts every link between nodes of the two sides.
    pub fn partition(&mut self, one: &[NodeId], other: &[NodeId]) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Cuts every link from one side to the other; those back still work.
    pub fn cut(&mut self, from: &[NodeId], to: &[NodeId]) {
        let index = |side: &[NodeId]| side.iter().map(|id| Self::index(*id)).collect::<Vec<_>>();
        self.network.cut(self.now, &links(&index(from), &index(to)));
    }

    /// Mends all cuts, wakes all disks and starts all dead nodes.
    pub fn heal(&mut self) {
        self.heal_core((0..self.nodes.len()).collect());
    }

    /// No sync of the node's log ends before this much time has passed.
    pub fn stall_disk(&mut self, node: NodeId, time: Duration) {
        self.nodes[Self::index(node)].disk.stalled_until = self.now + time;
    }
}

/// What a ring of majorities cuts: each node hears those next to it on the ring, as many as make a
/// majority with it, and nobody else.
fn ring(order: &[usize]) -> Vec<(usize, usize)> {
    let count = order.len();
    let majority = count / 2 + 1;
    let first = (majority - 1) / 2;
    let mut cut = Vec::new();
    for at in 0..count {
        for step in majority..count {
            let deaf_to = order[(at + count - first + step) % count];
            cut.push((deaf_to, order[at]));
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_ring_each_hears_a_majority_of_its_own() {
        for count in 3..8 {
            let order: Vec<_> = (0..count).rev().collect();
            let cut = ring(&order);
            let hears = |node, from| !cut.contains(&(from, node));
            let heard = |node| (0..count).filter(|from| hears(node, *from)).collect();
            let mut all: Vec<Vec<_>> = (0..count).map(heard).collect();
            for (node, majority) in all.iter().enumerate() {
                assert_eq!(majority.len(), count / 2 + 1);
                assert!(majority.contains(&node));
            }
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }
}
