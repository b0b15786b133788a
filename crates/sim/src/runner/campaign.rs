//! Totals over many seeds.

use crate::faults::kind::Fault;
use crate::runner::spec::RunReport;
use crate::violation::Violation;
use crate::workload::load::LoadFigures;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// Number of seeds above which every kind of fault must have fired; in fewer seeds, one may be
/// missing by chance.
const LARGE_CAMPAIGN_SEEDS: u64 = 100;
/// Share of seeds that must count for a campaign to be conclusive.
const MIN_COUNTED_SHARE: f64 = 0.5;

/// Totals over many seeds.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// Number of seeds run.
    pub seeds: u64,
    /// Number of seeds that count; see [`RunReport::counted`].
    pub counted: u64,
    /// Simulated time of all seeds.
    pub simulated: Duration,
    /// Simulated time of the seeds that count.
    pub counted_time: Duration,
    /// Longest time from the end of all faults to the next served operation; see
    /// [`RunReport::served_after`].
    pub served_within: Duration,
    /// Acknowledged operations of the seeds that count.
    pub ops: u64,
    /// Counts of each kind of fault while operations were in flight, in seeds that count.
    pub faults: BTreeMap<&'static str, u64>,
    /// Events of all seeds.
    pub events: u64,
    /// Summary of load runs.
    pub load: LoadSummary,
    /// Violations, and their seeds.
    pub violations: Vec<(u64, Violation)>,
}

impl Campaign {
    /// Adds one seed.
    pub fn add(&mut self, report: &RunReport) {
        self.seeds += 1;
        self.simulated += report.simulated;
        if report.counted {
            self.counted += 1;
            self.counted_time += report.simulated;
            self.ops += report.ops;
            for (fault, count) in &report.faults_under_load {
                *self.faults.entry(fault).or_default() += count;
            }
        }
        self.served_within = self.served_within.max(report.served_after.unwrap_or_default());
        self.events += report.events;
        report.load.iter().for_each(|figures| self.load.add(figures));
        if let Some(violation) = &report.violation {
            self.violations.push((report.seed, violation.clone()));
        }
    }

    /// Returns the kinds of faults that never fired while operations were in flight, in seeds that
    /// count.
    #[must_use]
    pub fn missing_faults(&self) -> Vec<&'static str> {
        let names = Fault::ALL.iter().map(|fault| fault.name());
        names.filter(|name| !self.faults.contains_key(name)).collect()
    }

    /// Returns the share of the seeds that count, from 0 to 1.
    #[must_use]
    pub fn counted_share(&self) -> f64 {
        self.counted as f64 / self.seeds.max(1) as f64
    }

    /// Returns whether at least 100 seeds ran: enough for every kind of fault to occur.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.seeds >= LARGE_CAMPAIGN_SEEDS
    }

    /// Returns the reasons why a search without violations is inconclusive. Empty unless the
    /// campaign is [large](Self::is_large); then empty if every kind of fault fired and most seeds
    /// count.
    #[must_use]
    pub fn inconclusive_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_large() && !self.missing_faults().is_empty() {
            reasons.push(format!(
                "these faults never fired under load: {}",
                self.missing_faults().join(", ")
            ));
        }
        if self.is_inconclusive() {
            reasons.push(format!(
                "only {} of {} seeds count: in the others, too few operations completed, or a \
                 family of faults did not occur under load",
                self.counted, self.seeds
            ));
        }
        reasons
    }

    /// Returns whether less than half of the seeds of a large campaign count. More seeds would not
    /// change that.
    pub(crate) fn is_inconclusive(&self) -> bool {
        self.is_large() && self.counted_share() < MIN_COUNTED_SHARE
    }

    /// Returns whether there are no violations, and no
    /// [reasons](Self::inconclusive_reasons) why the campaign is inconclusive.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.inconclusive_reasons().is_empty()
    }

    /// Returns the figures of the campaign, which took `elapsed` of real time.
    #[must_use]
    pub fn summary(&self, protocol: &'static str, elapsed: Duration) -> CampaignSummary {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let fired = |name| self.faults.get(name).copied().unwrap_or(0);
        let names = Fault::ALL.iter().map(|fault| fault.name());
        CampaignSummary {
            protocol,
            seeds: self.seeds,
            counted: self.counted,
            hours: self.counted_time.as_secs_f64() / 3600.0,
            served_within_s: self.served_within.as_secs_f64(),
            ops: self.ops,
            faults: names.map(|name| (name, fired(name))).collect(),
            load: self.load,
            violations: self.violations.len() as u64,
            speed: self.simulated.as_secs_f64() / seconds,
            events_per_s: self.events as f64 / seconds,
        }
    }
}

