//! Wire messages, services and clients, generated from the `.proto` files of this crate.
//!
//! The generated code is committed. The test `generated` checks that it is up to date, and names the command
//! that generates it again.

/// Services of etcd and their messages.
// Generated items have docs only where the .proto files have comments.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

/// Messages of keys and values.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}
