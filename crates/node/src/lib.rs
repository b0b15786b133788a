//! The Synod node: a replicated, etcd-compatible key-value store.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
