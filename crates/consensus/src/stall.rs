//! Stalls of a node's own disk or state machine.

use core::time::Duration;
use synod_types::Instant;

/// Stall of this node's own disk or state machine; the default is none.
///
/// A stalled node must not campaign: as leader it would block the cluster while its heartbeats
/// continue. The stall ends when the disk works again and the other nodes have had time to elect a
/// leader. A [durable](crate::Gate::Durable) message of the node to itself, sent when the stall is
/// reported, shows that the disk works.
///
/// ```
/// use core::time::Duration;
/// use synod_consensus::Stall;
/// use synod_types::Instant;
///
/// let (election_timeout, mut stall) = (Duration::from_millis(300), Stall::default());
/// stall.report(Instant::ZERO);
/// let later = Instant::ZERO + election_timeout;
/// assert!(stall.is_active(later, election_timeout), "the disk has completed no write");
/// stall.on_disk_progress();
/// assert!(!stall.is_active(later, election_timeout));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stall {
    latest: Option<Report>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Report {
    at: Instant,
    /// True if a durable message of the node to itself has arrived since the report.
    disk_works: bool,
}

impl Stall {
    /// Records that disk or state machine make no progress. Starts the stall, or extends it.
    pub fn report(&mut self, now: Instant) {
        // Progress before the report is no evidence that the disk works now.
        self.latest = Some(Report { at: now, disk_works: false });
    }

    /// Records that a durable message of this node to itself has arrived: the disk has completed a write.
    pub fn on_disk_progress(&mut self) {
        if let Some(report) = &mut self.latest {
            // A message that was sent before the report counts, too: its write completed after it.
            report.disk_works = true;
        }
    }

    /// Returns whether the node is stalled. A stall ends once the disk has made progress and
    /// `election_timeout`, the longest one, has passed since the latest report.
    pub fn is_active(&mut self, now: Instant, election_timeout: Duration) -> bool {
        // Its disk may hang again soon, so the other nodes campaign first.
        self.latest.take_if(|report| report.disk_works && now.since(report.at) >= election_timeout);
        self.latest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION: Duration = Duration::from_nanos(10);

    #[test]
    fn stall_ends_after_progress_of_the_disk_and_an_election_timeout() {
        for (progress, now, active) in
            [(false, 0, true), (false, 99, true), (true, 9, true), (true, 10, false)]
        {
            let mut stall = Stall::default();
            stall.report(Instant(0));
            if progress {
                stall.on_disk_progress();
            }
            assert_eq!(stall.is_active(Instant(now), ELECTION), active, "{progress} at {now}");
            assert_eq!(
                stall == Stall::default(),
                !active,
                "a stall that has ended leaves no state"
            );
        }
    }

    #[test]
    fn repeated_report_extends_the_stall() {
        let mut stall = Stall::default();
        stall.report(Instant(0));
        stall.on_disk_progress();
        stall.report(Instant(8));
        assert!(stall.is_active(Instant(18), ELECTION), "the progress was before the report");
        stall.on_disk_progress();
        assert!(stall.is_active(Instant(17), ELECTION));
        assert!(!stall.is_active(Instant(18), ELECTION));
    }

    #[test]
    fn progress_of_the_disk_starts_no_stall() {
        let mut stall = Stall::default();
        stall.on_disk_progress();
        assert!(!stall.is_active(Instant(0), ELECTION));
        assert_eq!(stall, Stall::default());
    }
}
