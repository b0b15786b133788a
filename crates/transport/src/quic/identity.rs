//! Who may talk to us: the judgement of a certificate, inside the handshake.

use super::tls::Tls;
use crate::certs::{self, Identity};
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

/// Why a connection was refused on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Another authority than ours signed its certificate.
    ForeignCa,
    /// It is a node of another cluster.
    WrongCluster,
    /// It is a node of our cluster, but none of our peers.
    UnknownNode,
    /// It has the certificate of another node: of not the one that was dialled, or our own.
    WrongNode,
    /// Its certificate is a client's, or names no node.
    NotANode,
    /// Its certificate is expired, not valid yet, or damaged.
    BadCertificate,
    /// It dialled us although it is ours to dial.
    WrongDirection,
    /// The same node is connected already, from another address: two processes have one identity.
    AlreadyConnected,
    /// The handshake failed for another reason: no certificate, another protocol or version.
    Handshake,
    /// Too many handshakes were under way.
    Overload,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ForeignCa => "foreign CA: its certificate is not from an authority that we trust",
            Self::WrongCluster => "wrong cluster",
            Self::UnknownNode => "unknown node: it is none of our peers",
            Self::WrongNode => "certificate of another node",
            Self::NotANode => "not a node's certificate",
            Self::BadCertificate => "certificate expired, not valid yet or damaged",
            Self::WrongDirection => "wrong direction: the node with the smaller id dials",
            Self::AlreadyConnected => {
                "already connected from another address: do two processes have one identity?"
            }
            Self::Handshake => "handshake failed",
            Self::Overload => "too many handshakes under way",
        })
    }
}

/// Why, and who the other side says it is.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) why: Refusal,
    /// For people; proven only where the certificate's chain was.
    pub(super) claim: String,
    /// The node that the certificate names, if its chain was proven.
    pub(super) node: Option<NodeId>,
}

/// What all verifiers of one transport share.
pub(super) struct Trust {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) peers: Mutex<BTreeSet<NodeId>>,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    callers: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    pub(super) fn new(cluster: ClusterId, node: NodeId, tls: &Tls) -> Result<Self, String> {
        let roots = Arc::clone(&tls.roots);
        let provider = Arc::clone(tls.provider());
        let callers = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider)
            // Whoever is not one of us need not learn whom we trust.
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| error.to_string())?;
        let algorithms = tls.provider().signature_verification_algorithms;
        Ok(Self { cluster, node, peers: Mutex::default(), roots, algorithms, callers })
    }

    /// Who we are, for log lines and refusals.
    pub(super) fn own(&self) -> Identity {
        Identity::Node { cluster: self.cluster, node: self.node }
    }
}

/// Judges the certificate of one connection, and remembers the judgement.
pub(super) struct PeerVerifier {
    trust: Arc<Trust>,
    /// The node that was dialled; `None` when we are called.
    dialled: Option<NodeId>,
    verdict: Arc<OnceLock<Result<NodeId, Refused>>>,
}

/// Where a [`PeerVerifier`] leaves its judgement.
pub(super) type Verdict = Arc<OnceLock<Result<NodeId, Refused>>>;

impl PeerVerifier {
    pub(super) fn new(trust: &Arc<Trust>, dialled: Option<NodeId>) -> (Arc<Self>, Verdict) {
        let verdict = Verdict::default();
        let trust = Arc::clone(trust);
        (Arc::new(Self { trust, dialled, verdict: Arc::clone(&verdict) }), verdict)
    }

    /// The whole judgement: the chain first, then whose certificate it is.
    fn judge(&self, certificate: &[u8], chain: Result<(), Error>) -> Result<(), Error> {
        let identity = certs::identify(certificate);
        let (why, node) = match (&chain, &identity) {
            (Err(error), _) => (Some(chain_refusal(error)), None),
            (Ok(()), Ok(identity)) => self.judge_identity(identity),
            (Ok(()), Err(_)) => (Some(Refusal::NotANode), None),
        };
        let verdict = match (why, node) {
            (None, Some(node)) => Ok(node),
            (why, node) => {
                let why = why.unwrap_or(Refusal::NotANode);
                Err(Refused { why, claim: claim(&identity), node })
            }
        };
        let answer = verdict.as_ref().map(drop).map_err(|refused| self.explain(refused, &chain));
        // A second certificate in one handshake would be the TLS library's fault; the first counts.
        let _ = self.verdict.set(verdict);
        answer
    }

    fn judge_identity(&self, identity: &Identity) -> (Option<Refusal>, Option<NodeId>) {
        let Identity::Node { cluster, node } = *identity else {
            return (Some(Refusal::NotANode), None);
        };
        if cluster != self.trust.cluster {
            return (Some(Refusal::WrongCluster), None);
        }
        let why = match self.dialled {
            _ if node == self.trust.node => Some(Refusal::WrongNode),
            Some(dialled) => (node != dialled).then_some(Refusal::WrongNode),
            None if !lock(&self.trust.peers).contains(&node) => Some(Refusal::UnknownNode),
            None => (node > self.trust.node).then_some(Refusal::WrongDirection),
        };
        (why, Some(node))
    }

    /// What the other side is told.
    fn explain(&self, refused: &Refused, chain: &Result<(), Error>) -> Error {
        let (own, Refused { why, claim, .. }) = (self.trust.own(), refused);
        let detail = match (why, chain) {
            (Refusal::BadCertificate, Err(error)) => format!(" ({error})"),
            _ => String::new(),
        };
        let text = format!("{own} refuses {claim}: {why}{detail}");
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Told(text)))))
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

/// What is wrong when the chain does not hold.
fn chain_refusal(error: &Error) -> Refusal {
    match error {
        // A wrong signature means that an authority of the same name, not ours, made it.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Refusal::ForeignCa,
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => Refusal::NotANode,
        _ => Refusal::BadCertificate,
    }
}

fn claim(identity: &Result<Identity, certs::CertError>) -> String {
    match identity {
        Ok(identity) => identity.to_string(),
        Err(error) => format!("somebody ({error})"),
    }
}

/// A text as an error; the TLS library prints the `Debug` form into what the other side is told.
struct Told(String);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").field("dialled", &self.dialled).finish_non_exhaustive()
    }
}

const NO_TLS12: Error = Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic);

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.callers.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = self.trust.callers.verify_client_cert(end_entity, intermediates, now);
        self.judge(end_entity, chain.map(drop))?;
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
        // The name is not compared here: `judge` compares whom it names with whom we dialled,
        // and can so tell another node from another cluster.
        let chain = ParsedCertificate::try_from(end_entity).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.trust.roots,
                intermediates,
                now,
                self.trust.algorithms.all,
            )
        });
        self.judge(end_entity, chain)?;
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
