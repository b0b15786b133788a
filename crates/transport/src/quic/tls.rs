//! TLS 1.3 with an explicit provider (ring). Resumption is off: every connection must present a
//! certificate. A resumption ticket could outlive a removed peer or a replaced CA.

use super::peer_verifier::PeerVerifier;
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

/// Name of the application protocol. A new wire format needs a new name.
const ALPN: &[u8] = b"synod-peer/1";

/// The TLS configuration of one node.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    own: Arc<SingleCertAndKey>,
    /// This node's certificate.
    pub(super) certificate: CertificateDer<'static>,
    /// The trusted authorities.
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

    /// Returns the configuration of one incoming connection.
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

    /// Returns the configuration of one outgoing connection.
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

/// Parses the certificates in a PEM text, which must have at least one.
fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let unreadable = |reason: String| TransportError::Credentials { what, reason };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| unreadable(error.to_string()))?;
    if read.is_empty() {
        return Err(unreadable("no certificate in the PEM text".to_owned()));
    }
    Ok(read)
}

/// Keys of the tokens of stateless resets, by which peers detect a restarted node, and of connection ids.
///
/// A killed process closes no connection, so its peers would wait for the idle timeout. But their next
/// packet reaches the restarted process, which does not know that connection and replies with a
/// stateless reset (RFC 9000, section 10.3). Peers accept a reset only with the token that the
/// process announced for the connection before its restart. So tokens must survive a restart
/// without being stored: they are a keyed hash of the connection's id, and the key is derived from
/// the node's private key, which no other node has.
#[derive(Clone)]
pub(super) struct ResetKey {
    tokens: Arc<hmac::Key>,
    /// Key of connection ids, new after every restart, because ids must not repeat.
    ids: Arc<hmac::Key>,
}

impl ResetKey {
    fn derive(private_key: &[u8]) -> Result<Self, TransportError> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, private_key);
        let tokens = hmac::sign(&secret, b"synod: QUIC stateless reset tokens");
        let mut boot_secret = [0; 32];
        SystemRandom::new().fill(&mut boot_secret).map_err(|_| TransportError::NoRandomness)?;
        Ok(Self {
            tokens: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, tokens.as_ref())),
            ids: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &boot_secret)),
        })
    }

    pub(super) fn signer(&self) -> Arc<dyn quinn::crypto::HmacKey> {
        Arc::clone(&self.tokens) as _
    }

    pub(super) fn connection_ids(&self) -> ConnectionIds {
        ConnectionIds { key: Arc::clone(&self.ids), count: 0 }
    }
}

/// Generator of unpredictable connection ids of eight bytes.
pub(super) struct ConnectionIds {
    key: Arc<hmac::Key>,
    count: u64,
}

const ID_BYTES: usize = 8;

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.count += 1;
        let hash = hmac::sign(&self.key, &self.count.to_be_bytes());
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
    fn reset_tokens_survive_a_restart_and_connection_ids_do_not_repeat() {
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
