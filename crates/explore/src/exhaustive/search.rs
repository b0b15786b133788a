//! Exhaustive search, and its report.

use super::model::{
    Action, CHOSEN, COMPETING_WRITES, ClusterModel, Delivery, Explorable, LOST_WRITE, NodeEvent,
    READ, SAFE,
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

/// Search of all reachable states of a small cluster of real cores.
///
/// See the [crate](crate) for an example.
pub struct Explore<P: Explorable> {
    cluster: ClusterModel<P>,
    setup_trace: Vec<String>,
    step_limit: Option<usize>,
    max_time: Option<Duration>,
    is_depth_first: bool,
}

/// Coverage goal: an event that some execution of a search must contain. Without it the search may have tested
/// too little to find a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coverage {
    /// A value was chosen during the search.
    Chosen,
    /// A crash undid a write.
    LostWrite,
    /// Two ballots wrote to one slot.
    CompetingWrites,
    /// A core answered a read with a slot.
    Read,
}

impl Coverage {
    const ALL: [Self; 4] = [Self::Chosen, Self::LostWrite, Self::CompetingWrites, Self::Read];

    fn name(self) -> &'static str {
        match self {
            Self::Chosen => CHOSEN,
            Self::LostWrite => LOST_WRITE,
            Self::CompetingWrites => COMPETING_WRITES,
            Self::Read => READ,
        }
    }
}

/// Result of a search.
#[derive(Clone, Debug)]
pub struct SearchReport {
    /// Number of distinct states.
    pub states: usize,
    /// Number of steps, including those to states that were visited before.
    pub steps: usize,
    /// Maximum number of actions on the path to a state.
    pub depth: usize,
    /// Duration of the search.
    pub elapsed: Duration,
    /// True if every state that is reachable within the budget was visited.
    pub is_exhausted: bool,
    /// Coverage goals that were reached.
    pub reached: BTreeSet<Coverage>,
    /// Violation, with the actions that lead to it.
    pub counterexample: Option<Counterexample>,
}

/// Violation with a minimal trace: no single action can be removed.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// Violation.
    pub violation: RuleViolation,
    /// Actions, one per line.
    pub trace: Vec<String>,
    /// Number of actions of the search, which are at the end of the trace. Those before them are of the setup.
    pub actions: usize,
}

impl<P: Explorable> Explore<P> {
    /// Creates a search of nodes 1 to `nodes`, all voters, with the settings that `config` returns. The
    /// [budget](Self::budget) is empty.
    ///
    /// # Errors
    /// If `nodes` is 0.
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
            step_limit: None,
            max_time: None,
            is_depth_first: false,
        })
    }

    /// Sets the maximum number of events of each kind.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        if let Some(start) = &mut self.cluster.start {
            start.budget = budget;
        }
        self
    }

    /// Sets the timers that may fire. Default: all.
    #[must_use]
    pub fn with_timers(mut self, timer_filter: fn(&P::Timer) -> bool) -> Self {
        self.cluster.timer_filter = timer_filter;
        self
    }

    /// Sets the nodes at which each kind of event may occur. Default: all. If nodes are symmetric, it is enough
    /// to permit the event at one of them.
    #[must_use]
    pub fn with_events(mut self, node_filter: fn(NodeEvent, NodeId) -> bool) -> Self {
        self.cluster.node_filter = node_filter;
        self
    }

    /// Sets the delivery of messages, including those that nodes send when they start. Default: [any
    /// time](Delivery::AnyTime). Restarts the cluster, which discards an earlier [setup](Self::with_setup).
    #[must_use]
    pub fn delivery(mut self, delivery: fn(&P::Message) -> Delivery) -> Self {
        self.cluster.delivery = delivery;
        self.restart()
    }

    /// Sets the time by which all clocks advance when a timer fires, the only event that advances them.
    /// Default: zero, because more states are equal if clocks stand still. If nodes
    /// reject candidates until they have received nothing from their leader for some time, as Raft's do with
    /// check-quorum, the step must be longer than that time.
    #[must_use]
    pub fn clock_step(mut self, clock_step: Duration) -> Self {
        self.cluster.clock_step = clock_step;
        self
    }

    /// Runs a script that leads the cluster to the state where the search starts.
    ///
    /// # Panics
    /// If the script panics.
    #[must_use]
    pub fn with_setup(mut self, script: impl FnOnce(&mut Setup<'_, P>)) -> Self {
        let Some(mut start) = self.cluster.start.take() else { return self };
        let budget = std::mem::take(&mut start.budget);
        let trace = std::mem::take(&mut self.setup_trace);
        let mut setup = Setup { cluster: &self.cluster, state: start, trace };
        script(&mut setup);
        let Setup { state, trace, .. } = setup;
        self.setup_trace = trace;
        self.cluster.start = Some(State { budget, ..state });
        self
    }

    /// Stops the search after about this many steps.
    #[must_use]
    pub fn max_steps(mut self, steps: usize) -> Self {
        self.step_limit = Some(steps);
        self
    }

    /// Stops the search after this time.
    #[must_use]
    pub fn max_time(mut self, time: Duration) -> Self {
        self.max_time = Some(time);
        self
    }

    /// Searches depth first. A visited state then takes about 16 bytes instead of a kilobyte, so a search can
    /// be a hundred times larger. The trace of a violation may be longer. If the search reaches a
    /// limit, it has covered few executions to their end, and not the first steps of all executions.
    #[must_use]
    pub fn depth_first(mut self) -> Self {
        self.is_depth_first = true;
        self
    }

    /// Visits all states until the first violation: breadth first, so that its trace is short, unless
    /// [`depth_first`](Self::depth_first) is set.
    #[must_use]
    pub fn run(self) -> SearchReport {
        let Self { mut cluster, setup_trace, step_limit, max_time, is_depth_first } = self;
        let began = Instant::now();
        cluster.deadline = max_time.map(|limit| began + limit);
        let checker = cluster.checker().finish_when(HasDiscoveries::AnyFailures);
        let checker = step_limit.iter().fold(checker, |it, limit| it.target_state_count(*limit));
        let mut report = if is_depth_first {
            SearchReport::from_search(&checker.spawn_dfs().join(), &setup_trace)
        } else {
            SearchReport::from_search(&checker.spawn_bfs().join(), &setup_trace)
        };
        report.elapsed = began.elapsed();
        let is_limited = step_limit.is_some_and(|limit| report.steps >= limit)
            || max_time.is_some_and(|limit| report.elapsed >= limit);
        report.is_exhausted = !is_limited && report.counterexample.is_none();
        report
    }

    /// Recreates the initial state with the present settings, and discards the setup.
    fn restart(mut self) -> Self {
        let budget = self.cluster.start.take().map(|start| start.budget).unwrap_or_default();
        self.cluster.start = Some(State { budget, ..self.cluster.initial_state() });
        self.setup_trace.clear();
        self
    }
}

