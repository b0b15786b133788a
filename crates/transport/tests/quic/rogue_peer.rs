//! Peer with a certificate and plain QUIC: it accepts every server, requires no client certificate,
//! and sends arbitrary data.

use crate::support::loopback;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use synod_transport::certificates::IssuedCertificate;

/// The transport's application protocol.
pub const ALPN: &[u8] = b"synod-peer/1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn chain(issued: &IssuedCertificate) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes());
    (vec![certificate.expect("is PEM")], key.expect("is PEM"))
}

/// Returns a calling endpoint, with a certificate if there is one.
pub fn caller(issued: Option<&IssuedCertificate>, alpn: &[u8]) -> Endpoint {
    caller_with(issued, alpn, AcceptAnyCertificate(provider(), None))
}

/// Returns an endpoint that begins a handshake, and stops in the middle of it until the sender of
/// `gate` is dropped.
pub fn stalled_caller(issued: &IssuedCertificate, gate: Receiver<()>) -> Endpoint {
    caller_with(Some(issued), ALPN, AcceptAnyCertificate(provider(), Some(Mutex::new(gate))))
}

fn caller_with(
    issued: Option<&IssuedCertificate>,
    alpn: &[u8],
    verifier: AcceptAnyCertificate,
) -> Endpoint {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("supports TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut tls = match issued.map(chain) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("key fits"),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let config = QuicClientConfig::try_from(tls).expect("is for QUIC");
    let mut endpoint = Endpoint::client(loopback()).expect("binds");
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(config)));
    endpoint
}

/// Returns an endpoint that can be dialled.
pub fn callee(issued: &IssuedCertificate) -> Endpoint {
    let (chain, key) = chain(issued);
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("supports TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key fits");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = QuicServerConfig::try_from(tls).expect("is for QUIC");
    Endpoint::server(ServerConfig::with_crypto(Arc::new(config)), loopback()).expect("binds")
}

/// Dials and sends a frame on each lane as soon as possible. Returns the error that ended the
/// connection.
pub async fn send_frames_until_closed(endpoint: &Endpoint, address: SocketAddr) -> ConnectionError {
    let intrusion = async {
        let connection = endpoint.connect(address, "any-name").expect("dials").await?;
        for lane in 0..3 {
            let mut stream = connection.open_uni().await?;
            // Frames may be sent, but must not be accepted.
            let _ = stream.write_all(&[lane, 0, 0, 0, 4, b'e', b'v', b'i', b'l']).await;
        }
        Err::<(), _>(connection.closed().await)
    };
    let end = tokio::time::timeout(Duration::from_secs(30), intrusion).await;
    end.expect("the connection is still open").expect_err("ends with an error")
}

/// Dials with a certificate that is accepted.
pub async fn connect(endpoint: &Endpoint, address: SocketAddr) -> Connection {
    endpoint.connect(address, "any-name").expect("dials").await.expect("is accepted")
}

/// Verifier that accepts any certificate, once the gate is open.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>, Option<Mutex<Receiver<()>>>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(Ok(gate)) = self.1.as_ref().map(Mutex::lock) {
            let _ = gate.recv();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
