//! Kinds of faults, and the count of each.

use std::collections::BTreeMap;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = ($text:literal, $family:ident),)*) => {
        /// Kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the name of the kind in reports.
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

/// Part of a cluster that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Links and messages.
    Network,
    /// Node processes.
    Process,
    /// Disks of the log and the state, and the apply thread.
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
    /// A message takes many times the usual delay.
    DelaySpike = ("delay_spike", Network),
    /// Links hold messages back for a while, then deliver them all at once.
    Clog = ("clog", Network),
    /// The nodes split into two sides without links between them.
    Partition = ("partition", Network),
    /// Links between two sides fail in one direction.
    OneWay = ("one_way", Network),
    /// One node is cut off from all others, sometimes together with another one.
    Isolate = ("isolate", Network),
    /// The nodes split into two sides, and one node is connected to both, so two majorities overlap
    /// only in it.
    Bridge = ("bridge", Network),
    /// Each node is connected to a majority, and no two nodes to the same majority.
    Ring = ("ring", Network),
    /// A message arrives again after up to minutes, that is, hundreds of election timeouts.
    Replay = ("replay", Network),
    /// A bit of a message flips in flight. The receiver must detect it and drop the message.
    Corruption = ("corruption", Network),
    /// A node crashes.
    Crash = ("crash", Process),
    /// All nodes crash at once.
    CrashAll = ("crash_all", Process),
    /// A node crashes again just after it was started.
    CrashRecovering = ("crash_recovering", Process),
    /// A node pauses while its clock advances. When it resumes, all deferred events arrive at once.
    Pause = ("pause", Process),
    /// A node pauses just after it was started.
    SlowStart = ("slow_start", Process),
    /// A crash loses the newest unsynced batches of a node's log.
    LoseLogSuffix = ("lose_log_suffix", Disk),
    /// A crash loses the newest unsynced batches of a node's state.
    LoseStateSuffix = ("lose_state_suffix", Disk),
    /// A crash loses an arbitrary part of the unsynced records of a node's log. The store must
    /// reject the rest, unless the rest is a gapless prefix.
    LoseAnyOrder = ("lose_any_order", Disk),
    /// A crash leaves a partly written record in a node's log. The store must reject the log.
    TornWrite = ("torn_write", Disk),
    /// A bit of a crashed node's log flips. The store must reject the log.
    BitFlip = ("bit_flip", Disk),
    /// A record of a crashed node's log is stored in the place of another. The store must reject
    /// the log.
    MisdirectedWrite = ("misdirected_write", Disk),
    /// A crashed node's log cannot be read for a while, so the node does not start.
    ReadError = ("read_error", Disk),
    /// A sync fails. The node stops, because the content of its disk is unknown; the sync is not
    /// retried.
    FsyncError = ("fsync_error", Disk),
    /// A write fails for lack of space. The node stops, and does not start until there is space.
    DiskFull = ("disk_full", Disk),
    /// Every sync takes many times the usual time.
    SlowDisk = ("slow_disk", Disk),
    /// No sync ends for seconds.
    DiskStall = ("disk_stall", Disk),
    /// The apply thread is stalled for seconds.
    ApplyStall = ("apply_stall", Disk),
    /// A node's clock differs from the others from its start on.
    Skew = ("skew", Clock),
    /// A node's clock runs fast or slow.
    Drift = ("drift", Clock),
    /// A node's clock jumps ahead.
    JumpAhead = ("jump_ahead", Clock),
    /// A node's clock jumps back. Drivers treat time as standing still until it has caught up.
    JumpBack = ("jump_back", Clock),
}

/// Set of fault kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    /// Returns the set of all kinds.
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
    /// Counts of faults that fired while operations were in flight.
    under_load: [u64; Fault::ALL.len()],
}

impl Default for FaultCounts {
    fn default() -> Self {
        let none = [0; Fault::ALL.len()];
        Self { fired: none, under_load: none }
    }
}

impl FaultCounts {
    /// Counts a fault. `loaded` is true if operations were in flight.
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

    /// Returns the counts by name, without zeroes.
    pub(crate) fn by_name(&self) -> BTreeMap<&'static str, u64> {
        by_name(&self.fired)
    }

    /// Returns the counts under load by name, without zeroes.
    pub(crate) fn under_load_by_name(&self) -> BTreeMap<&'static str, u64> {
        by_name(&self.under_load)
    }
}

fn by_name(counts: &[u64; Fault::ALL.len()]) -> BTreeMap<&'static str, u64> {
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
