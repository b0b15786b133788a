//! A whole cluster in one thread, under a clock that jumps to whatever happens next.

pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod inbox;
pub(crate) mod network;
pub(crate) mod node;
mod node_step;
pub(crate) mod queue;
mod transmit;

use crate::check::Checks;
use crate::check::digest::Digest;
use crate::check::state::{Oracle, contents};
use crate::cluster::network::{Cut, Network};
use crate::cluster::node::Node;
use crate::cluster::queue::Queue;
use crate::faults::kind::{Fault, FaultCounts};
use crate::faults::schedule::{Director, Schedule, Trouble};
use crate::measure::Traffic;
use crate::plan::Plan;
use crate::rng::Dice;
use crate::runner::load_run::LoadFigures;
use crate::trace::Journal;
use crate::violation::{Checked, Violation, ViolationKind, violation};
use crate::workload::clients::Clients;
use crate::workload::load::{Arrival, Load};
use bytes::Bytes;
use std::time::Duration;
use synod_consensus::{Protocol, Quorum, Role, Status};
use synod_replica::{Actions, Driver, Event};
use synod_types::{Instant, Lane, Membership, NodeId, Slot};

/// Makes a node's protocol settings.
pub type ConfigFn<P> = dyn Fn(NodeId, &Membership) -> <P as Protocol>::Config;

/// More events than this at one instant are a loop.
const MOST_AT_ONCE: u64 = 200_000;

/// N replicas, as they ship, with their disks, on a network, with clients; and the checkers.
///
/// Every method that lets time pass or changes something returns the first [`Violation`] found;
/// after that the cluster is of no further use.
pub struct Cluster<P: Protocol> {
    pub(crate) plan: Plan,
    pub(crate) config: Box<ConfigFn<P>>,
    pub(crate) members: Membership,
    pub(crate) quorum: Quorum,
    /// Decides when faults come; see [`Director`].
    pub(crate) injector: Dice,
    pub(crate) client_dice: Dice,
    /// Decides how a cluster is healed.
    pub(crate) healer: Dice,
    pub(crate) director: Director,
    pub(crate) now: Instant,
    pub(crate) queue: Queue<Happening>,
    pub(crate) nodes: Vec<Node<P>>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) checks: Checks<P>,
    pub(crate) faults: FaultCounts,
    /// Whether faults may still fire.
    pub(crate) troubled: bool,
    /// The nodes that clients may use: all of them, or the core that was healed.
    pub(crate) core: Vec<usize>,
    /// How long after it was healed the core first served.
    pub(crate) served_after: Option<Duration>,
    pub(crate) trace: Digest,
    pub(crate) events: u64,
    /// Room for a driver's actions, used again and again.
    pub(crate) scratch: Actions,
    pub(crate) journal: Journal,
    pub(crate) traffic: Traffic,
    /// The clients of a load run.
    pub(crate) load: Load,
    pub(crate) load_figures: Option<LoadFigures>,
    at_this_instant: u64,
}

/// Something that happens. Nodes are counted from 0 here; what concerns one life of a node names
/// it, and is void in the next.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A message arrives; `intact`: no bit of it was flipped under way.
    Deliver {
        from: usize,
        life: u64,
        to: usize,
        lane: Lane,
        frame: Bytes,
        intact: bool,
    },
    /// A frame has left on a link whose bytes take time.
    Transmitted {
        from: usize,
        to: usize,
    },
    Replay {
        from: usize,
        to: usize,
        lane: Lane,
        frame: Bytes,
    },
    /// A node's driver takes what has come in, where that takes time.
    Round {
        node: usize,
        life: u64,
    },
    Alarm {
        node: usize,
        life: u64,
    },
    Synced {
        node: usize,
        life: u64,
    },
    Applied {
        node: usize,
        life: u64,
    },
    Persist {
        node: usize,
        life: u64,
    },
    /// A client's request or read reaches a node.
    Request {
        node: usize,
        life: u64,
        event: Event,
    },
    Start {
        node: usize,
    },
    /// A pause ends.
    Resume {
        node: usize,
        life: u64,
    },
    /// A clock runs right again.
    Steady {
        node: usize,
    },
    Mend(Cut),
    Unclog(Cut),
    Clients,
    /// Clients of a load run ask for more.
    Load(Arrival),
    /// The dice decide what a fault of this kind does now.
    Inject(Fault),
    /// They have decided to hit a node at this moment of its life.
    Strike {
        node: usize,
        life: u64,
        fault: Fault,
    },
    /// A schedule says so.
    Befall(Trouble),
}

