//! Certificates for development and tests: one authority that no file keeps.

use std::collections::BTreeMap;
use synod_transport::Credentials;
use synod_transport::certificates::{CertificateAuthority, CertificateError};
use synod_types::{ClusterId, NodeId};

/// Issues credentials for `nodes` of a cluster, signed by a new authority that is dropped at once: no
/// other node can join later. For production use `synod cert`, or an authority of your own.
///
/// # Errors
/// If a node is 0, or the system gives no randomness.
pub fn credentials(
    cluster: ClusterId,
    nodes: impl IntoIterator<Item = NodeId>,
) -> Result<BTreeMap<NodeId, Credentials>, CertificateError> {
    let authority = CertificateAuthority::new(cluster)?;
    let issue = |node| {
        let issued = authority.issue_node(cluster, node)?;
        let ca = authority.certificate_pem().to_owned();
        Ok((node, Credentials { ca, certificate: issued.certificate, key: issued.key }))
    };
    nodes.into_iter().map(issue).collect()
}
