//! Certificates of nodes and clients: issuing and identification. Independent of QUIC.
//!
//! The identity of a certificate is one DNS name among its subject alternative names:
//!
//! | certificate | name | extended key usage |
//! |---|---|---|
//! | node 2 of cluster 7 | `node-2.cluster-7.synod.internal` | server and client |
//! | client `backup` | `client-backup.synod.internal` | client |
//!
//! These names are not resolved: `.internal` is reserved for private use. DNS names were chosen
//! over URIs because every TLS library and every CA tool supports them. Other names in the
//! certificate are ignored, so a certificate of your own CA may include the host's name. The common
//! name is informational and ignored as well.
//!
//! Keys are ECDSA P-256. A CA is valid for ten years, the certificates that it issues for three
//! (never longer than the CA). Validity starts one day before the creation, because the clocks of other
//! machines may lag. There is no revocation: to keep a node from connecting again, remove it from the
//! peers, which closes its connections at once. To replace a lost CA key, configure the old and a new CA
//! on every node, issue new certificates, then remove the old CA.
//!
//! ```
//! use synod_transport::certificates::{CertificateAuthority, Identity, identify_pem};
//! use synod_types::{ClusterId, NodeId};
//!
//! let ca = CertificateAuthority::new(ClusterId(7))?;
//! let node = ca.issue_node(ClusterId(7), NodeId(2))?;
//! let identity = Identity::Node { cluster: ClusterId(7), node: NodeId(2) };
//! assert_eq!(identify_pem(&node.certificate)?, identity);
//! # Ok::<(), synod_transport::certificates::CertificateError>(())
//! ```

mod authority;
mod error;
mod identity;
#[cfg(test)]
mod tests;

pub use authority::{CertificateAuthority, IssuedCertificate};
pub use error::CertificateError;
pub use identity::{Identity, identify, identify_pem};
