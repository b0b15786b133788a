//! Random walks of bare cores: what the driver does not do yet, among everything that goes wrong.
//!
//! No driver trims a log or installs a snapshot so far, but every core takes
//! [`Input::Compact`] and [`Input::Installed`]. A walk hands them out among lost, doubled and
//! reordered messages, links that are cut in one direction or both, slow disks, stalls, crashes and
//! timers that run out whenever they like, and checks the same promises that the simulator checks of
//! whole nodes: among them, that a value is chosen by acceptances on the disks of a quorum, and stays
//! on them or in their snapshots. Then everything works, and a new command must reach everyone. There
//! is no driver and no codec; a walk is fast and shallow where a simulation is slow and deep.

use crate::check::Checks;
use crate::rng::SimRng;
use crate::violation::Violation;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use synod_consensus::{
    Base, HardState, Host, Input, Message, Observer, Outputs, Protocol, Quorum, Role, Run, RunLog,
    Saved, TimerChange, Write,
};
use synod_types::{Ballot, Instant, Membership, NodeId, Seq, Slot, Ticket, Value};

/// What happened on walks that found nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Slots that were chosen.
    pub chosen: u64,
    /// Ballots that somebody led under.
    pub ballots: u64,
    /// Crashes.
    pub crashes: u64,
    /// Logs trimmed.
    pub trims: u64,
    /// Snapshots installed.
    pub installs: u64,
}

impl Walked {
    fn add(&mut self, other: &Self) {
        self.chosen += other.chosen;
        self.ballots += other.ballots;
        self.crashes += other.crashes;
        self.trims += other.trims;
        self.installs += other.installs;
    }
}

/// One walk of `steps` steps for each seed, over the members of that seed, with cores of the
/// settings that each is given. What happened on all of them together.
///
/// # Errors
/// The first seed on which something went wrong, and [what](walk).
pub fn walks<P: Protocol>(
    seeds: Range<u64>,
    steps: u32,
    members: impl Fn(u64) -> Membership,
    config: impl Fn(u64, NodeId, &Membership) -> P::Config,
) -> Result<Walked, String> {
    let mut total = Walked::default();
    for seed in seeds {
        let walked =
            walk::<P>(seed, steps, &members(seed), |node, members| config(seed, node, members));
        total.add(&walked.map_err(|found| format!("seed {seed}: {found}"))?);
    }
    Ok(total)
}

/// Takes `steps` random steps with the cores of these members. Then some may be gone for good, but
/// the others are enough; nothing fails any more, snapshots reach whoever needs one, and clients
/// go on asking.
///
/// # Errors
/// What went wrong: two values for a slot, a chosen value that no quorum of disks holds, two leaders
/// under a ballot, a message that its sender's disk does not bear out, a promise taken back, a core
/// that panicked or refused its own disk; or that nothing new was applied everywhere for 30 seconds
/// in which nothing failed.
pub fn walk<P: Protocol>(
    seed: u64,
    steps: u32,
    members: &Membership,
    config: impl Fn(NodeId, &Membership) -> P::Config,
) -> Result<Walked, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut walk = Walk::<P>::start(seed, members, config)?;
        for _ in 0..steps {
            walk.one_step()?;
        }
        walk.settle()?;
        Ok(walk.walked)
    }));
    outcome.unwrap_or_else(|_| Err("a core panicked".to_owned()))
}

/// A hundred of the longest election time-outs that are the default.
const PATIENCE: Duration = Duration::from_secs(30);
/// One hop, and how exactly timers run out where nothing fails.
const TICK: Duration = Duration::from_millis(1);
/// How many ticks lie between two commands.
const PAUSE: u32 = 100;

