//! The identity that a certificate proves: its form as a DNS name, and its extraction from a certificate.

use super::CertificateError;
use super::error::{malformed, no_identity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use synod_types::{ClusterId, NodeId};
use x509_parser::prelude::{GeneralName, X509Certificate, parse_x509_certificate};

const DOMAIN: &str = ".synod.internal";

/// Identity that a certificate proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Node: it may connect to the other nodes of its cluster.
    Node {
        /// Cluster of the node.
        cluster: ClusterId,
        /// Id of the node.
        node: NodeId,
    },
    /// Client: it may use the nodes' service. Nodes reject it in a peer connection.
    Client {
        /// Name of the client.
        name: String,
    },
}

impl Identity {
    /// Returns the DNS name of this identity in a certificate.
    #[must_use]
    pub fn dns_name(&self) -> String {
        match self {
            Self::Node { cluster, node } => format!("node-{node}.cluster-{cluster}{DOMAIN}"),
            Self::Client { name } => format!("client-{name}{DOMAIN}"),
        }
    }

    /// Parses the result of [`Identity::dns_name`]. Returns `None` for any other name.
    #[must_use]
    pub fn from_dns_name(name: &str) -> Option<Self> {
        let label = name.strip_suffix(DOMAIN)?;
        let identity = if let Some(client) = label.strip_prefix("client-") {
            Self::Client { name: client_name(client).ok()?.to_owned() }
        } else {
            let (node, cluster) = label.strip_prefix("node-")?.split_once(".cluster-")?;
            let (node, cluster) = (NodeId(node.parse().ok()?), ClusterId(cluster.parse().ok()?));
            Self::Node { cluster, node: Some(node).filter(|node| *node != NodeId(0))? }
        };
        // A number can be written in several ways (7, +7, 007), but an identity must have one name only.
        (identity.dns_name() == name).then_some(identity)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { cluster, node } => write!(f, "node {node} of cluster {cluster}"),
            Self::Client { name } => write!(f, "client {name}"),
        }
    }
}

/// Returns the identity of a certificate in DER.
///
/// # Errors
/// [`CertificateError::Malformed`] if it is not a certificate, [`CertificateError::NoIdentity`] if
/// it has no identity, several, or a node's identity without both extended key usages.
pub fn identify(der: &[u8]) -> Result<Identity, CertificateError> {
    let certificate = parse(der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| malformed("certificate's names", error))?;
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    let mut ours = names.filter_map(|name| match name {
        GeneralName::DNSName(name) if name.ends_with(DOMAIN) => Some(*name),
        _ => None,
    });
    let name = ours.next().ok_or_else(|| no_identity("no DNS name under .synod.internal"))?;
    if ours.next().is_some() {
        return Err(no_identity("several DNS names under .synod.internal"));
    }
    let identity = Identity::from_dns_name(name)
        .ok_or_else(|| no_identity(&format!("{name:?} is not a node's or client's name")))?;
    if matches!(identity, Identity::Node { .. }) && !is_for_server_and_client(&certificate)? {
        return Err(no_identity("a node's extended key usage must include server and client"));
    }
    Ok(identity)
}

/// Returns the identity of the first certificate in a PEM text.
///
/// # Errors
/// As [`identify`], and [`CertificateError::Malformed`] if the text holds no certificate.
pub fn identify_pem(pem: &str) -> Result<Identity, CertificateError> {
    identify(&first_certificate(pem)?)
}

/// Returns whether the extended key usage includes server and client authentication.
fn is_for_server_and_client(certificate: &X509Certificate<'_>) -> Result<bool, CertificateError> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|error| malformed("certificate's key usage", error))?;
    Ok(usage.is_some_and(|usage| usage.value.server_auth && usage.value.client_auth))
}

/// Returns the first certificate of a PEM text.
pub(super) fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| malformed("certificate", error))
}

/// Parses a certificate in DER.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, certificate) =
        parse_x509_certificate(der).map_err(|error| malformed("certificate", error))?;
    if !rest.is_empty() {
        return Err(malformed("certificate", "trailing data"));
    }
    Ok(certificate)
}

/// Checks that a client's name fits into a DNS label after `client-`.
pub(super) fn client_name(name: &str) -> Result<&str, CertificateError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=56).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-');
    good.then_some(name).ok_or_else(|| CertificateError::ClientName(name.to_owned()))
}
