//! Rejected connections and their reasons.

use crate::rogue_peer::{ALPN, callee, caller, send_frames_until_closed};
use crate::support::{CLUSTER, ONE, TWO, authority, config, eventually, loopback, peer};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use synod_transport::certificates::{CertificateAuthority, Identity, IssuedCertificate};
use synod_transport::{QuicTransport, RejectReason, Transport};
use synod_types::{ClusterId, NodeId};

const FIVE: NodeId = NodeId(5);
const NINE: NodeId = NodeId(9);

fn node(cluster: ClusterId, node: NodeId) -> IssuedCertificate {
    authority().issue_node(cluster, node).expect("issues")
}

fn client() -> IssuedCertificate {
    authority().issue_client("etcdctl").expect("issues")
}

fn foreign(node: NodeId) -> IssuedCertificate {
    // An authority of the same name, so that only its key differs.
    let other = CertificateAuthority::new(CLUSTER).expect("issues");
    other.issue_node(CLUSTER, node).expect("issues")
}

/// Returns an expired certificate that the trusted authority issued.
fn expired(node: NodeId) -> IssuedCertificate {
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
    IssuedCertificate { certificate, key: key.serialize_pem() }
}

/// Starts node 5 with the peers 1 and 9.
fn five() -> QuicTransport {
    let five = QuicTransport::bind(config(FIVE)).expect("binds");
    five.set_peers(&[peer(ONE, loopback()), peer(NINE, loopback())]);
    five
}

fn count(transport: &QuicTransport, reason: RejectReason) -> u64 {
    transport.stats().rejected.get(&reason).copied().unwrap_or(0)
}

/// Asserts that this is the only reason of rejections, and that no peer is connected.
fn assert_only(transport: &QuicTransport, reason: RejectReason) {
    let stats = transport.stats();
    assert_eq!(stats.rejected.keys().collect::<Vec<_>>(), [&reason]);
    for (node, stats) in stats.peers {
        assert_eq!((stats.connections, stats.received_frames), (0, 0), "with {node}");
    }
}

/// Asserts that node 5 rejects a caller with this certificate for this reason, and sends this alert.
async fn rejects_caller(
    issued: Option<IssuedCertificate>,
    alpn: &[u8],
    reason: RejectReason,
    alert: &str,
) {
    let five = five();
    let endpoint = caller(issued.as_ref(), alpn);
    let end = send_frames_until_closed(&endpoint, five.local_addr()).await;
    assert!(end.to_string().contains(alert), "expected alert {alert:?}, got: {end}");
    eventually("the rejection is counted", || count(&five, reason) == 1).await;
    assert_only(&five, reason);
}

/// Asserts that node 1, which dials node 2, rejects this certificate.
async fn rejects_callee(issued: IssuedCertificate, reason: RejectReason) {
    let endpoint = callee(&issued);
    let one = QuicTransport::bind(config(ONE)).expect("binds");
    one.set_peers(&[peer(TWO, endpoint.local_addr().expect("is bound"))]);
    let end = endpoint.accept().await.expect("is dialled").await;
    assert!(end.is_err(), "the handshake was completed");
    eventually("the rejection is counted", || count(&one, reason) >= 1).await;
    assert_only(&one, reason);
}

#[tokio::test]
async fn caller_with_a_foreign_ca_is_rejected() {
    let alert = "node 5 of cluster 7 rejects node 1 of cluster 7: foreign CA";
    rejects_caller(Some(foreign(ONE)), ALPN, RejectReason::ForeignCa, alert).await;
}

#[tokio::test]
async fn caller_of_another_cluster_is_rejected() {
    let issued = node(ClusterId(8), ONE);
    let alert = "node 5 of cluster 7 rejects node 1 of cluster 8: wrong cluster";
    rejects_caller(Some(issued), ALPN, RejectReason::WrongCluster, alert).await;
}

#[tokio::test]
async fn caller_that_is_not_a_peer_is_rejected() {
    let alert = "node 5 of cluster 7 rejects node 3 of cluster 7: unknown node";
    rejects_caller(Some(node(CLUSTER, NodeId(3))), ALPN, RejectReason::UnknownNode, alert).await;
}

#[tokio::test]
async fn caller_with_this_nodes_certificate_is_rejected() {
    let alert = "rejects node 5 of cluster 7: wrong node";
    rejects_caller(Some(node(CLUSTER, FIVE)), ALPN, RejectReason::WrongNode, alert).await;
}

#[tokio::test]
async fn caller_with_a_client_certificate_is_rejected() {
    let alert = "rejects client etcdctl: not a node's certificate";
    rejects_caller(Some(client()), ALPN, RejectReason::NotANode, alert).await;
}

#[tokio::test]
async fn caller_with_an_expired_certificate_is_rejected() {
    let alert = "rejects node 1 of cluster 7: certificate expired";
    rejects_caller(Some(expired(ONE)), ALPN, RejectReason::BadCertificate, alert).await;
}

#[tokio::test]
async fn caller_with_a_larger_id_is_rejected() {
    let alert = "rejects node 9 of cluster 7: wrong direction";
    rejects_caller(Some(node(CLUSTER, NINE)), ALPN, RejectReason::WrongDirection, alert).await;
}

#[tokio::test]
async fn caller_without_a_certificate_is_rejected() {
    rejects_caller(None, ALPN, RejectReason::Handshake, "").await;
}

#[tokio::test]
async fn caller_with_another_protocol_is_rejected() {
    let issued = node(CLUSTER, ONE);
    rejects_caller(Some(issued), b"h3", RejectReason::Handshake, "").await;
}

#[tokio::test]
async fn caller_that_was_removed_is_rejected() {
    let five = five();
    five.set_peers(&[peer(NINE, loopback())]);
    send_frames_until_closed(&caller(Some(&node(CLUSTER, ONE)), ALPN), five.local_addr()).await;
    eventually("the rejection is counted", || count(&five, RejectReason::UnknownNode) == 1).await;
    assert_only(&five, RejectReason::UnknownNode);
}

#[tokio::test]
async fn callee_with_a_foreign_ca_is_rejected() {
    rejects_callee(foreign(TWO), RejectReason::ForeignCa).await;
}

#[tokio::test]
async fn callee_of_another_cluster_is_rejected() {
    rejects_callee(node(ClusterId(8), TWO), RejectReason::WrongCluster).await;
}

#[tokio::test]
async fn callee_with_the_certificate_of_another_node_is_rejected() {
    rejects_callee(node(CLUSTER, NodeId(3)), RejectReason::WrongNode).await;
}

#[tokio::test]
async fn callee_with_this_nodes_certificate_is_rejected() {
    rejects_callee(node(CLUSTER, ONE), RejectReason::WrongNode).await;
}

#[tokio::test]
async fn callee_with_a_client_certificate_is_rejected() {
    rejects_callee(client(), RejectReason::NotANode).await;
}

#[tokio::test]
async fn callee_with_an_expired_certificate_is_rejected() {
    rejects_callee(expired(TWO), RejectReason::BadCertificate).await;
}
