//! The QUIC transport: conformance suite, limits, restarts, rejections, protocol violations.

mod conformance;
mod limits;
mod rejections;
mod restarts;
mod rogue_peer;
mod support;
mod violations;