struct Walk<P: Protocol> {
    rng: SimRng,
    now: Instant,
    /// Who is enough.
    quorum: Quorum,
    nodes: BTreeMap<NodeId, Node<P>>,
    /// Sender, receiver, message: arrives in any order, some of it twice, some of it never.
    wire: Vec<(NodeId, NodeId, P::Message)>,
    /// Links that lose everything, by sender and receiver.
    cut: BTreeSet<(NodeId, NodeId)>,
    chosen: BTreeMap<Slot, Value>,
    checks: Checks<P>,
    /// The logs of nodes that are gone for good.
    gone: BTreeMap<NodeId, RunLog<P::Stamp>>,
    leaders: BTreeMap<Ballot, NodeId>,
    tickets: u64,
    walked: Walked,
}

struct Node<P: Protocol> {
    config: P::Config,
    host: Host<P>,
    disk: Saved<P>,
    /// Batches that are not durable, in order.
    unwritten: VecDeque<Vec<Write<P>>>,
    /// The latest snapshot that is durable in the state store.
    snapshot: Base<P::Stamp>,
    timers: BTreeMap<P::Timer, Instant>,
    /// Who needs a snapshot of this node.
    owes: BTreeSet<NodeId>,
}

impl<P: Protocol> Node<P> {
    /// Starts on what the disk and the state store hold.
    fn start(
        id: NodeId,
        config: P::Config,
        disk: Saved<P>,
        snapshot: Base<P::Stamp>,
    ) -> Result<Self, String> {
        let mut saved = disk.clone();
        if snapshot.through > saved.base.through {
            saved.base = snapshot.clone();
        }
        let host = Host::recover(id, config.clone(), saved).map_err(|error| error.to_string())?;
        let (unwritten, timers, owes) = (VecDeque::new(), BTreeMap::new(), BTreeSet::new());
        Ok(Self { config, host, disk, unwritten, snapshot, timers, owes })
    }

    /// Everything up to here was chosen or came as a snapshot in this life.
    fn applied(&self) -> Slot {
        self.host.chosen()
    }

    fn write(&mut self, write: &Write<P>) -> Result<(), String> {
        match write {
            Write::HardState(new) if !new.may_follow(&self.disk.hard_state) => {
                Err(format!("{new:?} is written over {:?}", self.disk.hard_state))
            }
            write => {
                self.disk.apply(write);
                Ok(())
            }
        }
    }
}

impl<P: Protocol> Walk<P> {
    fn start(
        seed: u64,
        members: &Membership,
        config: impl Fn(NodeId, &Membership) -> P::Config,
    ) -> Result<Self, String> {
        let all = || members.voters().iter().chain(members.learners()).copied();
        let mut nodes = BTreeMap::new();
        for id in all() {
            let config = config(id, members);
            nodes.insert(id, Node::start(id, config, Saved::default(), Base::default())?);
        }
        let quorum = P::quorum(&config(members.voters()[0], members), members);
        let mut walk = Self {
            rng: SimRng::new(seed),
            now: Instant(1_000_000_000),
            checks: Checks::new(nodes.len(), quorum.clone()),
            gone: BTreeMap::new(),
            quorum,
            nodes,
            wire: Vec::new(),
            cut: BTreeSet::new(),
            chosen: BTreeMap::new(),
            leaders: BTreeMap::new(),
            tickets: 0,
            walked: Walked::default(),
        };
        for id in all() {
            walk.step(id, Input::Start)?;
        }
        Ok(walk)
    }

    fn one_step(&mut self) -> Result<(), String> {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        let id = *self.rng.pick(&ids);
        let pause = Duration::from_micros(self.rng.below(3_000));
        self.pass(pause);
        match self.rng.below(100) {
            0..56 => self.deliver(),
            56..80 => self.sync(id),
            80..84 => self.time_out(id),
            84..93 => self.propose(id),
            93 => match self.rng.below(10) {
                0..3 => self.crash(id),
                3..5 => self.step(id, Input::Stalled),
                5..9 => {
                    let to = *self.rng.pick(&ids);
                    self.cut_link(id, to);
                    Ok(())
                }
                _ => {
                    self.cut.clear();
                    Ok(())
                }
            },
            94..97 => self.trim(id),
            _ => {
                let from = *self.rng.pick(&ids);
                match self.receive(from, id)? {
                    Some(_) if self.rng.percent(20) => self.crash(id),
                    Some(base) => self.install(id, base),
                    None => Ok(()),
                }
            }
        }
    }