impl<P: Protocol> Cluster<P> {
    /// A cluster whose nodes are about to start.
    ///
    /// # Panics
    /// If the plan has no nodes.
    #[must_use]
    pub fn new(
        plan: Plan,
        seed: u64,
        config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    ) -> Self {
        Self::directed(plan, seed, config, None)
    }

    /// The same, with the faults of a schedule, if there is one, instead of those that the dice
    /// throw.
    pub(crate) fn directed(
        plan: Plan,
        seed: u64,
        config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
        schedule: Option<&Schedule>,
    ) -> Self {
        let count = usize::try_from(plan.nodes).expect("a number of nodes");
        let ids = (1..=plan.nodes).map(NodeId);
        let members = Membership::new(ids.clone(), []).expect("a cluster has nodes");
        let bounds = plan.limits.as_ref().map(|limits| limits.bounds.clone());
        let config = move |id, members: &Membership| match &bounds {
            None => config(id, members),
            Some(bounds) => P::bounded(config(id, members), bounds).expect("usable limits"),
        };
        let quorum = P::quorum(&config(NodeId(1), &members), &members);
        let mut dice = Dice::new(seed);
        let director = match schedule {
            None => Director::drawing(count),
            Some(schedule) => Director::playing(count, schedule),
        };
        let mut cluster = Self {
            config: Box::new(config),
            members,
            quorum: quorum.clone(),
            injector: dice.split(),
            client_dice: dice.split(),
            healer: dice.split(),
            director,
            now: Instant::ZERO,
            queue: Queue::new(),
            nodes: ids.map(|id| Node::new(id, &mut dice)).collect(),
            network: Network::new(count, &plan, &mut dice),
            clients: Clients::new(count),
            checks: Checks::new(count, quorum),
            faults: FaultCounts::default(),
            troubled: true,
            core: (0..count).collect(),
            served_after: None,
            trace: Digest::new(),
            events: 0,
            scratch: Actions::default(),
            journal: Journal::default(),
            traffic: Traffic::default(),
            load: Load::new(dice.clone().split()),
            load_figures: None,
            at_this_instant: 0,
            plan,
        };
        cluster.clients.may_refuse = cluster.plan.limits.is_some();
        cluster.schedule_clients();
        cluster.schedule_faults(schedule);
        for node in 0..count {
            // What is wrong from the start on is wrong by then.
            cluster.queue.push(Instant::ZERO, Happening::Start { node });
        }
        cluster
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The first violation.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Violation> {
        let end = self.now + time;
        while self.queue.next().is_some_and(|next| next <= end) {
            self.step().map_err(|found| self.dated(*found))?;
        }
        self.now = end;
        Ok(())
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// What a node says about itself; `None` while it is dead.
    #[must_use]
    pub fn status(&self, node: NodeId) -> Option<Status> {
        Some(self.node(node).running.as_ref()?.replica.status())
    }

    /// The node that leads the highest ballot, if any does.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let statuses = self.members.voters().iter().filter_map(|id| Some((id, self.status(*id)?)));
        let leaders = statuses.filter(|(_, status)| status.role == Role::Leader);
        leaders.max_by_key(|(_, status)| status.ballot).map(|(id, _)| *id)
    }

    /// Every node.
    #[must_use]
    pub fn members(&self) -> &Membership {
        &self.members
    }

    /// The last slot that a node has applied, and the digest of its state; `None` while it is
    /// dead.
    #[must_use]
    pub fn applied(&self, node: NodeId) -> Option<(Slot, u64)> {
        let running = self.node(node).running.as_ref()?;
        Some((running.applier.applied(), running.applier.digest()))
    }

    /// The last slot that any node has reported as chosen.
    #[must_use]
    pub fn chosen(&self) -> Slot {
        self.checks.chosen.last()
    }

    /// Whether every healthy node has applied all that was chosen.
    #[must_use]
    pub fn has_converged(&self) -> bool {
        let last = self.chosen();
        self.core.iter().all(|node| {
            let running = self.nodes[*node].running.as_ref();
            running.is_some_and(|running| running.applier.applied() == last)
        })
    }

    /// Whether every healthy node has applied all that was chosen, and may store it.
    pub(crate) fn has_settled(&self) -> bool {
        let last = self.chosen();
        let stores = |node: &usize| {
            self.nodes[*node].running.as_ref().is_some_and(|running| running.durable >= last)
        };
        self.has_converged() && self.core.iter().all(stores)
    }

    /// A fingerprint of everything that has happened: equal for equal seeds.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.trace.finish()
    }

