//! Verification of a peer's certificate, inside the handshake.

use super::tls::Tls;
use crate::certificates::{self, Identity};
use crate::queue::lock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use synod_types::{ClusterId, NodeId};

/// Reason why this node rejected a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// The certificate was issued by an authority that is not trusted.
    ForeignCa,
    /// The peer is a node of another cluster.
    WrongCluster,
    /// The peer is a node of this cluster that is not in the list of peers.
    UnknownNode,
    /// The certificate names another node than the dialled one, or this node itself.
    WrongNode,
    /// The certificate is a client's, or has no valid identity.
    NotANode,
    /// The certificate is expired, not valid yet, or corrupted.
    BadCertificate,
    /// The peer dialled, although this node dials it.
    WrongDirection,
    /// The same node is connected from another address: two processes have one identity.
    AlreadyConnected,
    /// The handshake failed for another reason: for example, the peer sent no certificate, or uses another
    /// application protocol or QUIC version.
    Handshake,
    /// Too many handshakes were in progress.
    Overload,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ForeignCa => "foreign CA: the certificate's authority is not trusted",
            Self::WrongCluster => "wrong cluster: the certificate names another cluster",
            Self::UnknownNode => "unknown node: not in the member list",
            Self::WrongNode => {
                "wrong node: the certificate is this node's, or not the dialled node's"
            }
            Self::NotANode => "not a node's certificate: a client's, or without an identity",
            Self::BadCertificate => "certificate expired, not valid yet or corrupted",
            Self::WrongDirection => "wrong direction: the node with the smaller id dials",
            Self::AlreadyConnected => {
                "already connected from another address: check for two processes with this identity"
            }
            Self::Handshake => "handshake failed",
            Self::Overload => "too many handshakes in progress",
        })
    }
}

/// Rejected connection: the reason, and the identity that the peer claims.
#[derive(Clone, Debug)]
pub(super) struct Rejection {
    pub(super) reason: RejectReason,
    /// The identity that the certificate names, for log lines. It is proven only if the chain was
    /// verified.
    pub(super) claim: String,
    /// The node that the certificate names, if the chain was verified.
    pub(super) node: Option<NodeId>,
}

/// The state that all verifiers of one transport share.
pub(super) struct Trust {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) peers: Mutex<BTreeSet<NodeId>>,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    client_verifier: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    pub(super) fn new(cluster: ClusterId, node: NodeId, tls: &Tls) -> Result<Self, String> {
        let roots = Arc::clone(&tls.roots);
        let provider = Arc::clone(tls.provider());
        let client_verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider)
                // Do not reveal the trusted authorities to unauthenticated clients.
                .clear_root_hint_subjects()
                .build()
                .map_err(|error| error.to_string())?;
        let algorithms = tls.provider().signature_verification_algorithms;
        Ok(Self { cluster, node, peers: Mutex::default(), roots, algorithms, client_verifier })
    }

    /// Returns this node's identity, for log lines and rejections.
    pub(super) fn own(&self) -> Identity {
        Identity::Node { cluster: self.cluster, node: self.node }
    }
}

/// Verifier of the peer's certificate in one connection. It stores its verdict for the code that started
/// the handshake.
pub(super) struct PeerVerifier {
    trust: Arc<Trust>,
    /// The dialled node, or `None` for an incoming connection.
    dialled: Option<NodeId>,
    verdict: Arc<OnceLock<Result<NodeId, Rejection>>>,
}

/// The verdict of a [`PeerVerifier`], once there is one.
pub(super) type Verdict = Arc<OnceLock<Result<NodeId, Rejection>>>;

impl PeerVerifier {
    pub(super) fn new(trust: &Arc<Trust>, dialled: Option<NodeId>) -> (Arc<Self>, Verdict) {
        let verdict = Verdict::default();
        let trust = Arc::clone(trust);
        (Arc::new(Self { trust, dialled, verdict: Arc::clone(&verdict) }), verdict)
    }

    /// Verifies a certificate: the chain first, then the identity.
    fn verify(&self, certificate: &[u8], chain: Result<(), Error>) -> Result<(), Error> {
        let identity = certificates::identify(certificate);
        let (reason, node) = match (&chain, &identity) {
            (Err(error), _) => (Some(chain_reject_reason(error)), None),
            (Ok(()), Ok(identity)) => self.verify_identity(identity),
            (Ok(()), Err(_)) => (Some(RejectReason::NotANode), None),
        };
        let verdict = match (reason, node) {
            (None, Some(node)) => Ok(node),
            (reason, node) => {
                let reason = reason.unwrap_or(RejectReason::NotANode);
                Err(Rejection { reason, claim: claim(&identity), node })
            }
        };
        let result = verdict.as_ref().map(drop).map_err(|rejection| self.alert(rejection, &chain));
        // The TLS library verifies one certificate in each handshake. If it called twice, the first verdict
        // would count.
        let _ = self.verdict.set(verdict);
        result
    }

    fn verify_identity(&self, identity: &Identity) -> (Option<RejectReason>, Option<NodeId>) {
        let Identity::Node { cluster, node } = *identity else {
            return (Some(RejectReason::NotANode), None);
        };
        if cluster != self.trust.cluster {
            return (Some(RejectReason::WrongCluster), None);
        }
        let reason = match self.dialled {
            _ if node == self.trust.node => Some(RejectReason::WrongNode),
            Some(dialled) => (node != dialled).then_some(RejectReason::WrongNode),
            None if !lock(&self.trust.peers).contains(&node) => Some(RejectReason::UnknownNode),
            None => (node > self.trust.node).then_some(RejectReason::WrongDirection),
        };
        (reason, Some(node))
    }

    /// Returns the TLS error of a rejection. Its text is sent to the peer.
    fn alert(&self, rejection: &Rejection, chain: &Result<(), Error>) -> Error {
        let (own, Rejection { reason, claim, .. }) = (self.trust.own(), rejection);
        let detail = match (reason, chain) {
            (RejectReason::BadCertificate, Err(error)) => format!(" ({error})"),
            _ => String::new(),
        };
        let text = format!("{own} rejects {claim}: {reason}{detail}");
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(AlertText(text)))))
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.trust.algorithms)
    }
}

/// Returns the reason to reject a chain with this error.
fn chain_reject_reason(error: &Error) -> RejectReason {
    match error {
        // A wrong signature means that an authority with the same name and another key issued it.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => RejectReason::ForeignCa,
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => RejectReason::NotANode,
        _ => RejectReason::BadCertificate,
    }
}

fn claim(identity: &Result<Identity, certificates::CertificateError>) -> String {
    match identity {
        Ok(identity) => identity.to_string(),
        Err(error) => format!("an unidentified peer ({error})"),
    }
}

/// Text of an alert as an error: the TLS library sends its `Debug` form to the peer.
struct AlertText(String);

impl fmt::Debug for AlertText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AlertText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AlertText {}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").field("dialled", &self.dialled).finish_non_exhaustive()
    }
}

const NO_TLS12: Error = Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic);

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.client_verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = self.trust.client_verifier.verify_client_cert(end_entity, intermediates, now);
        self.verify(end_entity, chain.map(drop))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is not compared here: `verify` compares the identity with the dialled node, and
        // distinguishes another node from another cluster.
        let chain = ParsedCertificate::try_from(end_entity).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.trust.roots,
                intermediates,
                now,
                self.trust.algorithms.all,
            )
        });
        self.verify(end_entity, chain)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
