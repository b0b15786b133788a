//! The search, and what it reports.

use super::model::{
    Action, CHOSEN, COMPETED, ClusterModel, Delivery, Explorable, LOST, NodeEvent, SAFE,
};
use super::setup::Setup;
use super::state::{Budget, State};
use crate::rule::RuleViolation;
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use synod_types::{Membership, MembershipError, NodeId};

/// A search of all states that a small cluster of real cores can get into.
///
/// See the [crate](crate) for an example.
pub struct Explore<P: Explorable> {
    cluster: ClusterModel<P>,
    setup_trace: Vec<String>,
    max_states: Option<usize>,
    max_time: Option<Duration>,
    is_depth_first: bool,
}

/// A coverage goal: a search that does not reach it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coverage {
    /// A value was chosen that was not chosen at the start.
    Chosen,
    /// A crash undid a write.
    Lost,
    /// Two ballots wrote to one slot.
    Competed,
}

impl Coverage {
    const ALL: [Self; 3] = [Self::Chosen, Self::Lost, Self::Competed];

    fn name(self) -> &'static str {
        match self {
            Self::Chosen => CHOSEN,
            Self::Lost => LOST,
            Self::Competed => COMPETED,
        }
    }
}

/// Result of a search.
#[derive(Clone, Debug)]
pub struct SearchReport {
    /// Different states.
    pub states: usize,
    /// Steps taken, those to states that were known included.
    pub steps: usize,
    /// The longest sequence of actions looked at.
    pub depth: usize,
    /// Duration of the search.
    pub took: Duration,
    /// True if every state that can be reached within the budget was looked at.
    pub is_exhausted: bool,
    /// Coverage goals that were reached.
    pub seen: BTreeSet<Coverage>,
    /// The violation, with the actions that lead to it.
    pub found: Option<Counterexample>,
}

/// A violation and a way to it of which no single action can be left out.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The violation.
    pub violation: RuleViolation,
    /// The actions, one a line.
    pub trace: Vec<String>,
    /// Number of the last actions that are the search's, and not the setup's.
    pub actions: usize,
}

impl<P: Explorable> Explore<P> {
    /// Nodes 1 to `nodes`, all voters, each with the settings that `config` makes for it. Nothing
    /// happens in it before it is given a [budget](Self::budget).
    ///
    /// # Errors
    /// If there are no nodes.
    pub fn new(
        nodes: u64,
        config: impl Fn(NodeId, Membership) -> P::Config,
    ) -> Result<Self, MembershipError> {
        let members = Membership::new((1..=nodes).map(NodeId), [])?;
        let configs: Vec<_> = members.all().map(|node| config(node, members.clone())).collect();
        let quorum = P::quorum(&configs[0], &members);
        let mut cluster = ClusterModel {
            configs,
            quorum,
            timer_filter: |_| true,
            node_filter: |_, _| true,
            delivery: |_| Delivery::AnyTime,
            clock_step: Duration::ZERO,
            start: None,
            deadline: None,
            is_over: AtomicBool::new(false),
        };
        cluster.start = Some(cluster.initial_state());
        Ok(Self {
            cluster,
            setup_trace: Vec::new(),
            max_states: None,
            max_time: None,
            is_depth_first: false,
        })
    }

