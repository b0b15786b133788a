//! Certificates that say who a node is: made here, and read here.
//!
//! Who a certificate belongs to stands in one DNS name among its subject alternative names:
//!
//! | certificate | name | extended key usage |
//! |---|---|---|
//! | node 2 of cluster 7 | `node-2.cluster-7.synod.internal` | server and client |
//! | client `backup` | `client-backup.synod.internal` | client |
//!
//! Nothing resolves these names; they are under `.internal`, which is reserved for private use.
//! A DNS name was chosen over a URI because every TLS library and every CA tool can put one in.
//! Other names in the certificate are ignored, so one from a CA of your own may carry the host's.
//! The common name says the same for people, and is never read.
//!
//! Keys are ECDSA P-256. A CA is valid for ten years, what it issues for three (never longer
//! than itself), both from a day ago, for clocks that are behind. There is no revocation: a node
//! that must not come back is taken from the peers, which ends its connections at once; after a
//! lost CA key, give every node both CAs, issue anew, then take the old one away.
//!
//! ```
//! use synod_transport::certs::{CertificateAuthority, Identity, identify_pem};
//! use synod_types::{ClusterId, NodeId};
//!
//! let ca = CertificateAuthority::new(ClusterId(7))?;
//! let node = ca.issue_node(ClusterId(7), NodeId(2))?;
//! let identity = Identity::Node { cluster: ClusterId(7), node: NodeId(2) };
//! assert_eq!(identify_pem(&node.certificate)?, identity);
//! # Ok::<(), synod_transport::certs::CertError>(())
//! ```

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::time::{Duration, SystemTime};
use synod_types::{ClusterId, NodeId};
use x509_parser::prelude::{GeneralName, X509Certificate, parse_x509_certificate};

const DOMAIN: &str = ".synod.internal";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_VALIDITY: Duration = DAY.saturating_mul(3652);
const LEAF_VALIDITY: Duration = DAY.saturating_mul(1096);

/// Why a certificate cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// Making keys or signing failed.
    #[error("cannot make a certificate: {0}")]
    Generate(String),
    /// This is no certificate or key in the expected encoding.
    #[error("cannot read the {what}: {reason}")]
    Malformed {
        /// What was to be read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate may not sign others.
    #[error("the certificate is not that of a certificate authority")]
    NotAnAuthority,
    /// A client's name has to be a part of a DNS name.
    #[error("{0:?} cannot name a client: use 1 to 56 of a-z, 0-9 and -, not - at an end")]
    ClientName(String),
    /// Nodes are counted from 1.
    #[error("0 is no node")]
    NodeZero,
    /// The certificate says nothing, or several things, about whose it is.
    #[error("the certificate names no Synod node or client: {0}")]
    NoIdentity(String),
}

/// Whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A node's: it may talk to the other nodes of its cluster.
    Node {
        /// The cluster.
        cluster: ClusterId,
        /// The node.
        node: NodeId,
    },
    /// A client's: it may use a node's service, and is refused as a node.
    Client {
        /// What it was named when its certificate was issued.
        name: String,
    },
}

impl Identity {
    /// The DNS name that stands for this identity in a certificate.
    #[must_use]
    pub fn dns_name(&self) -> String {
        match self {
            Self::Node { cluster, node } => format!("node-{node}.cluster-{cluster}{DOMAIN}"),
            Self::Client { name } => format!("client-{name}{DOMAIN}"),
        }
    }

    /// The inverse of [`Identity::dns_name`]; `None` if the name is not exactly one of ours.
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
        // Numbers have many spellings (+7, 007); one identity must have one name.
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

/// A certificate and its private key, both PEM. The key is a secret: keep its file readable by
/// its owner only.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PKCS #8 in PEM.
    pub key: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Signs the certificates of a cluster's nodes and clients.
pub struct CertificateAuthority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    valid_until: SystemTime,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Makes a new authority, named after a cluster, with a key of its own.
    ///
    /// # Errors
    /// [`CertError::Generate`] if the system's randomness fails.
    pub fn new(cluster: ClusterId) -> Result<Self, CertError> {
        let key = KeyPair::generate().map_err(generate)?;
        let valid_until = SystemTime::now() + CA_VALIDITY;
        let mut params = params(&format!("Synod CA of cluster {cluster}"), valid_until);
        // No authority below this one: it signs nodes and clients only.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(generate)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key), valid_until })
    }

