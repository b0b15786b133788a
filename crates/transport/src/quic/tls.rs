//! TLS with an explicit provider (ring), TLS 1.3 only, without resumption: every connection shows
//! its certificate, so a peer that was removed or a CA that was replaced cannot live on in tickets.

use super::identity::PeerVerifier;
use super::{Credentials, TransportError};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionId, ConnectionIdGenerator};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, version::TLS13};
use std::sync::Arc;
use std::time::Duration;

/// The application protocol that both sides must name. A new wire format gets a new one.
const ALPN: &[u8] = b"synod-peer/1";

/// What one node needs for any TLS handshake.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    own: Arc<SingleCertAndKey>,
    /// The own certificate.
    pub(super) certificate: CertificateDer<'static>,
    /// Whose signatures count.
    pub(super) roots: Arc<RootCertStore>,
}

impl Tls {
    pub(super) fn new(credentials: &Credentials) -> Result<(Self, ResetKey), TransportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unreadable = |what, reason: String| TransportError::Credentials { what, reason };

        let mut roots = RootCertStore::empty();
        for ca in certificates("CA certificate", &credentials.ca)? {
            roots.add(ca).map_err(|error| unreadable("CA certificate", error.to_string()))?;
        }
        let chain = certificates("node's certificate", &credentials.certificate)?;
        let certificate = chain[0].clone();
        let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes())
            .map_err(|error| unreadable("node's private key", error.to_string()))?;
        let reset = ResetKey::derive(key.secret_der())?;
        let own = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| unreadable("node's private key", error.to_string()))?;
        let own = Arc::new(SingleCertAndKey::from(own));
        Ok((Self { provider, own, certificate, roots: Arc::new(roots) }, reset))
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// For one incoming connection, judged by `verifier`.
    pub(super) fn server(
        &self,
        verifier: Arc<PeerVerifier>,
    ) -> Result<Arc<QuicServerConfig>, rustls::Error> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.own) as _);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = QuicServerConfig::try_from(config).map_err(general)?;
        Ok(Arc::new(config))
    }

    /// For one outgoing connection, judged by `verifier`.
    pub(super) fn client(
        &self,
        verifier: Arc<PeerVerifier>,
    ) -> Result<Arc<QuicClientConfig>, rustls::Error> {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::clone(&self.own) as _);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let config = QuicClientConfig::try_from(config).map_err(general)?;
        Ok(Arc::new(config))
    }
}

fn general(error: impl ToString) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

/// The certificates in a PEM text, at least one.
fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let unreadable = |reason: String| TransportError::Credentials { what, reason };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| unreadable(error.to_string()))?;
    if read.is_empty() {
        return Err(unreadable("there is no certificate in it".to_owned()));
    }
    Ok(read)
}

/// Makes a restarted node recognisable to peers that still talk to its former life.
///
/// A process that is killed says no goodbye: its peers would wait for the idle time-out. But the
/// next packet that they send meets the restarted process, which does not know the connection and
/// answers with a stateless reset (RFC 9000, section 10.3). Peers believe a reset only if it
/// carries the token that the former life had announced for the connection. So tokens must survive
/// a restart without being stored: they are a keyed hash of the connection's id, and the key is
/// derived from the node's private key, which no other node has.
#[derive(Clone)]
pub(super) struct ResetKey {
    tokens: Arc<hmac::Key>,
    /// Makes connection ids; different in every life, for an id must not come back in another.
    ids: Arc<hmac::Key>,
}

impl ResetKey {
    fn derive(private_key: &[u8]) -> Result<Self, TransportError> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, private_key);
        let tokens = hmac::sign(&secret, b"synod: QUIC stateless reset tokens");
        let mut life = [0; 32];
        SystemRandom::new().fill(&mut life).map_err(|_| TransportError::NoRandomness)?;
        Ok(Self {
            tokens: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, tokens.as_ref())),
            ids: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &life)),
        })
    }

    pub(super) fn signer(&self) -> Arc<dyn quinn::crypto::HmacKey> {
        Arc::clone(&self.tokens) as _
    }

    pub(super) fn connection_ids(&self) -> ConnectionIds {
        ConnectionIds { key: Arc::clone(&self.ids), made: 0 }
    }
}

/// Connection ids of eight bytes that nobody can guess.
pub(super) struct ConnectionIds {
    key: Arc<hmac::Key>,
    made: u64,
}

const ID_BYTES: usize = 8;

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.made += 1;
        let hash = hmac::sign(&self.key, &self.made.to_be_bytes());
        ConnectionId::new(&hash.as_ref()[..ID_BYTES])
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(key: &ResetKey, id: &[u8]) -> [u8; 32] {
        let mut token = [0; 32];
        key.signer().sign(id, &mut token);
        token
    }

    #[test]
    fn tokens_survive_a_restart_and_ids_do_not_come_back() {
        let first = ResetKey::derive(b"a key").expect("has randomness");
        let second = ResetKey::derive(b"a key").expect("has randomness");
        let other = ResetKey::derive(b"another key").expect("has randomness");
        let (mut ids, mut later) = (first.connection_ids(), second.connection_ids());
        let ids: Vec<_> = (0..100).map(|_| ids.generate_cid()).collect();
        for id in &ids {
            assert_eq!(token(&first, id), token(&second, id));
            assert_ne!(token(&first, id), token(&other, id));
        }
        assert!((0..100).all(|_| !ids.contains(&later.generate_cid())));
    }
}
