//! Faults: their kinds, where they come from, and what they do to a cluster.

mod inject;
pub(crate) mod kind;
pub(crate) mod schedule;
pub(crate) mod storage_faults;