    /// Reads an authority back from its certificate and key, both PEM.
    ///
    /// # Errors
    /// When either is malformed, they do not belong together, or the certificate may not sign.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, CertError> {
        let key =
            KeyPair::from_pem(key).map_err(|error| malformed("authority's private key", error))?;
        let der = first_certificate(certificate)?;
        let parsed = parse(&der)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CertError::KeyMismatch);
        }
        if !parsed.is_ca() {
            return Err(CertError::NotAnAuthority);
        }
        let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let valid_until = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(until))
            .ok_or_else(|| malformed("authority's certificate", "its end of validity"))?;
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|error| malformed("authority's certificate", error))?;
        Ok(Self { certificate: certificate.to_owned(), issuer, valid_until })
    }

    /// The authority's certificate, PEM: what every node is given to know its peers by.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The authority's private key, PKCS #8 in PEM: needed only to issue more certificates.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a node, to take part in a cluster and to be dialled by its peers.
    ///
    /// # Errors
    /// [`CertError::NodeZero`], or [`CertError::Generate`] if the system's randomness fails.
    pub fn issue_node(&self, cluster: ClusterId, node: NodeId) -> Result<Issued, CertError> {
        if node == NodeId(0) {
            return Err(CertError::NodeZero);
        }
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&Identity::Node { cluster, node }, &both)
    }

    /// A certificate for a client of the nodes' service. As a node it is refused.
    ///
    /// # Errors
    /// [`CertError::ClientName`], or [`CertError::Generate`] if the system's randomness fails.
    pub fn issue_client(&self, name: &str) -> Result<Issued, CertError> {
        let identity = Identity::Client { name: client_name(name)?.to_owned() };
        self.issue(&identity, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn issue(
        &self,
        identity: &Identity,
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> Result<Issued, CertError> {
        let key = KeyPair::generate().map_err(generate)?;
        let until = self.valid_until.min(SystemTime::now() + LEAF_VALIDITY);
        let mut params = params(&format!("Synod {identity}"), until);
        let name = Ia5String::try_from(identity.dns_name()).map_err(generate)?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes.to_vec();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(generate)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Whose certificate this is, by what it says of itself; whether to believe it is for the caller
/// to check, by who signed it.
///
/// # Errors
/// [`CertError::Malformed`] if it is no certificate, [`CertError::NoIdentity`] if it names nobody,
/// more than one, or a node but not for both directions of a connection.
pub fn identify(der: &[u8]) -> Result<Identity, CertError> {
    let certificate = parse(der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| malformed("certificate's names", error))?;
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    let mut ours = names.filter_map(|name| match name {
        GeneralName::DNSName(name) if name.ends_with(DOMAIN) => Some(*name),
        _ => None,
    });
    let name = ours.next().ok_or_else(|| nobody("it has no name under .synod.internal"))?;
    if ours.next().is_some() {
        return Err(nobody("it has several names under .synod.internal"));
    }
    let identity =
        Identity::from_dns_name(name).ok_or_else(|| nobody(&format!("{name:?} is not ours")))?;
    if matches!(identity, Identity::Node { .. }) && !serves_both_ways(&certificate)? {
        return Err(nobody("its key usage is not for server and client both, as a node's must be"));
    }
    Ok(identity)
}

/// [`identify`] for the first certificate in a PEM text.
///
/// # Errors
/// As [`identify`], and [`CertError::Malformed`] if the text holds no certificate.
pub fn identify_pem(pem: &str) -> Result<Identity, CertError> {
    identify(&first_certificate(pem)?)
}

fn serves_both_ways(certificate: &X509Certificate<'_>) -> Result<bool, CertError> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|error| malformed("certificate's key usage", error))?;
    Ok(usage.is_some_and(|usage| usage.value.server_auth && usage.value.client_auth))
}

fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, CertError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| malformed("certificate", error))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertError> {
    let (rest, certificate) =
        parse_x509_certificate(der).map_err(|error| malformed("certificate", error))?;
    if !rest.is_empty() {
        return Err(malformed("certificate", "something follows it"));
    }
    Ok(certificate)
}

fn params(name: &str, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = until.into();
    params
}

/// Checks that a client's name fits into a DNS label behind `client-`.
fn client_name(name: &str) -> Result<&str, CertError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=56).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-');
    good.then_some(name).ok_or_else(|| CertError::ClientName(name.to_owned()))
}

fn generate(error: rcgen::Error) -> CertError {
    CertError::Generate(error.to_string())
}

fn malformed(what: &'static str, reason: impl ToString) -> CertError {
    CertError::Malformed { what, reason: reason.to_string() }
}

fn nobody(reason: &str) -> CertError {
    CertError::NoIdentity(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    #[test]
    fn names_and_identities_are_one_to_one() {
        let largest = Identity::Node { cluster: ClusterId(u64::MAX), node: NodeId(u64::MAX) };
        let client = Identity::Client { name: "backup-2".into() };
        for identity in [largest, client] {
            let name = identity.dns_name();
            assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
            assert_eq!(Identity::from_dns_name(&name), Some(identity));
        }
        let strangers = [
            "node-2.cluster-7.synod.internal.example.com",
            "node-02.cluster-7.synod.internal",
            "node-+2.cluster-7.synod.internal",
            "node-0.cluster-7.synod.internal",
            "node-2.synod.internal",
            "node-2.cluster-.synod.internal",
            "node-99999999999999999999.cluster-7.synod.internal",
            "Node-2.cluster-7.synod.internal",
            "client-.synod.internal",
            "client-a.b.synod.internal",
            "*.cluster-7.synod.internal",
            ".synod.internal",
            "",
        ];
        for stranger in strangers {
            assert_eq!(Identity::from_dns_name(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn an_authority_read_back_issues_under_the_same_name() {
        let first = CertificateAuthority::new(CLUSTER).expect("generates");
        let pem = (first.certificate_pem().to_owned(), first.key_pem());
        let again = CertificateAuthority::from_pem(&pem.0, &pem.1).expect("reads its own");
        for ca in [first, again] {
            let issued = ca.issue_node(CLUSTER, NodeId(3)).expect("issues");
            let der = first_certificate(&issued.certificate).expect("is PEM");
            let ca_der = first_certificate(&pem.0).expect("is PEM");
            let (leaf, ca) = (parse(&der).expect("is DER"), parse(&ca_der).expect("is DER"));
            assert_eq!(leaf.issuer(), ca.subject());
            assert!(leaf.validity().is_valid() && ca.validity().is_valid());
            assert!(leaf.validity().not_after <= ca.validity().not_after);
            let identity = Identity::Node { cluster: CLUSTER, node: NodeId(3) };
            assert_eq!(identify_pem(&issued.certificate), Ok(identity));
        }
    }

    #[test]
    fn clients_are_clients() {
        let ca = CertificateAuthority::new(CLUSTER).expect("generates");
        let issued = ca.issue_client("etcdctl").expect("issues");
        let identity = identify_pem(&issued.certificate).expect("has an identity");
        assert_eq!(identity, Identity::Client { name: "etcdctl".into() });
        for name in ["", "-a", "a-", "A", "a.b", "a b", &"a".repeat(57)] {
            let refused = ca.issue_client(name).expect_err("is no name");
            assert_eq!(refused, CertError::ClientName(name.into()));
        }
        assert_eq!(ca.issue_node(CLUSTER, NodeId(0)), Err(CertError::NodeZero));
    }

    #[test]
    fn a_node_certificate_must_serve_both_ways_and_name_one_node() {
        let ca = CertificateAuthority::new(CLUSTER).expect("generates");
        let node = Identity::Node { cluster: CLUSTER, node: NodeId(1) };
        let one_way = ca.issue(&node, &[ExtendedKeyUsagePurpose::ClientAuth]).expect("issues");
        assert!(matches!(identify_pem(&one_way.certificate), Err(CertError::NoIdentity(_))));

        let key = KeyPair::generate().expect("generates");
        for names in [
            vec![],
            vec!["node.example.com"],
            vec!["node-1.cluster-7.synod.internal", "node-2.cluster-7.synod.internal"],
        ] {
            let mut params = params("node-1.cluster-7.synod.internal", SystemTime::now() + DAY);
            let san = |name: &&str| SanType::DnsName((*name).try_into().expect("is ASCII"));
            params.subject_alt_names = names.iter().map(san).collect();
            let certificate = params.self_signed(&key).expect("signs");
            assert!(matches!(identify(certificate.der()), Err(CertError::NoIdentity(_))));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_kind() {
        let ca = CertificateAuthority::new(CLUSTER).expect("generates");
        let other = CertificateAuthority::new(CLUSTER).expect("generates");
        let node = ca.issue_node(CLUSTER, NodeId(1)).expect("issues");
        let read = |certificate: &str, key: &str| {
            CertificateAuthority::from_pem(certificate, key).expect_err("must be refused")
        };
        assert_eq!(read(ca.certificate_pem(), &other.key_pem()), CertError::KeyMismatch);
        assert_eq!(read(&node.certificate, &node.key), CertError::NotAnAuthority);
        assert!(matches!(read("", &ca.key_pem()), CertError::Malformed { .. }));
        assert!(matches!(read(ca.certificate_pem(), "x"), CertError::Malformed { .. }));
        assert!(!format!("{ca:?} {node:?}").contains("PRIVATE"));
    }

    #[test]
    fn damaged_certificates_are_refused_without_a_panic() {
        let ca = CertificateAuthority::new(CLUSTER).expect("generates");
        let node = ca.issue_node(CLUSTER, NodeId(1)).expect("issues");
        let der = first_certificate(&node.certificate).expect("is PEM").to_vec();
        for cut in 0..der.len() {
            assert!(identify(&der[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..der.len() {
            let mut damaged = der.clone();
            damaged[at] ^= 0xff;
            // Most damage is not visible without the signature; what matters is to get here.
            let _ = identify(&damaged);
        }
    }
}
