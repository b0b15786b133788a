//! Basic Paxos rule by rule.

mod arbitrary;
mod bugs;
mod cluster;
mod knowledge;
mod livelock;
mod log;
mod lost_quorum;
mod register;
mod restarts;
mod roles;
mod waits;
mod walk;
mod wire;
