//! Random walks: long sequences of random steps of a cluster.

mod rng;
pub(crate) mod walk;
