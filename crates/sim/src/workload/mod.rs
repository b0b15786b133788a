//! Clients: the operations that they submit, and the state machine that serves them.

pub(crate) mod clients;
pub(crate) mod kv;
pub(crate) mod load;
pub(crate) mod operations;
