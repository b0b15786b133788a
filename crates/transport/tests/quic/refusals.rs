//! Who is refused, and that it is for the right reason.

use crate::strangers::{ALPN, callee, caller, intrude};
use crate::support::{CLUSTER, ONE, TWO, authority, config, eventually, loopback, peer};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use synod_transport::certs::{CertificateAuthority, Identity, Issued};
use synod_transport::{QuicTransport, Refusal, Transport};
use synod_types::{ClusterId, NodeId};

const FIVE: NodeId = NodeId(5);
const NINE: NodeId = NodeId(9);

fn node(cluster: ClusterId, node: NodeId) -> Issued {
    authority().issue_node(cluster, node).expect("issues")
}

fn client() -> Issued {
    authority().issue_client("etcdctl").expect("issues")
}

fn foreign(node: NodeId) -> Issued {
    // An authority of the same name, so that only its key tells it from ours.
    let other = CertificateAuthority::new(CLUSTER).expect("makes a CA");
    other.issue_node(CLUSTER, node).expect("issues")
}

/// A certificate that our own authority would not issue any more.
fn expired(node: NodeId) -> Issued {
    let ca_key = KeyPair::from_pem(&authority().key_pem()).expect("is PEM");
    let issuer = Issuer::from_ca_cert_pem(authority().certificate_pem(), ca_key).expect("is PEM");
    let name = Identity::Node { cluster: CLUSTER, node }.dns_name();
    let mut params = CertificateParams::new([name]).expect("is a name");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().expect("generates");
    let certificate = params.signed_by(&key, &issuer).expect("signs").pem();
    Issued { certificate, key: key.serialize_pem() }
}

/// Node 5 with the peers 1 and 9.
fn five() -> QuicTransport {
    let five = QuicTransport::bind(config(FIVE)).expect("binds");
    five.set_peers(&[peer(ONE, loopback()), peer(NINE, loopback())]);
    five
}

fn count(transport: &QuicTransport, why: Refusal) -> u64 {
    transport.stats().refused.get(&why).copied().unwrap_or(0)
}

/// Nobody else was refused, nobody was let in, nothing was taken in.
fn assert_only(transport: &QuicTransport, why: Refusal) {
    let stats = transport.stats();
    assert_eq!(stats.refused.keys().collect::<Vec<_>>(), [&why]);
    for (node, stats) in stats.peers {
        assert_eq!((stats.connections, stats.received_frames), (0, 0), "with {node}");
    }
}

/// A caller with this certificate is refused by node 5 for this reason, and told `told`.
async fn refuses_caller(issued: Option<Issued>, alpn: &[u8], why: Refusal, told: &str) {
    let five = five();
    let stranger = caller(issued.as_ref(), alpn);
    let end = intrude(&stranger, five.local_addr()).await;
    assert!(end.to_string().contains(told), "{end} does not say: {told}");
    eventually("the refusal is counted", || count(&five, why) == 1).await;
    assert_only(&five, why);
}

/// Node 1, which dials node 2, refuses to talk to somebody with this certificate.
async fn refuses_callee(issued: Issued, why: Refusal) {
    let stranger = callee(&issued);
    let one = QuicTransport::bind(config(ONE)).expect("binds");
    one.set_peers(&[peer(TWO, stranger.local_addr().expect("is bound"))]);
    let end = stranger.accept().await.expect("is dialled").await;
    assert!(end.is_err(), "the handshake was completed");
    eventually("the refusal is counted", || count(&one, why) >= 1).await;
    assert_only(&one, why);
}

#[tokio::test]
async fn a_caller_with_a_foreign_ca() {
    let told = "node 5 of cluster 7 refuses node 1 of cluster 7: foreign CA";
    refuses_caller(Some(foreign(ONE)), ALPN, Refusal::ForeignCa, told).await;
}

#[tokio::test]
async fn a_caller_of_another_cluster() {
    let issued = node(ClusterId(8), ONE);
    let told = "node 5 of cluster 7 refuses node 1 of cluster 8: wrong cluster";
    refuses_caller(Some(issued), ALPN, Refusal::WrongCluster, told).await;
}

#[tokio::test]
async fn a_caller_that_is_no_peer() {
    let told = "node 5 of cluster 7 refuses node 3 of cluster 7: unknown node";
    refuses_caller(Some(node(CLUSTER, NodeId(3))), ALPN, Refusal::UnknownNode, told).await;
}

#[tokio::test]
async fn a_caller_with_our_own_certificate() {
    let told = "refuses node 5 of cluster 7: certificate of another node";
    refuses_caller(Some(node(CLUSTER, FIVE)), ALPN, Refusal::WrongNode, told).await;
}

#[tokio::test]
async fn a_caller_with_a_client_certificate() {
    let told = "refuses client etcdctl: not a node's certificate";
    refuses_caller(Some(client()), ALPN, Refusal::NotANode, told).await;
}

#[tokio::test]
async fn a_caller_with_an_expired_certificate() {
    let told = "refuses node 1 of cluster 7: certificate expired";
    refuses_caller(Some(expired(ONE)), ALPN, Refusal::BadCertificate, told).await;
}

#[tokio::test]
async fn a_caller_that_should_be_dialled() {
    let told = "refuses node 9 of cluster 7: wrong direction";
    refuses_caller(Some(node(CLUSTER, NINE)), ALPN, Refusal::WrongDirection, told).await;
}

#[tokio::test]
async fn a_caller_without_a_certificate() {
    refuses_caller(None, ALPN, Refusal::Handshake, "").await;
}

#[tokio::test]
async fn a_caller_of_another_protocol() {
    let issued = node(CLUSTER, ONE);
    refuses_caller(Some(issued), b"h3", Refusal::Handshake, "").await;
}

#[tokio::test]
async fn a_caller_that_was_removed() {
    let five = five();
    five.set_peers(&[peer(NINE, loopback())]);
    intrude(&caller(Some(&node(CLUSTER, ONE)), ALPN), five.local_addr()).await;
    eventually("the refusal is counted", || count(&five, Refusal::UnknownNode) == 1).await;
    assert_only(&five, Refusal::UnknownNode);
}

#[tokio::test]
async fn a_callee_with_a_foreign_ca() {
    refuses_callee(foreign(TWO), Refusal::ForeignCa).await;
}

#[tokio::test]
async fn a_callee_of_another_cluster() {
    refuses_callee(node(ClusterId(8), TWO), Refusal::WrongCluster).await;
}

#[tokio::test]
async fn a_callee_with_the_certificate_of_another_node() {
    refuses_callee(node(CLUSTER, NodeId(3)), Refusal::WrongNode).await;
}

#[tokio::test]
async fn a_callee_with_our_own_certificate() {
    refuses_callee(node(CLUSTER, ONE), Refusal::WrongNode).await;
}

#[tokio::test]
async fn a_callee_with_a_client_certificate() {
    refuses_callee(client(), Refusal::NotANode).await;
}

#[tokio::test]
async fn a_callee_with_an_expired_certificate() {
    refuses_callee(expired(TWO), Refusal::BadCertificate).await;
}