    /// Judges what clients saw. Then has every healthy node store its state, and compares the
    /// stores byte for byte with what the chosen commands make. Ends the simulation.
    ///
    /// # Errors
    /// If no single store could have given the answers, or if a state differs or lags behind.
    pub fn finish(mut self) -> Result<(), Violation> {
        let judged = self.judge_history().and_then(|()| self.compare_stores());
        judged.map_err(|found| self.dated(*found))
    }

    fn judge_history(&mut self) -> Checked {
        let Checks { seen, oracle, .. } = &mut self.checks;
        seen.judge(self.now, |id| oracle.place(id))
    }

    fn compare_stores(&mut self) -> Checked {
        let expected = std::mem::replace(&mut self.checks.oracle, Oracle::new()).into_stored();
        for node in self.core.clone() {
            let id = self.nodes[node].id;
            if let Some(running) = self.nodes[node].running.as_mut() {
                running.applier.seal();
            }
            self.persist(node)?;
            let Some(running) = self.nodes[node].running.as_mut() else { continue };
            let synced = running.applier.sync();
            synced
                .map_err(|error| violation(ViolationKind::StoreFailed, [id], error.to_string()))?;
            let stored = contents(&self.nodes[node].disk.open().1);
            Oracle::check_stored(id, &stored, &expected)?;
        }
        Ok(())
    }

    pub(crate) fn dated(&self, found: Violation) -> Violation {
        Violation { at: self.now, ..found }
    }

    pub(crate) fn index(node: NodeId) -> usize {
        usize::try_from(node.0 - 1).expect("nodes count from 1")
    }