    fn propose(&mut self, id: NodeId) -> Result<(), String> {
        self.tickets += 1;
        let command = self.tickets.to_string().into_bytes().into();
        self.step(id, Input::Propose { ticket: Ticket(self.tickets), command })
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// One input and the round behind it, as a driver does it.
    fn step(&mut self, id: NodeId, input: Input<P>) -> Result<(), String> {
        self.drive(id, |host, now, seen| {
            let outputs = host.input(now, input, seen);
            seen.outputs(outputs);
        })?;
        self.round(id)
    }

    fn round(&mut self, id: NodeId) -> Result<(), String> {
        let (mut unwritten, mut sends) = (None, Vec::new());
        self.drive(id, |host, now, seen| {
            let round = host.round(now, seen);
            unwritten = round.seq.map(|_| mem::take(round.writes));
            sends.append(round.sends);
            if !round.is_quiet {
                seen.found.get_or_insert_with(|| "self-messages have no end".to_owned());
            }
            seen.outputs(round.outputs);
        })?;
        self.wire.extend(sends.into_iter().map(|(to, message)| (id, to, message)));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.unwritten.extend(unwritten);
        }
        Ok(())
    }

    /// Lets a node's host do something, and checks what its core does meanwhile.
    fn drive(
        &mut self,
        id: NodeId,
        work: impl FnOnce(&mut Host<P>, Instant, &mut Seen<'_, P>),
    ) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let mut seen = Seen {
            id,
            now: self.now,
            rng: &mut self.rng,
            checks: &mut self.checks,
            disk: &node.disk,
            timers: &mut node.timers,
            owes: &mut node.owes,
            reported: Vec::new(),
            found: None,
        };
        work(&mut node.host, self.now, &mut seen);
        let (reported, found) = (seen.reported, seen.found);
        if let Some(found) = found {
            return Err(found);
        }
        let status = node.host.core().status();
        reported.iter().try_for_each(|(round, run)| self.report(id, *round, run))?;
        if status.role == Role::Leader {
            let leader = *self.leaders.entry(status.ballot).or_insert(id);
            if leader != id {
                return Err(format!("{leader:?} and {id:?} lead under {}", status.ballot));
            }
        }
        self.walked.chosen = self.chosen.len() as u64;
        self.walked.ballots = self.leaders.len() as u64;
        Ok(())
    }