    /// Sets how often each kind of event may occur.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        if let Some(start) = &mut self.cluster.start {
            start.left = budget;
        }
        self
    }

    /// Sets which timers may run out; all by default.
    #[must_use]
    pub fn with_timers(mut self, timer_filter: fn(&P::Timer) -> bool) -> Self {
        self.cluster.timer_filter = timer_filter;
        self
    }

    /// Sets which nodes each kind of event may hit; all by default. Where nodes are alike, a search
    /// loses nothing if not every one of them may be the first.
    #[must_use]
    pub fn allowing(mut self, node_filter: fn(NodeEvent, NodeId) -> bool) -> Self {
        self.cluster.node_filter = node_filter;
        self
    }

    /// Sets the delivery of messages; [any time](Delivery::AnyTime) by default. Decides also
    /// about the messages that the nodes sent when they started.
    #[must_use]
    pub fn delivery(mut self, delivery: fn(&P::Message) -> Delivery) -> Self {
        self.cluster.delivery = delivery;
        self.restart()
    }

    /// Sets the step of every clock when a timer runs out; none by default, and never otherwise:
    /// the less the clock moves, the more states are equal. A protocol that stands by a leader for
    /// a time needs a hop that is longer.
    #[must_use]
    pub fn clock_step(mut self, clock_step: Duration) -> Self {
        self.cluster.clock_step = clock_step;
        self
    }

    /// Runs a script before the search.
    ///
    /// # Panics
    /// If the script does.
    #[must_use]
    pub fn after(mut self, script: impl FnOnce(&mut Setup<'_, P>)) -> Self {
        let Some(mut start) = self.cluster.start.take() else { return self };
        let budget = std::mem::take(&mut start.left);
        let trace = std::mem::take(&mut self.setup_trace);
        let mut stage = Setup { cluster: &self.cluster, state: start, trace };
        script(&mut stage);
        let Setup { state, trace, .. } = stage;
        self.setup_trace = trace;
        self.cluster.start = Some(State { left: budget, ..state });
        self
    }

    /// Stops after about this many steps.
    #[must_use]
    pub fn max_steps(mut self, steps: usize) -> Self {
        self.max_states = Some(steps);
        self
    }

    /// Stops after this long.
    #[must_use]
    pub fn max_time(mut self, time: Duration) -> Self {
        self.max_time = Some(time);
        self
    }

    /// Goes down each way to its end before the next one. A state that was looked at then costs some
    /// 16 bytes instead of a kilobyte, so that a search can be a hundred times larger; the trace of
    /// a violation may be longer, and when cut off, a search has seen all of few ways instead of
    /// the beginning of all ways.
    #[must_use]
    pub fn depth_first(mut self) -> Self {
        self.is_depth_first = true;
        self
    }

    /// Looks at all states, those that fewer actions lead to first, unless told to go
    /// [depth first](Self::depth_first), so that a violation comes with a short trace. Ends with the
    /// first one.
    #[must_use]
    pub fn run(self) -> SearchReport {
        let Self { mut cluster, setup_trace, max_states, max_time, is_depth_first } = self;
        let began = Instant::now();
        cluster.deadline = max_time.map(|most| began + most);
        let checker = cluster.checker().finish_when(HasDiscoveries::AnyFailures);
        let checker = max_states.iter().fold(checker, |it, most| it.target_state_count(*most));
        let mut report = if is_depth_first {
            SearchReport::of(&checker.spawn_dfs().join(), &setup_trace)
        } else {
            SearchReport::of(&checker.spawn_bfs().join(), &setup_trace)
        };
        report.took = began.elapsed();
        let is_cut = max_states.is_some_and(|most| report.steps >= most)
            || max_time.is_some_and(|most| report.took >= most);
        report.is_exhausted = !is_cut && report.found.is_none();
        report
    }

    /// The founded cluster once more, under the settings of now.
    fn restart(mut self) -> Self {
        let left = self.cluster.start.take().map(|start| start.left).unwrap_or_default();
        self.cluster.start = Some(State { left, ..self.cluster.initial_state() });
        self.setup_trace.clear();
        self
    }
}

impl SearchReport {
    /// Reports a search that has ended, as if it had been complete and had taken no time.
    fn of<P: Explorable>(search: &impl Checker<ClusterModel<P>>, setup_trace: &[String]) -> Self {
        search.model().is_over.store(true, Ordering::Relaxed);
        let discoveries = search.discoveries();
        let found = discoveries.get(SAFE).and_then(|path| {
            let actions = path.clone().into_actions();
            let (actions, violation) = search.model().shorten(actions)?;
            let told = actions.iter().map(Action::to_string);
            let trace = setup_trace.iter().cloned().chain(told).collect();
            Some(Counterexample { violation, actions: actions.len(), trace })
        });
        let seen = |coverage: &Coverage| discoveries.contains_key(coverage.name());
        Self {
            states: search.unique_state_count(),
            steps: search.state_count(),
            depth: search.max_depth().saturating_sub(1),
            took: Duration::ZERO,
            is_exhausted: true,
            seen: Coverage::ALL.into_iter().filter(seen).collect(),
            found,
        }
    }

    /// Fails if a rule was violated, with the trace, or if the search has not reached the goals that it
    /// had to reach: then it proves nothing.
    ///
    /// # Panics
    /// In both cases.
    pub fn assert_safe(&self, wanted: &[Coverage]) {
        if let Some(found) = &self.found {
            panic!("{found}");
        }
        for coverage in wanted {
            let name = coverage.name();
            assert!(
                self.seen.contains(coverage),
                "never seen: {name}, among {} states",
                self.states
            );
        }
    }
}

impl fmt::Display for SearchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (&self.found, self.is_exhausted) {
            (Some(_), _) => "violated",
            (None, true) => "all of them",
            (None, false) => "cut off",
        };
        let (states, steps, depth) = (self.states, self.steps, self.depth);
        let took = self.took.as_secs_f64();
        write!(f, "{states} states, {steps} steps, depth {depth}, {took:.1} s, {end}")
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prepared = self.trace.len() - self.actions;
        let mut text = String::new();
        if prepared > 0 {
            writeln!(text, "prepared:")?;
        }
        for (number, line) in self.trace.iter().enumerate() {
            if number == prepared {
                writeln!(text, "then:")?;
            }
            writeln!(text, "{:4}. {line}", number + 1)?;
        }
        write!(
            f,
            "a counterexample of {} actions\n{text}violated: {}",
            self.actions, self.violation
        )
    }
}
