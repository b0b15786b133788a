//! Text for faults.

use crate::cluster::network::links::Link;
use crate::faults::kind::Fault;
use crate::faults::schedule::{CrashSpec, FaultEffect, MessageFault};
use std::time::Duration;

/// Describes a fault of nodes or links. `unsynced_counts` returns the numbers of unsynced batches
/// of a node's log and of its state.
pub(crate) fn describe_fault(
    fault: Fault,
    effect: &FaultEffect,
    unsynced_counts: impl Fn(usize) -> [usize; 2],
) -> String {
    let name = fault.name().replace('_', " ");
    match effect {
        FaultEffect::Crash(crashes) => {
            let words =
                crashes.iter().map(|crash| describe_crash(crash, unsynced_counts(crash.node)));
            let words = words.collect::<Vec<_>>().join("; ");
            if fault == Fault::Crash { words } else { format!("{name}: {words}") }
        }
        FaultEffect::CorruptDisk(crash, _) => {
            format!("{name}: {}", describe_crash(crash, unsynced_counts(crash.node)))
        }
        FaultEffect::FailDisk(crash, time) if fault == Fault::ReadError => {
            let crash = describe_crash(crash, unsynced_counts(crash.node));
            format!("{name} for {}: {crash}", seconds(*time))
        }
        FaultEffect::FailDisk(crash, time) => {
            let (node, time) = (crash.node + 1, seconds(*time));
            format!(
                "{name}: the next sync of n{node} fails, and its disk cannot be opened for {time}"
            )
        }
        FaultEffect::Links(links, time) => {
            format!("{name} for {}: {}", seconds(*time), describe_links(links))
        }
        FaultEffect::Stall(node, time) => format!("{name} of n{} for {}", node + 1, seconds(*time)),
        FaultEffect::ClockShift(node, by) => {
            format!("the clock of n{} moves by {}: {name}", node + 1, seconds(*by))
        }
        FaultEffect::ClockDrift(node, drift_ppm, time) => {
            let (node, time) = (node + 1, seconds(*time));
            format!("the clock of n{node} drifts by {drift_ppm} ppm for {time}")
        }
    }
}

fn describe_crash(crash: &CrashSpec, unsynced_counts: [usize; 2]) -> String {
    let CrashSpec { node, keep, keep_state, drops_in_flight, down } = crash;
    let kept = |keep: &Option<usize>, most: usize, what: &str| match keep {
        _ if most == 0 => String::new(),
        None => format!(", keeping all {most} unsynced batches of its {what}"),
        Some(kept) => {
            format!(", keeping {} of {most} unsynced batches of its {what}", kept.min(&most))
        }
    };
    format!(
        "n{} crashes{}{}{}, and restarts after {}",
        node + 1,
        kept(keep, unsynced_counts[0], "log"),
        kept(keep_state, unsynced_counts[1], "state"),
        if *drops_in_flight { ", losing its messages in flight" } else { "" },
        seconds(*down)
    )
}

/// Describes links that carry nothing: `n1-n2` both ways, `n1>n2` one way.
fn describe_links(links: &[Link]) -> String {
    let mut words = Vec::new();
    for Link { from, to } in links {
        let both = links.contains(&Link { from: *to, to: *from });
        if !both || from < to {
            let sign = if both { '-' } else { '>' };
            words.push(format!("n{}{sign}n{}", from + 1, to + 1));
        }
    }
    words.join(" ")
}

/// Describes a fault of a message.
pub(crate) fn describe_message_fault(
    message_fault: MessageFault,
    link: Link,
    message: &str,
) -> String {
    let (from, to) = (link.from + 1, link.to + 1);
    let what = match message_fault {
        MessageFault::Lost => "is lost".into(),
        MessageFault::Duplicated(after) => format!("arrives again after {}", seconds(after)),
        MessageFault::Delayed(more) => format!("is delayed by {}", seconds(more)),
        MessageFault::Reordered => "overtakes an earlier message".into(),
        MessageFault::Replayed(after) => format!("is replayed after {}", seconds(after)),
        MessageFault::Corrupted(bit) => format!("is corrupted at bit {bit}"),
    };
    format!("n{from}'s message to n{to} {what}: {message}")
}

/// Formats a time for transcripts.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_text_names_what_is_lost_and_the_time_to_restart() {
        let crash = |keep, keep_state, drops_in_flight| {
            FaultEffect::Crash(vec![CrashSpec {
                node: 1,
                keep,
                keep_state,
                drops_in_flight,
                down: Duration::from_millis(500),
            }])
        };
        let words = |effect: &FaultEffect| describe_fault(Fault::Crash, effect, |_| [3, 2]);
        assert_eq!(
            words(&crash(Some(1), None, true)),
            "n2 crashes, keeping 1 of 3 unsynced batches of its log, keeping all 2 unsynced batches \
             of its state, losing its messages in flight, and restarts after 0.500 s"
        );
        let words = describe_fault(Fault::Crash, &crash(Some(0), None, false), |_| [0, 0]);
        assert_eq!(words, "n2 crashes, and restarts after 0.500 s");
    }

    #[test]
    fn cut_text_names_links_and_direction() {
        let links = [(0, 1), (1, 0), (2, 1)].map(|(from, to)| Link { from, to }).to_vec();
        let effect = FaultEffect::Links(links, Duration::from_millis(2300));
        let words = describe_fault(Fault::OneWay, &effect, |_| [0, 0]);
        assert_eq!(words, "one way for 2.300 s: n1-n2 n3>n2");
    }
}