    /// A node that was in `round` reports slots as chosen.
    fn report(&mut self, id: NodeId, round: u64, run: &Run<P::Stamp>) -> Result<(), String> {
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            let known = self.chosen.entry(slot).or_insert_with(|| value.to_value());
            if *known != value.to_value() {
                return Err(format!("{known:?} and {:?} are chosen at {slot}", value.to_value()));
            }
            let disks = self.nodes.iter().map(|(id, node)| (*id, &node.disk.log));
            let disks = disks.chain(self.gone.iter().map(|(id, log)| (*id, log)));
            self.checks.report((id, round), (slot, &value), disks).map_err(in_words)?;
        }
        Ok(())
    }

    /// Cuts a link in one direction, or now and then in both.
    fn cut_link(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
        if self.rng.percent(40) {
            self.cut.insert((to, from));
        }
    }

    /// A message arrives, mostly the oldest; some stay on the wire and come again, some are lost.
    fn deliver(&mut self) -> Result<(), String> {
        if self.wire.is_empty() {
            return Ok(());
        }
        let any = if self.rng.percent(60) { 0 } else { self.rng.below(self.wire.len() as u64) };
        let again = self.rng.percent(10);
        let (from, to, message) = match again {
            true => self.wire[any as usize].clone(),
            false => self.wire.remove(any as usize),
        };
        if self.rng.percent(12) || self.cut.contains(&(from, to)) {
            return Ok(());
        }
        self.step(to, Input::Message { from, message })
    }

    /// The disk does some of what was asked of it, and what waited for that is let go.
    fn sync(&mut self, id: NodeId) -> Result<(), String> {
        for _ in 0..=self.rng.below(8) {
            if !self.sync_one(id)? {
                break;
            }
        }
        Ok(())
    }

    /// The oldest batch that waits for the disk; whether there was any.
    fn sync_one(&mut self, id: NodeId) -> Result<bool, String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(false) };
        let seq = Seq(node.host.newest().0 - node.unwritten.len() as u64 + 1);
        let Some(writes) = node.unwritten.pop_front() else { return Ok(false) };
        writes.iter().try_for_each(|write| node.write(write))?;
        node.host.written(seq);
        let floor = node.snapshot.through;
        self.checks.synced(id, floor, &writes).map_err(in_words)?;
        self.round(id)?;
        Ok(true)
    }

    fn time_out(&mut self, id: NodeId) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let timers: Vec<_> = node.timers.keys().copied().collect();
        if timers.is_empty() {
            return Ok(());
        }
        let timer = *self.rng.pick(&timers);
        node.timers.remove(&timer);
        // Long enough at times that nobody stands by a leader any more.
        let wait = if self.rng.percent(20) { 400 } else { 10 };
        self.pass(Duration::from_millis(wait));
        self.step(id, Input::Timeout(timer))
    }

    fn crash(&mut self, id: NodeId) -> Result<(), String> {
        let Some(node) = self.nodes.remove(&id) else { return Ok(()) };
        self.walked.crashes += 1;
        self.nodes.insert(id, Node::start(id, node.config, node.disk, node.snapshot)?);
        self.step(id, Input::Start)
    }

    /// A node takes a snapshot, and trims its log unless it crashes before.
    fn trim(&mut self, id: NodeId) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let base = node.host.core().status().base;
        let through = Slot(base.0 + self.rng.below(node.applied().0 - base.0 + 1));
        let Some(base) = node.host.core().base_at(through) else { return Ok(()) };
        if base.through > node.snapshot.through {
            node.snapshot = base;
        }
        if self.rng.percent(20) {
            return self.crash(id);
        }
        self.walked.trims += 1;
        self.step(id, Input::Compact { through })
    }

    /// A node's snapshot reaches another one, asked for or not. It is durable there at once; what
    /// the core must be told, if it is news.
    fn receive(&mut self, from: NodeId, to: NodeId) -> Result<Option<Base<P::Stamp>>, String> {
        let Some(base) = self.nodes.get(&from).map(|node| node.snapshot.clone()) else {
            return Ok(None);
        };
        let node = self.nodes.get_mut(&to).filter(|node| base.through > node.applied());
        let Some(node) = node else { return Ok(None) };
        node.snapshot = base.clone();
        // To the checks it has compacted its log: it holds all of this, whatever its log says.
        let compacts = Write::Compact(base.clone());
        self.checks.synced(to, base.through, [&compacts]).map_err(in_words)?;
        Ok(Some(base))
    }

    fn install(&mut self, id: NodeId, base: Base<P::Stamp>) -> Result<(), String> {
        self.walked.installs += 1;
        self.step(id, Input::Installed { base })
    }

    /// Nothing fails from now on: everyone left must soon have applied a command of now.
    fn settle(&mut self) -> Result<(), String> {
        self.cut.clear();
        self.bury();
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        let (old, end) = (self.tickets, self.now + PATIENCE);
        for tick in 0_u32.. {
            if self.now >= end {
                break;
            }
            self.pass(TICK);
            for id in &ids {
                if tick % PAUSE == 0 {
                    self.propose(*id)?;
                }
                self.run_freely(*id)?;
            }
            for (from, to, message) in mem::take(&mut self.wire) {
                self.step(to, Input::Message { from, message })?;
            }
            if self.agree_on_news(old) {
                return Ok(());
            }
        }
        let ends: Vec<_> = self.nodes.iter().map(|(id, node)| (*id, node.applied())).collect();
        Err(format!("nothing fails and nothing new is applied everywhere: {ends:?}"))
    }

    /// Takes nodes away for good, as long as those who are left are enough.
    fn bury(&mut self) {
        let mut ids: Vec<_> = self.nodes.keys().copied().collect();
        self.rng.shuffle(&mut ids);
        for id in ids {
            let left = |node| node != id && self.nodes.contains_key(&node);
            let enough = self.quorum.is_first(left) && self.quorum.is_second(left);
            if enough
                && self.rng.percent(40)
                && let Some(node) = self.nodes.remove(&id)
            {
                self.gone.insert(id, node.disk.log);
            }
        }
    }

    /// Timers that are due, the disk, and the snapshots that others need.
    fn run_freely(&mut self, id: NodeId) -> Result<(), String> {
        let now = self.now;
        while let Some(node) = self.nodes.get_mut(&id)
            && let Some(timer) = node.timers.iter().find(|(_, at)| **at <= now).map(|it| *it.0)
        {
            node.timers.remove(&timer);
            self.step(id, Input::Timeout(timer))?;
        }
        while self.sync_one(id)? {}
        let owes = self.nodes.get_mut(&id).map(|node| mem::take(&mut node.owes));
        for to in owes.unwrap_or_default() {
            if let Some(base) = self.receive(id, to)? {
                self.install(to, base)?;
            }
        }
        Ok(())
    }

    /// Whether all nodes have applied equally far, and a command behind the `old` ones with that.
    fn agree_on_news(&self, old: u64) -> bool {
        let mut ends = self.nodes.values().map(|node| node.applied());
        let Some(first) = ends.next() else { return true };
        let is_new = |value: &Value| match value {
            Value::Command(bytes) => std::str::from_utf8(bytes)
                .is_ok_and(|text| text.parse().is_ok_and(|it: u64| it > old)),
            _ => false,
        };
        ends.all(|end| end == first) && self.chosen.range(..=first).rev().any(|it| is_new(it.1))
    }
}

