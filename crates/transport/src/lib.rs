//! How Synod's nodes talk: a lossy, non-blocking trait, with memory and QUIC behind it.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
