//! Certificates for development and tests, signed by an authority whose key is not stored.

use std::collections::BTreeMap;
use synod_transport::Credentials;
use synod_transport::certificates::{CertificateAuthority, CertificateError};
use synod_types::{ClusterId, NodeId};

/// Issues credentials for `nodes` of a cluster, signed by a new certificate authority. The authority's
/// key is dropped, so no other node can join later. In production use `synod cert`, or your own
/// authority.
///
/// # Errors
/// If a node id is 0, or the system's source of randomness fails.
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
