//! Wire messages, services and clients, generated from the `.proto` files of this crate.
//!
//! The code is committed; the test `generated` checks that it is up to date and names the command to regenerate it.

/// Services of etcd and their messages.
// Only the comments of the .proto files become docs.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

/// Messages of keys and values.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}
