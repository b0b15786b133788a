//! Multi-Paxos rule by rule.

mod arbitrary;
mod bugs;
mod cluster;
mod elections;
mod papers;
mod walk;
