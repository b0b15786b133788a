//! Comparison of protocols as one table.

use super::profile::{ClientLoad, Configure, Effort, Profile, ProposerHome};
use super::steady::{SteadyState, fail_over, steady};
use super::times::Times;
use crate::violation::Violation;
use std::fmt;
use std::time::Duration;
use synod_consensus::Protocol;

/// Sizes of the compared clusters.
const NODES: [u64; 2] = [3, 5];
/// Numbers of proposers, each with the node of the first one.
const PROPOSERS: [(usize, ProposerHome); 4] = [
    (1, ProposerHome::Leader),
    (1, ProposerHome::Elsewhere),
    (8, ProposerHome::Leader),
    (64, ProposerHome::Leader),
];
/// Seed of measurements that run once.
const SEED: u64 = 1;

const HEADER: &str = "\
| protocol | nodes | proposers | messages | bytes | syncs | message delays | LAN | WAN \
| LAN, leader dies | WAN, leader dies |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

const LEGEND: &str = "\
Measured in the simulator. Each proposer has one pending write, which is acknowledged when its node
has applied it, and submits the next one at once: so commands share messages as well as possible,
and competing nodes synchronise and collide less than in practice. Proposers are assigned to the
nodes round-robin, from the leader on; without a leader, from the first node on.
- messages, bytes, syncs: of all nodes together for each acknowledged write, on the LAN. Forwarding
  and heartbeats count; transport overhead and the state's own store do not.
- message delays: from submission to acknowledgement, where a message takes 1 and a sync 0; median /
  99th percentile.";

/// Measurements of several protocols. `Display` writes a Markdown table with a legend.
#[derive(Clone, Debug)]
pub struct Table {
    effort: Effort,
    rows: Vec<Row>,
}

/// Measurements of one protocol under one load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The protocol's name.
    pub protocol: &'static str,
    /// Numbers of nodes and of proposers.
    pub load: ClientLoad,
    /// Steady state with [`Profile::DELAYS`].
    pub delays: SteadyState,
    /// Steady state with [`Profile::LAN`].
    pub lan: SteadyState,
    /// Steady state with [`Profile::WAN`].
    pub wan: SteadyState,
    /// Time to recovery with [`Profile::LAN`].
    pub lan_fail_over: Times,
    /// Time to recovery with [`Profile::WAN`].
    pub wan_fail_over: Times,
}

impl Table {
    /// Returns an empty table.
    #[must_use]
    pub fn new(effort: Effort) -> Self {
        Self { effort, rows: Vec::new() }
    }

    /// Measures a protocol under every load: 3 and 5 nodes with 1, 8 and 64 proposers.
    ///
    /// # Errors
    /// The first violation.
    pub fn add<P: Protocol>(
        &mut self,
        config: impl Configure<P> + 'static,
    ) -> Result<(), Violation> {
        for nodes in NODES {
            for (proposers, first) in PROPOSERS {
                let load = ClientLoad { nodes, proposers, first };
                self.rows.push(Row::measure::<P>(config, load, &self.effort)?);
            }
        }
        Ok(())
    }