/// Checks each step of a core while its host is driven.
struct Seen<'a, P: Protocol> {
    id: NodeId,
    now: Instant,
    rng: &'a mut SimRng,
    checks: &'a mut Checks<P>,
    disk: &'a Saved<P>,
    timers: &'a mut BTreeMap<P::Timer, Instant>,
    owes: &'a mut BTreeSet<NodeId>,
    /// Runs reported as chosen, and the round of the core at the time.
    reported: Vec<(u64, Run<P::Stamp>)>,
    /// The first violation.
    found: Option<String>,
}

impl<P: Protocol> Observer<P> for Seen<'_, P> {
    fn on_write(&mut self, core: &P, write: &Write<P>) {
        if let Write::Put(run) = write {
            let Checks { logs, chosen, .. } = &mut *self.checks;
            let checked = logs.check_run((self.id, core.status().ballot.round), run, chosen);
            self.found = self.found.take().or_else(|| checked.err().map(in_words));
        }
    }

    fn on_chosen(&mut self, core: &P, run: &Run<P::Stamp>) {
        self.reported.push((core.status().ballot.round, run.clone()));
    }

    fn on_release(&mut self, _: &P, to: NodeId, message: &P::Message) {
        if self.found.is_none() && !message.holds(self.id, to, self.disk) {
            self.found = Some(format!("{:?} tells {to:?} {}", self.id, message.describe()));
        }
    }
}

impl<P: Protocol> Seen<'_, P> {
    fn outputs(&mut self, outputs: &mut Outputs<P>) {
        for change in outputs.timers.drain(..) {
            match change {
                TimerChange::Set(timer, after) => {
                    self.timers.insert(timer, self.now + self.rng.duration(&after));
                }
                TimerChange::Cancel(timer) => {
                    self.timers.remove(&timer);
                }
            }
        }
        self.owes.extend(outputs.snapshots.drain(..));
        if let Some(fatal) = outputs.fatal {
            self.found.get_or_insert_with(|| format!("{:?}: {fatal}", self.id));
        }
    }
}

fn in_words(found: impl AsRef<Violation>) -> String {
    let Violation { kind, explanation, .. } = found.as_ref();
    format!("{kind}: {explanation}")
}
