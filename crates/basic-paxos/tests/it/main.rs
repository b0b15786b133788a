//! What basic Paxos does, one rule and one story at a time.

mod arbitrary;
mod bugs;
mod cluster;
mod livelock;
mod log;
mod register;
mod roles;
mod walk;
mod wire;
