//! Multi-Paxos rule by rule.

mod arbitrary;
mod bugs;
mod cluster;
mod elections;
mod flow;
mod leading;
mod lease;
mod lost_quorum;
mod papers;
mod parts;
mod pulling;
mod reads;
mod recovery;
mod roles;
mod walk;
