//! Text form of a schedule: one fault per line.
//!
//! ```text
//! at 12.345678901 isolate 1>2,1>3,2>1,3>1 for 2.300000000
//! at 12.500000000 crash 2 keeps 0 all drops_in_flight down 0.500000000
//! message 1>3#57 delay_spike 0.120000000
//! ```
//!
//! Times are in seconds, nodes are numbered from 1, and `1>3#57` is the 58th message from node 1 to
//! node 3. A crash keeps the given numbers of unsynced batches of the log and of the state. It also
//! loses the node's messages in flight if `drops_in_flight` is present. The node restarts after the
//! time that follows `down`.

use super::{
    CrashSpec, FaultEffect, MessageFault, NodeFault, Schedule, ScheduleEntry, ScheduleError,
    ScheduledFault,
};
use crate::cluster::network::links::Link;
use crate::faults::kind::Fault;
use std::fmt;
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;
use synod_types::Instant;

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries().iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|(line, text)| text.parse().map_err(|error| ScheduleError { line, ..error }))
            .collect()
    }
}

impl fmt::Display for ScheduleEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ScheduledFault::At(at, node_fault) => {
                let since_start = at.since(Instant::ZERO);
                write!(f, "at {} {} ", Seconds(since_start), node_fault.fault.name())?;
                write!(f, "{}", node_fault.effect)
            }
            ScheduledFault::Message { link, number, message_fault } => {
                write!(f, "message {link}#{number} {}", message_fault.fault().name())?;
                match message_fault {
                    MessageFault::Lost | MessageFault::Reordered => Ok(()),
                    MessageFault::Duplicated(time)
                    | MessageFault::Delayed(time)
                    | MessageFault::Replayed(time) => {
                        write!(f, " {}", Seconds(*time))
                    }
                    MessageFault::Corrupted(bit) => write!(f, " {bit}"),
                }
            }
        }
    }
}

impl fmt::Display for FaultEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Links(links, time) => {
                for (index, link) in links.iter().enumerate() {
                    write!(f, "{}{link}", if index == 0 { "" } else { "," })?;
                }
                write!(f, " for {}", Seconds(*time))
            }
            Self::Crash(crashes) => {
                for (index, crash) in crashes.iter().enumerate() {
                    write!(f, "{}{crash}", if index == 0 { "" } else { " and " })?;
                }
                Ok(())
            }
            Self::Stall(node, time) => write!(f, "{} for {}", node + 1, Seconds(*time)),
            Self::CorruptDisk(crash, seed) => write!(f, "{crash} seed {seed}"),
            Self::FailDisk(crash, time) => write!(f, "{crash} for {}", Seconds(*time)),
            Self::ClockShift(node, by) => write!(f, "{} by {}", node + 1, Seconds(*by)),
            Self::ClockDrift(node, drift_ppm, time) => {
                write!(f, "{} ppm {drift_ppm} for {}", node + 1, Seconds(*time))
            }
        }
    }
}

impl fmt::Display for CrashSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keep, keep_state) = (Keep(self.keep), Keep(self.keep_state));
        let drops_in_flight = if self.drops_in_flight { "drops_in_flight " } else { "" };
        let (node, down) = (self.node + 1, Seconds(self.down));
        write!(f, "{node} keeps {keep} {keep_state} {drops_in_flight}down {down}")
    }
}

/// Duration in seconds, to the nanosecond.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0.as_secs(), self.0.subsec_nanos())
    }
}

/// Text numbers nodes from 1.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.from + 1, self.to + 1)
    }
}

struct Keep(Option<usize>);

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("all"),
            Some(count) => write!(f, "{count}"),
        }
    }
}

impl FromStr for ScheduleEntry {
    type Err = ScheduleError;

    fn from_str(line: &str) -> Result<Self, ScheduleError> {
        let mut words = Words { line, rest: line.split_whitespace() };
        let scheduled = match words.next()? {
            "at" => {
                let at = Instant::ZERO + words.seconds()?;
                let fault = words.fault()?;
                ScheduledFault::At(at, NodeFault { fault, effect: words.effect(fault)? })
            }
            "message" => {
                let word = words.next()?;
                let (link, number) = word.split_once('#').ok_or_else(|| words.unexpected(word))?;
                let (link, number) = (words.link(link)?, words.number(number)?);
                ScheduledFault::Message { link, number, message_fault: words.message_fault()? }
            }
            other => return Err(words.unexpected(other)),
        };
        match words.rest.next() {
            None => Ok(Self(scheduled)),
            Some(more) => Err(words.unexpected(more)),
        }
    }
}

