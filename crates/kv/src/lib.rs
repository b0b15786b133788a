//! A deterministic key-value state machine with etcd's revisions.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
