//! The certificate authority of a cluster.

use super::error::malformed;
use super::identity::{client_name, first_certificate, parse};
use super::{CertificateError, Identity};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use std::fmt;
use std::time::{Duration, SystemTime};
use synod_types::{ClusterId, NodeId};

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_VALIDITY: Duration = DAY.saturating_mul(3652);
const LEAF_VALIDITY: Duration = DAY.saturating_mul(1096);

/// Certificate and its private key, both in PEM. The key is secret: a file with it must be readable by
/// its owner only.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Certificate in PEM.
    pub certificate: String,
    /// Private key, PKCS #8 in PEM.
    pub key: String,
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedCertificate")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Certificate authority of a cluster's nodes and clients.
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
    /// Creates an authority for a cluster, with a new key.
    ///
    /// # Errors
    /// [`CertificateError::Generate`] if the system has no random numbers.
    pub fn new(cluster: ClusterId) -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(generate)?;
        let valid_until = SystemTime::now() + CA_VALIDITY;
        let mut params = params(&format!("Synod CA of cluster {cluster}"), valid_until);
        // A path length of 0: this CA may issue node and client certificates, but no further CA.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(generate)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key), valid_until })
    }

    /// Parses an authority from its certificate and key, both in PEM.
    ///
    /// # Errors
    /// If either is malformed, the key is not the certificate's, or the certificate is not that of a CA.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, CertificateError> {
        let key =
            KeyPair::from_pem(key).map_err(|error| malformed("authority's private key", error))?;
        let der = first_certificate(certificate)?;
        let parsed = parse(&der)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(CertificateError::KeyMismatch);
        }
        if !parsed.is_ca() {
            return Err(CertificateError::NotAnAuthority);
        }
        let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let valid_until = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(until))
            .ok_or_else(|| malformed("authority's certificate", "invalid end of validity"))?;
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|error| malformed("authority's certificate", error))?;
        Ok(Self { certificate: certificate.to_owned(), issuer, valid_until })
    }

    /// Returns the authority's certificate in PEM, which every node needs to verify its peers.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Returns the authority's private key, PKCS #8 in PEM, which is needed only to issue certificates.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate for a node of a cluster.
    ///
    /// # Errors
    /// [`CertificateError::NodeZero`], or [`CertificateError::Generate`] if the system has no random numbers.
    pub fn issue_node(
        &self,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<IssuedCertificate, CertificateError> {
        if node == NodeId(0) {
            return Err(CertificateError::NodeZero);
        }
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&Identity::Node { cluster, node }, &both)
    }

    /// Issues a certificate for a client of the nodes' service. Nodes reject it in a peer connection.
    ///
    /// # Errors
    /// [`CertificateError::ClientName`], or [`CertificateError::Generate`] if the system has no random numbers.
    pub fn issue_client(&self, name: &str) -> Result<IssuedCertificate, CertificateError> {
        let identity = Identity::Client { name: client_name(name)?.to_owned() };
        self.issue(&identity, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    pub(super) fn issue(
        &self,
        identity: &Identity,
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> Result<IssuedCertificate, CertificateError> {
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
        Ok(IssuedCertificate { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Returns the parameters that all certificates share.
pub(super) fn params(name: &str, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = until.into();
    params
}

fn generate(error: rcgen::Error) -> CertificateError {
    CertificateError::Generate(error.to_string())
}
