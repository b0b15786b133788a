//! Raft as a pure state machine: pre-vote, check-quorum, pipelined replication.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
