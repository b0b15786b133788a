//! Many seeds, added up.

use crate::faults::Fault;
use crate::run::{Options, Report, run_seed};
use crate::violation::Violation;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// With fewer seeds than this a kind of fault may stay silent by chance.
const ENOUGH_SEEDS: u64 = 100;

/// What many seeds did.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// How many seeds were run.
    pub seeds: u64,
    /// How many of them count; see [`Report::counted`].
    pub counted: u64,
    /// The simulated time of all of them.
    pub simulated: Duration,
    /// The simulated time of those that count.
    pub counted_time: Duration,
    /// Acknowledged operations.
    pub ops: u64,
    /// How often each kind of fault fired.
    pub faults: BTreeMap<&'static str, u64>,
    /// Events of all seeds.
    pub events: u64,
    /// What was found, and by which seed.
    pub violations: Vec<(u64, Violation)>,
}

impl Campaign {
    /// Runs seeds one after another. `progress` sees each report and may end the campaign.
    pub fn run<P: Protocol>(
        config: impl Fn(NodeId, &Membership) -> P::Config + Clone + 'static,
        seeds: impl IntoIterator<Item = u64>,
        options: &Options,
        mut progress: impl FnMut(&Report) -> ControlFlow<()>,
    ) -> Self {
        let mut campaign = Self::default();
        for seed in seeds {
            let report = run_seed::<P>(config.clone(), seed, options);
            campaign.add(&report);
            if progress(&report).is_break() {
                break;
            }
        }
        campaign
    }

    /// Adds one seed.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated += report.simulated;
        if report.counted {
            self.counted += 1;
            self.counted_time += report.simulated;
        }
        self.ops += report.ops;
        self.events += report.events;
        for (fault, count) in &report.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        if let Some(violation) = &report.violation {
            self.violations.push((report.seed, violation.clone()));
        }
    }

    /// Adds what another thread's campaign did.
    pub fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.counted += other.counted;
        self.simulated += other.simulated;
        self.counted_time += other.counted_time;
        self.ops += other.ops;
        self.events += other.events;
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.violations.extend(other.violations);
        self.violations.sort_by_key(|(seed, _)| *seed);
    }

    /// The kinds of faults that never fired.
    #[must_use]
    pub fn silent(&self) -> Vec<&'static str> {
        let names = Fault::ALL.iter().map(|fault| fault.name());
        names.filter(|name| !self.faults.contains_key(name)).collect()
    }

    /// Whether nothing was found and nothing was left out: no violation, and every kind of fault
    /// fired, if there were enough seeds (100) to expect it.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && (self.seeds < ENOUGH_SEEDS || self.silent().is_empty())
    }

    /// The figures. `elapsed` is the real time that the campaign took, for whoever has a clock.
    #[must_use]
    pub fn summary(&self, protocol: &'static str, elapsed: Duration) -> Summary {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        Summary {
            protocol,
            seeds: self.seeds,
            hours: self.counted_time.as_secs_f64() / 3600.0,
            ops: self.ops,
            faults: self.faults.clone(),
            violations: self.violations.len() as u64,
            speed: self.simulated.as_secs_f64() / seconds,
            events_per_s: self.events as f64 / seconds,
        }
    }
}

/// A campaign's figures. Prints itself as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The protocol's name.
    pub protocol: &'static str,
    /// How many seeds were run.
    pub seeds: u64,
    /// Simulated hours, of the seeds that count.
    pub hours: f64,
    /// Acknowledged operations.
    pub ops: u64,
    /// How often each kind of fault fired.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many seeds found something.
    pub violations: u64,
    /// Simulated seconds a second.
    pub speed: f64,
    /// Events a second.
    pub events_per_s: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, seeds, hours, ops) = (self.protocol, self.seeds, self.hours, self.ops);
        write!(f, r#"{{"protocol":"{protocol}","seeds":{seeds},"hours":{hours:.3},"ops":{ops},"#)?;
        f.write_str(r#""faults":{"#)?;
        for (index, (fault, count)) in self.faults.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, r#"{comma}"{fault}":{count}"#)?;
        }
        let (violations, speed, events) = (self.violations, self.speed, self.events_per_s);
        write!(f, r#"}},"violations":{violations},"speed":{speed:.0},"events_per_s":{events:.0}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seed: u64, fault: &'static str) -> Report {
        Report {
            seed,
            hash: 1,
            simulated: Duration::from_secs(60),
            ops: 700,
            faults: BTreeMap::from([(fault, 2)]),
            violation: None,
            events: 1000,
            counted: seed.is_multiple_of(2),
        }
    }

    #[test]
    fn campaigns_add_up() {
        let (mut one, mut other) = (Campaign::default(), Campaign::default());
        one.add(&report(1, "loss"));
        other.add(&report(2, "loss"));
        other.add(&report(4, "crash"));
        one.merge(other);
        assert_eq!((one.seeds, one.counted, one.ops), (3, 2, 2100));
        assert_eq!(one.faults, BTreeMap::from([("crash", 2), ("loss", 4)]));
        assert!(one.silent().contains(&"crash_all") && !one.silent().contains(&"loss"));
    }

    #[test]
    fn the_summary_is_one_line_of_json() {
        let mut campaign = Campaign::default();
        campaign.add(&report(2, "loss"));
        let line = campaign.summary("raft", Duration::from_secs(2)).to_string();
        let expected = concat!(
            r#"{"protocol":"raft","seeds":1,"hours":0.017,"ops":700,"faults":{"loss":2},"#,
            r#""violations":0,"speed":30,"events_per_s":500}"#
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_silent_fault_fails_a_long_campaign() {
        let mut campaign = Campaign::default();
        for _ in 0..ENOUGH_SEEDS {
            campaign.add(&report(2, "loss"));
        }
        assert!(!campaign.passed());
        for fault in Fault::ALL {
            campaign.add(&report(2, fault.name()));
        }
        assert!(campaign.passed());
    }
}