    fn node(&self, id: NodeId) -> &Node<P> {
        &self.nodes[Self::index(id)]
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) -> Checked {
        let Some((at, happening)) = self.queue.pop() else { return Ok(()) };
        self.at_this_instant = if at == self.now { self.at_this_instant + 1 } else { 0 };
        if self.at_this_instant > MOST_AT_ONCE {
            let text = format!("{MOST_AT_ONCE} events and no time has passed: {happening:?}");
            return Err(violation(ViolationKind::EndlessLoop, [], text));
        }
        self.now = at;
        self.journal.now = at;
        self.record(&happening);
        let Some(happening) = self.unless_it_waits(happening) else { return Ok(()) };
        match happening {
            Happening::Deliver { from, life, .. } if life <= self.nodes[from].muted => Ok(()),
            Happening::Deliver { from, to, lane, frame, intact: true, .. } => {
                self.on_frame((from, to), lane, frame)
            }
            Happening::Deliver { from, to, frame, .. } => self.on_damaged_frame(from, to, frame),
            Happening::Replay { from, to, lane, frame } => self.on_replay((from, to), lane, frame),
            Happening::Transmitted { from, to } => self.on_transmitted((from, to)),
            Happening::Round { node, life } => self.on_round(node, life),
            Happening::Alarm { node, life } => self.on_alarm(node, life),
            Happening::Synced { node, life } => self.on_synced(node, life),
            Happening::Applied { node, life } => self.on_apply(node, life),
            Happening::Persist { node, life } => self.on_persist(node, life),
            Happening::Request { node, life, event } => self.on_request(node, life, event),
            Happening::Start { node } => self.on_start(node),
            Happening::Resume { node, life } => self.on_resume(node, life),
            Happening::Mend(_) | Happening::Unclog(_) | Happening::Steady { .. } => {
                self.on_relief(&happening);
                Ok(())
            }
            Happening::Clients => self.on_clients(),
            Happening::Load(arrival) => self.on_load(arrival),
            Happening::Inject(fault) => self.on_inject(fault),
            Happening::Strike { node, life, fault } => self.on_strike(node, life, fault),
            Happening::Befall(trouble) => self.befall(trouble),
        }
    }

    /// What happens now; `None` if its link or its node makes it wait, or if it comes to nothing.
    fn unless_it_waits(&mut self, happening: Happening) -> Option<Happening> {
        let waiting = match &happening {
            Happening::Deliver { from, to, .. } => {
                if self.network.is_severed(*from, *to) {
                    return None;
                }
                self.network.clogged(*from, *to).or(self.nodes[*to].paused())
            }
            Happening::Replay { to: node, .. } | Happening::Persist { node, .. } => {
                self.nodes[*node].paused()
            }
            Happening::Alarm { node, .. }
            | Happening::Round { node, .. }
            | Happening::Synced { node, .. }
            | Happening::Applied { node, .. } => {
                // A node that goes on looks for these by itself.
                return self.nodes[*node].paused_until.is_none().then_some(happening);
            }
            _ => None,
        };
        match waiting {
            None => Some(happening),
            Some(waiting) => {
                waiting.push(happening);
                None
            }
        }
    }

    /// Folds what happens into the trace. Faults are folded when they befall something: whether
    /// dice or a schedule had them come is no matter of the trace.
    fn record(&mut self, happening: &Happening) {
        let (kind, node, more) = match happening {
            // A frame carries its own checksum.
            Happening::Deliver { from, to, frame, .. }
            | Happening::Replay { from, to, frame, .. } => {
                let mut head = [0; 8];
                let known = frame.len().min(8);
                head[..known].copy_from_slice(&frame[..known]);
                (1, *to, u64::from_le_bytes(head) ^ (*from as u64) << 56)
            }
            Happening::Alarm { node, life } => (2, *node, *life),
            Happening::Synced { node, life } => (3, *node, *life),
            Happening::Applied { node, life } => (4, *node, *life),
            Happening::Persist { node, life } => (5, *node, *life),
            Happening::Start { node } => (6, *node, 0),
            Happening::Clients => (7, 0, self.clients.done()),
            Happening::Mend(_) => (8, 0, 0),
            Happening::Request { node, life, .. } => (10, *node, *life),
            Happening::Resume { node, life } => (11, *node, *life),
            Happening::Steady { node } => (12, *node, 0),
            Happening::Unclog(_) => (13, 0, 0),
            Happening::Round { node, life } => (14, *node, *life),
            Happening::Transmitted { from, to } => (15, *to, *from as u64),
            Happening::Load(_) => (16, 0, self.clients.count()),
            Happening::Inject(_) | Happening::Strike { .. } | Happening::Befall(_) => return,
        };
        self.fold(kind, node, more);
    }

    pub(crate) fn fold(&mut self, kind: u64, node: usize, more: u64) {
        self.events += 1;
        self.trace.fold(self.now.0);
        self.trace.fold(kind << 32 | node as u64);
        self.trace.fold(more);
    }
}
