//! Error of issuing or parsing a certificate.

/// Error of issuing or parsing a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The generation of a key or a signature failed.
    #[error("cannot issue a certificate: {0}")]
    Generate(String),
    /// The input is not a certificate or key in the expected encoding.
    #[error("cannot read the {what}: {reason}")]
    Malformed {
        /// Expected content of the input.
        what: &'static str,
        /// Reason of the failure.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate is not that of a CA, so it must not sign others.
    #[error("the certificate is not that of a certificate authority")]
    NotAnAuthority,
    /// The name of a client is not a valid part of a DNS name.
    #[error(
        "invalid client name {0:?}: use 1 to 56 characters of a-z, 0-9 and -, without - at either end"
    )]
    ClientName(String),
    /// The node id is 0, which is reserved.
    #[error("node id 0 is reserved: node ids start at 1")]
    NodeZero,
    /// The certificate has no identity, several, or one that does not fit its key usage.
    #[error("the certificate has no valid Synod identity: {0}")]
    NoIdentity(String),
}

/// Returns the error of an input that cannot be parsed.
pub(super) fn malformed(what: &'static str, reason: impl ToString) -> CertificateError {
    CertificateError::Malformed { what, reason: reason.to_string() }
}

/// Returns the error of a certificate without a valid identity.
pub(super) fn no_identity(reason: &str) -> CertificateError {
    CertificateError::NoIdentity(reason.to_owned())
}