/// Worst results of all load runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// Number of load runs.
    pub runs: u64,
    /// Longest time from the end of a disturbance until throughput recovered.
    pub recovered: Duration,
    /// Largest number of bytes sent, in thousandths of one copy of each chosen value per other
    /// node.
    pub sent: u64,
    /// Largest number of bytes written, in thousandths of one copy of each chosen value per node.
    pub written: u64,
}

impl LoadSummary {
    fn add(&mut self, figures: &LoadFigures) {
        self.runs += 1;
        self.recovered = self.recovered.max(figures.recovered_after);
        self.sent = self.sent.max(figures.sent);
        self.written = self.written.max(figures.written);
    }
}

impl fmt::Display for LoadSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, recovered, sent, written } = self;
        let times = |thousandths: &u64| *thousandths as f64 / 1000.0;
        write!(
            f,
            "{runs} load runs: throughput recovered within {:.1} s; amplification at most {:.2} \
             in bytes sent, {:.2} in bytes written",
            recovered.as_secs_f64(),
            times(sent),
            times(written)
        )
    }
}

/// Figures of a campaign, for reports: `Display` writes a few lines of text, [`json`](Self::json)
/// one object.
#[derive(Clone, Debug, PartialEq)]
pub struct CampaignSummary {
    /// The protocol's name.
    pub protocol: &'static str,
    /// Number of seeds run.
    pub seeds: u64,
    /// Number of seeds that count.
    pub counted: u64,
    /// Simulated hours of the seeds that count.
    pub hours: f64,
    /// Longest time from the end of all faults to the next served operation, in simulated seconds.
    pub served_within_s: f64,
    /// Acknowledged operations of the seeds that count.
    pub ops: u64,
    /// Counts of each kind of fault while operations were in flight, in seeds that count; 0 for a
    /// kind that never fired.
    pub faults: BTreeMap<&'static str, u64>,
    /// Summary of load runs.
    pub load: LoadSummary,
    /// Number of seeds with a violation.
    pub violations: u64,
    /// Simulated seconds per second of real time.
    pub speed: f64,
    /// Events per second of real time.
    pub events_per_s: f64,
}

