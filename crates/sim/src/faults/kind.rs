//! The kinds of faults, and how often each fired.

use std::collections::BTreeMap;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = ($text:literal, $family:ident),)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind's name in reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns its family.
            #[must_use]
            pub fn family(self) -> Family {
                match self { $(Self::$name => Family::$family,)* }
            }
        }
    };
}

/// The part of a cluster that a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Messages.
    Network,
    /// Whole nodes.
    Process,
    /// Log and state.
    Disk,
    /// The clocks of nodes.
    Clock,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Network, Self::Process, Self::Disk, Self::Clock];
}

faults! {
    /// A message is lost.
    Loss = ("loss", Network),
    /// A message arrives twice.
    Duplicate = ("duplicate", Network),
    /// A message overtakes an earlier one.
    Reorder = ("reorder", Network),
    /// A message takes many times as long as usual.
    DelaySpike = ("delay_spike", Network),
    /// Links carry nothing for a while; then all that was sent arrives at once.
    Clog = ("clog", Network),
    /// The nodes fall into two sides without links between them.
    Partition = ("partition", Network),
    /// One side receives nothing from the other, which receives its messages.
    OneWay = ("one_way", Network),
    /// One node is cut off from all others, now and then together with another.
    Isolate = ("isolate", Network),
    /// The nodes fall into two sides, and one node is connected to both: two majorities share it.
    Bridge = ("bridge", Network),
    /// Each node is connected to a majority, and no two nodes to the same.
    Ring = ("ring", Network),
    /// A message comes once more, long after: up to minutes, hundreds of election time-outs.
    Replay = ("replay", Network),
    /// A bit of a message flips in flight. The receiver must detect it and drop the message.
    Corruption = ("corruption", Network),
    /// A node dies.
    Crash = ("crash", Process),
    /// All nodes die at once.
    CrashAll = ("crash_all", Process),
    /// A node dies again right after it was started.
    CrashRecovering = ("crash_recovering", Process),
    /// A node does nothing for a while, and its clock goes on; then all that waited comes at once.
    Pause = ("pause", Process),
    /// A node does nothing for a while right after it was started.
    SlowStart = ("slow_start", Process),
    /// A dying node's log loses the newest batches that were not yet synced.
    LoseLogSuffix = ("lose_log_suffix", Disk),
    /// A dying node's state loses the newest batches that were not yet synced.
    LoseStateSuffix = ("lose_state_suffix", Disk),
    /// A dying node's log loses any of the records that were not yet synced. The store must refuse
    /// to load what is left, unless nothing is missing in between.
    LoseAnyOrder = ("lose_any_order", Disk),
    /// A dying node's log has written a part of a record. The store must refuse to load it.
    TornWrite = ("torn_write", Disk),
    /// A bit of a dead node's log flips. The store must refuse to load it.
    BitFlip = ("bit_flip", Disk),
    /// A record of a dead node's log lies where another one should. The store must refuse to load
    /// it.
    MisdirectedWrite = ("misdirected_write", Disk),
    /// A dead node's log cannot be read for a while, so it does not start.
    ReadError = ("read_error", Disk),
    /// A sync fails. The node stops: what its disk holds is unknown, and no sync is tried again.
    FsyncError = ("fsync_error", Disk),
    /// A write finds no room. The node stops, and does not start before there is room again.
    DiskFull = ("disk_full", Disk),
    /// Every sync takes many times as long as usual.
    SlowDisk = ("slow_disk", Disk),
    /// No sync ends for seconds.
    DiskStall = ("disk_stall", Disk),
    /// The apply side does nothing for seconds.
    ApplyStall = ("apply_stall", Disk),
    /// A node's clock shows another time than the others', from its start on.
    Skew = ("skew", Clock),
    /// A node's clock runs fast or slow.
    Drift = ("drift", Clock),
    /// A node's clock jumps ahead.
    JumpAhead = ("jump_ahead", Clock),
    /// A node's clock jumps back. Drivers take it to stand still until it has caught up.
    JumpBack = ("jump_back", Clock),
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    /// Every kind.
    #[must_use]
    pub fn all() -> Self {
        Fault::ALL.iter().copied().collect()
    }

    /// Returns whether the kind is in the set.
    #[must_use]
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }

    /// Returns whether any kind of the family is in the set.
    #[must_use]
    pub fn has_family(self, family: Family) -> bool {
        Fault::ALL.iter().any(|fault| fault.family() == family && self.has(*fault))
    }
}

impl FromIterator<Fault> for FaultSet {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self(faults.into_iter().fold(0, |set, fault| set | 1 << fault as u32))
    }
}

/// Counts of each kind of fault.
#[derive(Clone, Debug)]
pub(crate) struct FaultCounts {
    fired: [u64; Fault::ALL.len()],
    /// The same while operations were in flight.
    under_load: [u64; Fault::ALL.len()],
}

impl Default for FaultCounts {
    fn default() -> Self {
        let none = [0; Fault::ALL.len()];
        Self { fired: none, under_load: none }
    }
}

impl FaultCounts {
    /// A fault fired; `loaded`: while operations were in flight.
    pub(crate) fn fired(&mut self, fault: Fault, loaded: bool) {
        self.fired[fault as usize] += 1;
        if loaded {
            self.under_load[fault as usize] += 1;
        }
    }

    /// Returns whether any fault of the family fired while operations were in flight.
    pub(crate) fn family_under_load(&self, family: Family) -> bool {
        let mut faults = Fault::ALL.iter().filter(|fault| fault.family() == family);
        faults.any(|fault| self.under_load[*fault as usize] > 0)
    }

    /// The counts by name, zeroes left out.
    pub(crate) fn by_name(&self) -> BTreeMap<&'static str, u64> {
        named(&self.fired)
    }

    /// The same, of the times at which operations were in flight.
    pub(crate) fn under_load_by_name(&self) -> BTreeMap<&'static str, u64> {
        named(&self.under_load)
    }
}

fn named(counts: &[u64; Fault::ALL.len()]) -> BTreeMap<&'static str, u64> {
    let names = Fault::ALL.iter().map(|fault| (fault.name(), counts[*fault as usize]));
    names.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_under_load_count_for_their_family() {
        let mut counts = FaultCounts::default();
        counts.fired(Fault::Loss, false);
        assert!(!counts.family_under_load(Family::Network));
        assert_eq!(counts.under_load_by_name(), BTreeMap::new());
        counts.fired(Fault::Loss, true);
        assert!(counts.family_under_load(Family::Network));
        assert!(!counts.family_under_load(Family::Disk));
        assert_eq!(counts.by_name(), BTreeMap::from([("loss", 2)]));
        assert_eq!(counts.under_load_by_name(), BTreeMap::from([("loss", 1)]));
    }

    #[test]
    fn every_family_has_faults_and_names_differ() {
        for family in Family::ALL {
            assert!(FaultSet::all().has_family(family));
        }
        let mut names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
