//! Faults that come by themselves, and the end of all faults.

use crate::cluster::{Cluster, Happening};
use crate::faults::Fault;
use crate::violation::{Checked, Violation};
use std::time::Duration;
use synod_consensus::{Protocol, Role, Status};
use synod_types::NodeId;

impl<P: Protocol> Cluster<P> {
    pub(crate) fn schedule_faults(&mut self) {
        for (fault, _) in self.plan.injection.mean.clone() {
            self.schedule_fault(fault);
        }
    }

    fn schedule_fault(&mut self, fault: Fault) {
        let mut means = self.plan.injection.mean.iter();
        if let Some((_, mean)) = means.find(|(kind, _)| *kind == fault) {
            let at = self.now + self.dice.duration(&(*mean / 4..*mean * 7 / 4));
            self.queue.push(at, Happening::Inject(fault));
        }
    }

    pub(crate) fn on_inject(&mut self, fault: Fault) -> Checked {
        if !self.troubled {
            return Ok(());
        }
        self.schedule_fault(fault);
        let node = self.dice.below(self.plan.nodes) as usize;
        match fault {
            Fault::Partition | Fault::OneWay | Fault::Isolate => self.cut(fault, node),
            Fault::Crash => return self.crash_and_return(node),
            Fault::CrashAll => return self.crash_all(),
            Fault::SlowDisk | Fault::DiskStall | Fault::ApplyStall => self.hinder(fault, node),
            _ => {}
        }
        Ok(())
    }

    /// A fault at a chosen moment.
    pub(crate) fn on_strike(&mut self, node: usize, life: u64, fault: Fault) -> Checked {
        if !self.troubled || self.nodes[node].life != life {
            return Ok(());
        }
        match fault {
            Fault::Isolate => {
                self.cut(Fault::Isolate, node);
                Ok(())
            }
            Fault::CrashRecovering => {
                self.count(Fault::CrashRecovering);
                self.kill_by_plan(node)?;
                self.start_within(node, self.plan.injection.down);
                Ok(())
            }
            _ => self.crash_and_return(node),
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
        if !self.troubled || !self.dice.chance(chance) {
            return;
        }
        let (plan, dice) = (&self.plan, &mut self.dice);
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
        self.queue.push(at, Happening::Strike { node, life, fault });
    }

    fn count(&mut self, fault: Fault) {
        self.faults.fired(fault, self.clients.is_loaded());
    }

    fn cut(&mut self, fault: Fault, node: usize) {
        let count = self.nodes.len();
        if count < 2 {
            return;
        }
        self.count(fault);
        let mut order: Vec<_> = (0..count).collect();
        self.dice.shuffle(&mut order);
        let size = match fault {
            Fault::Isolate => {
                order.retain(|other| *other != node);
                order.insert(0, node);
                // Sometimes a node is cut off together with another.
                1 + usize::from(count > 3 && self.dice.percent(40))
            }
            _ => self.dice.within(1..count as u64) as usize,
        };
        let (here, there) = order.split_at(size);
        let for_long = self.dice.mostly_short(self.plan.injection.cut);
        let until = self.now + Duration::from_millis(50) + for_long;
        let first = self.network.cut(here, there);
        self.queue.push(until, Happening::Mend(first));
        if fault != Fault::OneWay {
            let second = self.network.cut(there, here);
            self.queue.push(until, Happening::Mend(second));
        }
    }

    fn hinder(&mut self, fault: Fault, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.count(fault);
        let stall = self.plan.disk.stall;
        let long = self.now + stall / 2 + self.dice.mostly_short(stall * 3);
        let slow = self.now + self.dice.duration(&(stall / 4..stall * 2));
        let this = &mut self.nodes[node];
        match fault {
            Fault::SlowDisk => this.disk.slow_until = slow,
            Fault::DiskStall => this.disk.stalled_until = long,
            _ => {
                if let Some(running) = this.running.as_mut() {
                    running.apply_stalled_until = long;
                }
            }
        }
    }

    /// A node dies and comes back.
    fn crash_and_return(&mut self, node: usize) -> Checked {
        if !self.nodes[node].is_up() {
            return Ok(());
        }
        self.count(Fault::Crash);
        self.kill_by_plan(node)?;
        self.start_within(node, self.plan.injection.down);
        Ok(())
    }

    fn crash_all(&mut self) -> Checked {
        self.count(Fault::CrashAll);
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_up() {
                self.kill_by_plan(node)?;
                self.start_within(node, self.plan.injection.down);
            }
        }
        Ok(())
    }

    /// Starts a node after a while, and perhaps has it die again at once.
    fn start_within(&mut self, node: usize, down: Duration) {
        let at = self.now + self.dice.mostly_short(down);
        self.queue.push(at, Happening::Start { node });
        if self.plan.has(Fault::CrashRecovering) && self.dice.percent(20) {
            // Starting raises the life by one.
            let life = self.nodes[node].life + 1;
            let at = at + self.dice.mostly_short(Duration::from_millis(30));
            let fault = Fault::CrashRecovering;
            self.queue.push(at, Happening::Strike { node, life, fault });
        }
    }

    fn kill_by_plan(&mut self, node: usize) -> Checked {
        let lossy = [Fault::LoseLogSuffix, Fault::LoseStateSuffix];
        self.kill(node, lossy.map(|fault| self.plan.has(fault)))
    }

    /// The end of all faults: `core` is whole again, every node in it alive and connected; the
    /// others stay as they are, alive or dead, and hear the core no more, or are heard no more, or
    /// both, for good.
    pub(crate) fn heal_core(&mut self, mut core: Vec<usize>) {
        core.sort_unstable();
        self.troubled = false;
        self.network.calm_down();
        let others: Vec<_> = (0..self.nodes.len()).filter(|node| !core.contains(node)).collect();
        // Some of those left out still hear the core, or are heard by it.
        let half = self.dice.below(3);
        if half != 1 {
            self.network.cut(&core, &others);
        }
        if half != 2 || others.is_empty() {
            self.network.cut(&others, &core);
        }
        for node in &core {
            self.relieve(*node);
        }
        self.core = core;
    }

    /// A node's disk and apply side work again; what they were at ends now. A dead node starts.
    fn relieve(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        let life = this.life;
        (this.disk.stalled_until, this.disk.slow_until) = (now, now);
        let Some(running) = this.running.as_mut() else {
            let at = now + self.dice.mostly_short(Duration::from_millis(200));
            return self.queue.push(at, Happening::Start { node });
        };
        running.apply_stalled_until = now;
        if running.apply_due.is_some() {
            running.apply_due = Some(now);
            self.queue.push(now, Happening::Applied { node, life });
        }
        if this.disk.sync_due.is_some() {
            this.disk.sync_due = Some(now);
            self.queue.push(now, Happening::Synced { node, life });
        }
    }

    /// Kills a node. Of what it had not synced a random part is lost.
    ///
    /// # Errors
    /// The first violation.
    pub fn crash(&mut self, node: NodeId) -> Result<(), Violation> {
        self.kill(Self::index(node), [true; 2]).map_err(|found| self.dated(*found))
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
        let index = |side: &[NodeId]| side.iter().map(|id| Self::index(*id)).collect::<Vec<_>>();
        let (one, other) = (index(one), index(other));
        self.network.cut(&one, &other);
        self.network.cut(&other, &one);
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
