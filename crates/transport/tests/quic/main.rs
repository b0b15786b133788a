//! The QUIC transport against the conformance suite, restarts, and whoever should not get in.

mod conforms;
mod limits;
mod refusals;
mod restarts;
mod strangers;
mod support;
mod violations;
