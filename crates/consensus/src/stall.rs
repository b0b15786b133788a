//! Stalls of a node's own disk or state machine.

use core::time::Duration;
use synod_types::Instant;

/// Stall of this node's own disk or state machine; the default is none.
///
/// A stalled node must not campaign: as leader it would block the cluster while its heartbeats go
/// on. The stall ends when the disk works again and the other nodes have had time to elect a
/// leader. Whether the disk works is shown by a [durable](crate::Gate::Durable) message of the node
/// to itself, sent when the stall is reported.
///
/// ```
/// use core::time::Duration;
/// use synod_consensus::Stall;
/// use synod_types::Instant;
///
/// let (patience, mut stall) = (Duration::from_millis(300), Stall::default());
/// stall.report(Instant::ZERO);
/// let later = Instant::ZERO + patience;
/// assert!(stall.is_active(later, patience), "the disk has not answered");
/// stall.on_disk_answer();
/// assert!(!stall.is_active(later, patience));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stall {
    latest: Option<Report>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Report {
    at: Instant,
    /// A durable message that was sent after the report has come back.
    disk_answered: bool,
}

impl Stall {
    /// Records that disk or state machine do not answer. Starts the stall, or extends it.
    pub fn report(&mut self, now: Instant) {
        self.latest = Some(Report { at: now, disk_answered: false });
    }

    /// Records that a durable message of this node to itself has come back. It may be one that was
    /// sent before the report: that disk answered after it, too.
    pub fn on_disk_answer(&mut self) {
        if let Some(report) = &mut self.latest {
            report.disk_answered = true;
        }
    }

    /// Returns whether the node is stalled. A stall ends once the disk has answered and `patience`
    /// has passed since the latest report: the longest election timeout.
    pub fn is_active(&mut self, now: Instant, patience: Duration) -> bool {
        self.latest.take_if(|report| report.disk_answered && now.since(report.at) >= patience);
        self.latest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_nanos(10);

    #[test]
    fn stall_ends_once_the_disk_has_answered_and_the_others_had_their_chance() {
        for (answered, now, active) in
            [(false, 0, true), (false, 99, true), (true, 9, true), (true, 10, false)]
        {
            let mut stall = Stall::default();
            stall.report(Instant(0));
            if answered {
                stall.on_disk_answer();
            }
            assert_eq!(stall.is_active(Instant(now), PATIENCE), active, "{answered} at {now}");
            assert_eq!(
                stall == Stall::default(),
                !active,
                "nothing is left of a stall that is over"
            );
        }
    }

    #[test]
    fn repeated_report_extends_the_stall() {
        let mut stall = Stall::default();
        stall.report(Instant(0));
        stall.on_disk_answer();
        stall.report(Instant(8));
        assert!(stall.is_active(Instant(18), PATIENCE), "the answer came before the report");
        stall.on_disk_answer();
        assert!(stall.is_active(Instant(17), PATIENCE));
        assert!(!stall.is_active(Instant(18), PATIENCE));
    }

    #[test]
    fn answer_of_the_disk_starts_no_stall() {
        let mut stall = Stall::default();
        stall.on_disk_answer();
        assert!(!stall.is_active(Instant(0), PATIENCE));
        assert_eq!(stall, Stall::default());
    }
}
