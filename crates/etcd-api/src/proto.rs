//! The wire's messages, services and clients, generated from the `.proto` files of this crate.
//!
//! The code is committed; the test `generated` checks that it is fresh and says how to renew it.

/// etcd's services and their messages.
// The generator documents what the .proto files document; the rest is its own.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

/// Keys and their values.
#[allow(missing_docs, clippy::all, clippy::too_many_lines)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}