    /// Returns the rows so far.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Row {
    /// Measures a protocol under one load.
    ///
    /// # Errors
    /// The first violation.
    ///
    /// # Panics
    /// If the load has fewer than three nodes.
    pub fn measure<P: Protocol>(
        config: impl Configure<P> + 'static,
        load: ClientLoad,
        effort: &Effort,
    ) -> Result<Self, Violation> {
        let steady = |profile| steady::<P>(config, profile, load, effort, SEED);
        let fail_over = |profile| fail_over::<P>(config, profile, load, effort);
        Ok(Self {
            protocol: P::NAME,
            load,
            delays: steady(&Profile::DELAYS)?,
            lan: steady(&Profile::LAN)?,
            wan: steady(&Profile::WAN)?,
            lan_fail_over: fail_over(&Profile::LAN)?,
            wan_fail_over: fail_over(&Profile::WAN)?,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, load, lan, .. } = self;
        let commands = lan.latencies.len() as u64;
        let each = |count: u64| Hundredths::ratio(count, commands);
        let (frames, bytes, syncs) = (lan.traffic.frames, lan.traffic.bytes, lan.traffic.syncs);
        write!(f, "| {protocol} | {} | {load} | {}", load.nodes, each(frames))?;
        let bytes = bytes.checked_div(commands);
        write!(f, " | {} | {}", Known(bytes), each(syncs))?;
        let unit = Profile::DELAYS.one_way();
        write!(f, " | {}", Percentiles::steady(&self.delays, unit))?;
        for steady in [lan, &self.wan] {
            write!(f, " | {}", Percentiles::steady(steady, Duration::from_millis(1)))?;
        }
        for fail_over in [&self.lan_fail_over, &self.wan_fail_over] {
            let whole = |time: Option<Duration>| Known(time.map(|time| time.as_millis()));
            write!(f, " | {} / {}", whole(fail_over.percentile(50)), whole(fail_over.worst()))?;
        }
        write!(f, " |")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f, "\n{LEGEND}")?;
        for Profile { name, delay, sync, election, .. } in [Profile::LAN, Profile::WAN] {
            writeln!(
                f,
                "- {name}: the same in milliseconds; {delay:?} one way, {sync:?} a sync, election \
                 timeouts {election:?}."
            )?;
        }
        let (bytes, seeds) = (super::profile::value().len(), self.effort.seeds);
        writeln!(
            f,
            "- leader dies: milliseconds from its crash, under this load, until the \
             acknowledgement of a write\n  that was submitted after it; median / worst of {seeds} seeds. \
             A write has {bytes} bytes."
        )
    }
}

/// Median and 99th percentile, in the caller's unit.
struct Percentiles(Option<Hundredths>, Option<Hundredths>);

impl Percentiles {
    fn steady(steady: &SteadyState, unit: Duration) -> Self {
        let of = |percent| {
            let time = steady.latencies.percentile(percent)?;
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            Some(Hundredths::ratio(nanos(time), nanos(unit)))
        };
        Self(of(50), of(99))
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", Known(self.0), Known(self.1))
    }
}

/// Number with two decimals, rounded; no floating point, so that tables are equal everywhere.
#[derive(Clone, Copy)]
struct Hundredths(Option<u128>);

impl Hundredths {
    fn ratio(count: u64, of: u64) -> Self {
        let (count, of) = (u128::from(count), u128::from(of));
        Self((count * 100 + of / 2).checked_div(of))
    }
}

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(all) => write!(f, "{}.{:02}", all / 100, all % 100),
            None => write!(f, "-"),
        }
    }
}

/// Number, or `-` if there is none.
struct Known<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(number) => number.fmt(f),
            None => write!(f, "-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Traffic;

    #[test]
    fn ratios_are_rounded_and_a_zero_divisor_is_allowed() {
        assert_eq!(Hundredths::ratio(2, 3).to_string(), "0.67");
        assert_eq!(Hundredths::ratio(1999, 1000).to_string(), "2.00");
        assert_eq!(Hundredths::ratio(7, 0).to_string(), "-");
    }

    #[test]
    fn row_has_a_cell_for_every_column() {
        let times = Times::new(vec![Duration::from_micros(1500)]);
        let traffic = Traffic { frames: 4, bytes: 700, syncs: 3, ..Traffic::default() };
        let steady = SteadyState { traffic, latencies: times.clone(), failed: 0 };
        let row = Row {
            protocol: "any",
            load: ClientLoad { nodes: 3, proposers: 1, first: ProposerHome::Leader },
            delays: steady.clone(),
            lan: steady.clone(),
            wan: SteadyState { latencies: Times::default(), ..steady },
            lan_fail_over: times.clone(),
            wan_fail_over: times,
        };
        assert_eq!(
            row.to_string(),
            "| any | 3 | 1, at the leader | 4.00 | 700 | 3.00 | 1.50 / 1.50 | 1.50 / 1.50 \
             | - / - | 1 / 1 | 1 / 1 |"
        );
        let bars = |line: &str| line.matches('|').count();
        assert_eq!(HEADER.lines().map(bars).collect::<Vec<_>>(), [bars(&row.to_string()); 2]);
    }
}