/// Unread words of a line.
struct Words<'a> {
    line: &'a str,
    rest: SplitWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn unexpected(&self, word: &str) -> ScheduleError {
        ScheduleError { line: 0, reason: format!("unexpected {word:?} in {:?}", self.line) }
    }

    fn next(&mut self) -> Result<&'a str, ScheduleError> {
        let ends =
            || ScheduleError { line: 0, reason: format!("unexpected end of {:?}", self.line) };
        self.rest.next().ok_or_else(ends)
    }

    fn expect(&mut self, word: &str) -> Result<(), ScheduleError> {
        let found = self.next()?;
        if found == word { Ok(()) } else { Err(self.unexpected(found)) }
    }

    fn number<T: FromStr>(&self, word: &str) -> Result<T, ScheduleError> {
        word.parse().map_err(|_| self.unexpected(word))
    }

    /// Parses a node, and numbers it from 0.
    fn node(&self, word: &str) -> Result<usize, ScheduleError> {
        self.number::<usize>(word)?.checked_sub(1).ok_or_else(|| self.unexpected(word))
    }

    fn seconds(&mut self) -> Result<Duration, ScheduleError> {
        let word = self.next()?;
        let (whole, part) = word.split_once('.').unwrap_or((word, "0"));
        if part.is_empty() || part.len() > 9 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(self.unexpected(word));
        }
        let nanos: u32 = self.number(&format!("{part:0<9}"))?;
        Ok(Duration::new(self.number(whole)?, nanos))
    }

    fn fault(&mut self) -> Result<Fault, ScheduleError> {
        let word = self.next()?;
        let mut kinds = Fault::ALL.iter().copied();
        kinds.find(|fault| fault.name() == word).ok_or_else(|| self.unexpected(word))
    }

    fn link(&self, word: &str) -> Result<Link, ScheduleError> {
        let (from, to) = word.split_once('>').ok_or_else(|| self.unexpected(word))?;
        Ok(Link { from: self.node(from)?, to: self.node(to)? })
    }

    fn message_fault(&mut self) -> Result<MessageFault, ScheduleError> {
        match self.fault()? {
            Fault::Loss => Ok(MessageFault::Lost),
            Fault::Duplicate => Ok(MessageFault::Duplicated(self.seconds()?)),
            Fault::DelaySpike => Ok(MessageFault::Delayed(self.seconds()?)),
            Fault::Reorder => Ok(MessageFault::Reordered),
            Fault::Replay => Ok(MessageFault::Replayed(self.seconds()?)),
            Fault::Corruption => {
                let word = self.next()?;
                Ok(MessageFault::Corrupted(self.number(word)?))
            }
            other => Err(self.unexpected(other.name())),
        }
    }

    fn effect(&mut self, fault: Fault) -> Result<FaultEffect, ScheduleError> {
        match fault {
            Fault::Partition
            | Fault::OneWay
            | Fault::Isolate
            | Fault::Bridge
            | Fault::Ring
            | Fault::Clog => {
                let word = self.next()?;
                let links: Result<_, _> = word.split(',').map(|link| self.link(link)).collect();
                Ok(FaultEffect::Links(links?, self.time_after("for")?))
            }
            Fault::Crash | Fault::CrashAll | Fault::CrashRecovering => {
                Ok(FaultEffect::Crash(self.crashes()?))
            }
            Fault::Pause
            | Fault::SlowStart
            | Fault::SlowDisk
            | Fault::DiskStall
            | Fault::ApplyStall => {
                Ok(FaultEffect::Stall(self.next_node()?, self.time_after("for")?))
            }
            Fault::LoseAnyOrder | Fault::TornWrite | Fault::BitFlip | Fault::MisdirectedWrite => {
                let crash = self.crash()?;
                self.expect("seed")?;
                let word = self.next()?;
                Ok(FaultEffect::CorruptDisk(crash, self.number(word)?))
            }
            Fault::ReadError | Fault::FsyncError | Fault::DiskFull => {
                Ok(FaultEffect::FailDisk(self.crash()?, self.time_after("for")?))
            }
            Fault::Skew | Fault::JumpAhead | Fault::JumpBack => {
                Ok(FaultEffect::ClockShift(self.next_node()?, self.time_after("by")?))
            }
            Fault::Drift => {
                let node = self.next_node()?;
                self.expect("ppm")?;
                let word = self.next()?;
                Ok(FaultEffect::ClockDrift(node, self.number(word)?, self.time_after("for")?))
            }
            other => Err(self.unexpected(other.name())),
        }
    }

    fn next_node(&mut self) -> Result<usize, ScheduleError> {
        let word = self.next()?;
        self.node(word)
    }

    /// Parses a time after a keyword.
    fn time_after(&mut self, word: &str) -> Result<Duration, ScheduleError> {
        self.expect(word)?;
        self.seconds()
    }

    fn crashes(&mut self) -> Result<Vec<CrashSpec>, ScheduleError> {
        let mut crashes = vec![self.crash()?];
        while self.rest.clone().next().is_some() {
            self.expect("and")?;
            crashes.push(self.crash()?);
        }
        Ok(crashes)
    }

    fn crash(&mut self) -> Result<CrashSpec, ScheduleError> {
        let node = self.next_node()?;
        self.expect("keeps")?;
        let (keep, keep_state) = (self.keep()?, self.keep()?);
        let word = self.next()?;
        let drops_in_flight = word == "drops_in_flight";
        if drops_in_flight {
            self.expect("down")?;
        } else if word != "down" {
            return Err(self.unexpected(word));
        }
        Ok(CrashSpec { node, keep, keep_state, drops_in_flight, down: self.seconds()? })
    }

    fn keep(&mut self) -> Result<Option<usize>, ScheduleError> {
        match self.next()? {
            "all" => Ok(None),
            word => Ok(Some(self.number(word)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
at 0.000000007 one_way 1>2,3>2 for 2.300000000
at 12.500000000 crash 2 keeps 0 all drops_in_flight down 0.500000000
at 12.500000001 crash_all 1 keeps all 3 down 0.000000000 and 5 keeps 1 0 down 2.000000000
at 13.000000000 slow_disk 4 for 0.250000000
at 13.000000000 bit_flip 1 keeps 0 all down 0.250000000 seed 18446744073709551615
at 13.000000000 disk_full 1 keeps 0 all down 0.250000000 for 3.000000000
at 13.000000000 jump_back 4 by 0.250000000
at 14.000000000 drift 1 ppm -20000 for 3.000000000
message 1>3#0 loss
message 1>3#57 delay_spike 0.120000000
message 1>3#57 reorder
message 5>4#58 duplicate 0.004000001
message 5>4#59 replay 31.000000000
message 5>4#60 corruption 4711
";

    #[test]
    fn printed_text_parses_to_the_same_value() {
        let schedule: Schedule = TEXT.parse().unwrap();
        assert_eq!(schedule.len(), 14);
        assert_eq!(schedule.to_string(), TEXT);
        let faults: Vec<_> = schedule.entries().iter().map(ScheduleEntry::fault).collect();
        assert_eq!(faults[..2], [Fault::OneWay, Fault::Crash]);
        let half: Schedule = schedule.entries()[4..].iter().cloned().collect();
        assert_eq!(format!("# a part\n\n{half}").parse(), Ok(half));
    }

    #[test]
    fn parse_error_names_the_word_and_the_line() {
        for (line, part) in [
            ("at", "unexpected end"),
            ("on 1.0 crash", "\"on\""),
            ("at 1.0 earthquake 1", "\"earthquake\""),
            ("at 1.0 loss 1", "\"loss\""),
            ("at 1.0 crash 0 keeps 0 0 down 1.0", "\"0\""),
            ("at 1.0 crash 1 keeps 0 0 up 1.0", "\"up\""),
            ("at 1.0 crash 1 keeps 0 0 down 1.0 or", "\"or\""),
            ("at 1.0 slow_disk 1 for 1.0000000001", "\"1.0000000001\""),
            ("at -1.0 slow_disk 1 for 1.0", "\"-1\""),
            ("at 1.0 partition 12 for 1.0", "\"12\""),
            ("message 1>2 loss", "\"1>2\""),
            ("message 1>2#4 crash", "\"crash\""),
            ("message 1>2#4 loss twice", "\"twice\""),
        ] {
            let error = format!("# x\n{line}").parse::<Schedule>().unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(error.reason.contains(part), "{error}");
        }
    }
}