impl CampaignSummary {
    /// Returns one line of JSON: an object with the fields of this type.
    #[must_use]
    pub fn json(&self) -> String {
        let mut faults = String::new();
        for (fault, count) in &self.faults {
            let comma = if faults.is_empty() { "" } else { "," };
            write!(faults, r#"{comma}"{fault}":{count}"#).expect("writing to a string cannot fail");
        }
        let Self { protocol, seeds, counted, hours, served_within_s, ops, .. } = self;
        let Self { violations, speed, events_per_s, load, .. } = self;
        let LoadSummary { runs, recovered, sent, written } = *load;
        let recovered = recovered.as_secs_f64();
        let times = |thousandths: u64| thousandths as f64 / 1000.0;
        format!(
            concat!(
                r#"{{"protocol":"{}","seeds":{},"counted":{},"hours":{:.3},"#,
                r#""served_within_s":{:.1},"ops":{},"faults":{{{}}},"load_runs":{},"#,
                r#""recovered_within_s":{:.1},"sent_times":{:.2},"written_times":{:.2},"#,
                r#""violations":{},"speed":{:.0},"events_per_s":{:.0}}}"#
            ),
            protocol,
            seeds,
            counted,
            hours,
            served_within_s,
            ops,
            faults,
            runs,
            recovered,
            times(sent),
            times(written),
            violations,
            speed,
            events_per_s
        )
    }
}

impl fmt::Display for CampaignSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, seeds, counted, hours, ops, .. } = self;
        let percent = 100.0 * *counted as f64 / (*seeds).max(1) as f64;
        write!(
            f,
            "{protocol}: {hours:.2} simulated hours count, from {counted} of {seeds} seeds "
        )?;
        writeln!(f, "({percent:.1} %); {ops} operations acknowledged")?;
        write!(f, "faults under load:")?;
        for (index, (fault, count)) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator} {} {count}", fault.replace('_', " "))?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "after the end of all faults, every cluster served within {:.1} s",
            self.served_within_s
        )?;
        if self.load.runs > 0 {
            writeln!(f, "{}", self.load)?;
        }
        writeln!(
            f,
            "speed: {:.0} simulated seconds and {:.0} events per second",
            self.speed, self.events_per_s
        )?;
        write!(f, "violations: {}", self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seed: u64, fault: &'static str) -> RunReport {
        RunReport {
            seed,
            hash: 1,
            simulated: Duration::from_secs(60),
            ops: 700,
            faults: BTreeMap::from([(fault, 3)]),
            faults_under_load: BTreeMap::from([(fault, 2)]),
            violation: None,
            events: 1000,
            counted: seed.is_multiple_of(2),
            served_after: Some(Duration::from_millis(100 * seed)),
            load: None,
        }
    }

    #[test]
    fn campaign_sums_only_seeds_that_count() {
        let mut campaign = Campaign::default();
        campaign.add(&report(1, "pause"));
        campaign.add(&report(2, "loss"));
        campaign.add(&report(4, "crash"));
        assert_eq!((campaign.seeds, campaign.counted, campaign.ops), (3, 2, 1400));
        assert_eq!((campaign.events, campaign.simulated), (3000, Duration::from_secs(180)));
        assert_eq!(campaign.served_within, Duration::from_millis(400));
        assert_eq!(campaign.faults, BTreeMap::from([("crash", 2), ("loss", 2)]));
        assert!(
            campaign.missing_faults().contains(&"pause")
                && !campaign.missing_faults().contains(&"loss")
        );
    }

    #[test]
    fn json_summary_is_one_line_and_lists_every_kind_of_fault() {
        let mut campaign = Campaign::default();
        campaign.add(&report(2, "loss"));
        let summary = campaign.summary("raft", Duration::from_secs(2));
        let line = summary.json();
        let start = r#"{"protocol":"raft","seeds":1,"counted":1,"hours":0.017,"#;
        assert!(line.starts_with(start), "{line}");
        assert!(line.ends_with(r#""violations":0,"speed":30,"events_per_s":500}"#), "{line}");
        assert!(line.contains(r#""served_within_s":0.2,"ops":700,"faults":{"#), "{line}");
        assert!(line.contains(r#""loss":2"#) && line.contains(r#""crash_all":0"#), "{line}");
        assert_eq!(line.matches("\":").count(), 14 + Fault::ALL.len(), "{line}");
        assert!(summary.to_string().contains("loss 2"), "{summary}");
    }

    #[test]
    fn missing_fault_kind_fails_a_large_campaign() {
        let mut campaign = Campaign::default();
        for _ in 0..LARGE_CAMPAIGN_SEEDS {
            assert!(campaign.passed());
            campaign.add(&report(2, "loss"));
        }
        assert!(!campaign.passed());
        for fault in Fault::ALL {
            campaign.add(&report(2, fault.name()));
        }
        assert_eq!(campaign.inconclusive_reasons(), Vec::<String>::new());
    }

    #[test]
    fn uncounted_seeds_fail_a_large_campaign() {
        let mut campaign = Campaign::default();
        for seed in 0..LARGE_CAMPAIGN_SEEDS {
            for fault in Fault::ALL {
                campaign.add(&report(seed | 1, fault.name()));
            }
        }
        assert_eq!(campaign.inconclusive_reasons().len(), 2);
        assert_eq!(campaign.missing_faults().len(), Fault::ALL.len());
        assert!(!campaign.passed());
    }
}
