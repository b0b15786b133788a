//! Multi-Paxos rule by rule.

mod arbitrary;
mod bugs;
mod cluster;
mod elections;
mod leading;
mod lease;
mod papers;
mod roles;
mod walk;
