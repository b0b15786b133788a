//! Multi-Paxos rule by rule.

mod arbitrary;
mod bugs;
mod cluster;
mod elections;
mod leading;
mod lease;
mod papers;
mod pulling;
mod roles;
mod walk;