impl SearchReport {
    /// Reports a search that has ended. The caller sets `elapsed` and `is_exhausted`.
    fn from_search<P: Explorable>(
        search: &impl Checker<ClusterModel<P>>,
        setup_trace: &[String],
    ) -> Self {
        search.model().is_over.store(true, Ordering::Relaxed);
        let discoveries = search.discoveries();
        let counterexample = discoveries.get(SAFE).and_then(|path| {
            let actions = path.clone().into_actions();
            let (actions, violation) = search.model().minimize(actions)?;
            let lines = actions.iter().map(Action::to_string);
            let trace = setup_trace.iter().cloned().chain(lines).collect();
            Some(Counterexample { violation, actions: actions.len(), trace })
        });
        let is_reached = |coverage: &Coverage| discoveries.contains_key(coverage.name());
        Self {
            states: search.unique_state_count(),
            steps: search.state_count(),
            depth: search.max_depth().saturating_sub(1),
            elapsed: Duration::ZERO,
            is_exhausted: true,
            reached: Coverage::ALL.into_iter().filter(is_reached).collect(),
            counterexample,
        }
    }

    /// Asserts that no rule was violated, and that the search reached the `wanted` coverage goals.
    ///
    /// # Panics
    /// If a rule was violated, with the trace; or if a goal was not reached.
    pub fn assert_safe(&self, wanted: &[Coverage]) {
        if let Some(found) = &self.counterexample {
            panic!("{found}");
        }
        for coverage in wanted {
            let name = coverage.name();
            assert!(
                self.reached.contains(coverage),
                "coverage goal not reached: {name}, in {} states",
                self.states
            );
        }
    }
}

impl fmt::Display for SearchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (&self.counterexample, self.is_exhausted) {
            (Some(_), _) => "violated",
            (None, true) => "exhausted",
            (None, false) => "limit reached",
        };
        let (states, steps, depth) = (self.states, self.steps, self.depth);
        let took = self.elapsed.as_secs_f64();
        write!(f, "{states} states, {steps} steps, depth {depth}, {took:.1} s, {end}")
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setup = self.trace.len() - self.actions;
        let mut text = String::new();
        if setup > 0 {
            writeln!(text, "setup:")?;
        }
        for (number, line) in self.trace.iter().enumerate() {
            if number == setup {
                writeln!(text, "search:")?;
            }
            writeln!(text, "{:4}. {line}", number + 1)?;
        }
        write!(f, "counterexample of {} actions\n{text}violated: {}", self.actions, self.violation)
    }
}
