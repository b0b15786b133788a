//! The driver around a protocol: fences, timers, tickets, sessions and the apply side.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
