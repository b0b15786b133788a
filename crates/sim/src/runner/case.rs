//! Text form of a failing run, from which it is replayed.

use crate::faults::schedule::Schedule;
use crate::runner::spec::{RunKind, RunOptions, RunOutcome, RunSpec};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Run that found a violation: a seed, options, faults, and the kind of violation.
///
/// `Display` writes a text, `FromStr` parses it: settings, one per line, an empty line, and the
/// [schedule](Schedule). Lines that begin with `#` are comments.
///
/// ```text
/// protocol raft
/// seed 17
/// fault_ms 13122
/// recovery_ms 0
/// liveness_timeout_ms 10000
/// violation two leaders
///
/// at 12.500000000 crash 2 keeps 0 all drops_in_flight down 0.500000000
/// ```
///
/// Settings are named after the [options](RunOptions); times are in milliseconds. `nodes` and `ops`
/// are present if the seed does not choose them, `history_only` and `kind` if they differ from
/// their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The protocol's name.
    pub protocol: String,
    /// The seed.
    pub seed: u64,
    /// Options of the run. The text rounds their times down to milliseconds.
    pub options: RunOptions,
    /// Kind of the violation that the run found, as text.
    pub violation: String,
    /// The faults.
    pub schedule: Schedule,
}

impl Case {
    /// Returns the specification of this run.
    #[must_use]
    pub fn spec(&self) -> RunSpec<'_> {
        let schedule = Some(&self.schedule);
        RunSpec { schedule, ..RunSpec::of_seed(self.seed, &self.options) }
    }

    /// Returns whether a run reproduced the violation of this case.
    #[must_use]
    pub fn is_reproduced_by(&self, outcome: &RunOutcome) -> bool {
        let found = outcome.report.violation.as_ref();
        found.is_some_and(|violation| violation.kind.to_string() == self.violation)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunOptions {
            nodes,
            fault_time,
            recovery_time,
            liveness_timeout,
            ops,
            history_only,
            kind,
        } = &self.options;
        writeln!(f, "protocol {}\nseed {}", self.protocol, self.seed)?;
        nodes.iter().try_for_each(|nodes| writeln!(f, "nodes {nodes}"))?;
        for (name, time) in [
            ("fault_ms", fault_time),
            ("recovery_ms", recovery_time),
            ("liveness_timeout_ms", liveness_timeout),
        ] {
            writeln!(f, "{name} {}", time.as_millis())?;
        }
        ops.iter().try_for_each(|ops| writeln!(f, "ops {ops}"))?;
        if *history_only {
            writeln!(f, "history_only true")?;
        }
        match kind {
            RunKind::Drawn => {}
            RunKind::Faults => writeln!(f, "kind faults")?,
            RunKind::Load => writeln!(f, "kind load")?,
        }
        write!(f, "violation {}\n\n{}", self.violation, self.schedule)
    }
}

/// Error of parsing the text of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseError {
    /// Number of the invalid line, from 1; 0 if a required line is missing.
    pub line: usize,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.reason),
            line => write!(f, "line {line}: {}", self.reason),
        }
    }
}

impl std::error::Error for CaseError {}

impl FromStr for Case {
    type Err = CaseError;

    fn from_str(text: &str) -> Result<Self, CaseError> {
        let mut lines = (1..).zip(text.lines().map(str::trim)).peekable();
        let (mut protocol, mut seed, mut violation) = (None, None, None);
        let mut options = RunOptions::default();
        let mut head = 0;
        while let Some((line, text)) = lines.next_if(|(_, text)| !text.is_empty()) {
            head = line;
            if text.starts_with('#') {
                continue;
            }
            let invalid = || CaseError { line, reason: format!("{text:?}: invalid setting") };
            let (name, value) = text.split_once(' ').ok_or_else(invalid)?;
            let number = || value.parse::<u64>().map_err(|_| invalid());
            match name {
                "protocol" => protocol = Some(value.to_owned()),
                "seed" => seed = Some(number()?),
                "nodes" => options.nodes = Some(number()?),
                "fault_ms" => options.fault_time = Duration::from_millis(number()?),
                "recovery_ms" => options.recovery_time = Duration::from_millis(number()?),
                "liveness_timeout_ms" => {
                    options.liveness_timeout = Duration::from_millis(number()?)
                }
                "ops" => options.ops = Some(number()?),
                "kind" if value == "faults" => options.kind = RunKind::Faults,
                "kind" if value == "load" => options.kind = RunKind::Load,
                "history_only" if value == "true" => options.history_only = true,
                "violation" => violation = Some(value.to_owned()),
                _ => return Err(invalid()),
            }
        }
        let rest: Vec<_> = lines.map(|(_, text)| text).collect();
        let schedule = rest
            .join("\n")
            .parse::<Schedule>()
            .map_err(|error| CaseError { line: head + error.line, reason: error.reason })?;
        let missing = |field: &str| CaseError {
            line: 0,
            reason: format!("the line for the {field} is missing"),
        };
        Ok(Self {
            protocol: protocol.ok_or_else(|| missing("protocol"))?,
            seed: seed.ok_or_else(|| missing("seed"))?,
            violation: violation.ok_or_else(|| missing("violation"))?,
            options,
            schedule,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
protocol raft
seed 17
nodes 5
fault_ms 13122
recovery_ms 0
liveness_timeout_ms 10000
ops 64
history_only true
violation two leaders

at 12.500000000 crash 2 keeps 0 all drops_in_flight down 0.500000000
message 1>3#57 loss
";

    #[test]
    fn printed_text_parses_to_the_same_value() {
        let case: Case = TEXT.parse().unwrap();
        assert_eq!((case.seed, case.options.ops, case.schedule.len()), (17, Some(64), 2));
        assert_eq!(case.options.fault_time, Duration::from_millis(13_122));
        assert!(case.options.history_only);
        assert_eq!(case.to_string(), TEXT);
        let plain = ["nodes 5\n", "ops 64\n", "history_only true\n"]
            .iter()
            .fold(TEXT.to_owned(), |text, line| text.replace(line, ""));
        let commented = format!("# A transcript.\n{plain}\n# The end.\n");
        assert_eq!(commented.parse::<Case>().unwrap().to_string(), plain);
    }

    #[test]
    fn parse_error_names_the_invalid_line() {
        for (good, bad, line) in [
            ("seed 17", "seed x", 2),
            ("seed 17", "seed", 2),
            ("nodes 5", "hosts 5", 3),
            ("history_only true", "history_only maybe", 8),
            ("loss", "theft", 12),
            ("seed 17\n", "", 0),
            ("protocol raft\n", "", 0),
            ("violation two leaders\n", "", 0),
        ] {
            let error = TEXT.replace(good, bad).parse::<Case>().unwrap_err();
            assert_eq!(error.line, line, "{bad:?}: {error}");
        }
    }
}
