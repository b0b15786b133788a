//! The etcd v3 gRPC API over a Synod key-value store.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
