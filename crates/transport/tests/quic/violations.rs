//! An authenticated peer that violates the protocol is disconnected with the reason. The node
//! continues.

use crate::rogue_peer::{ALPN, caller, connect};
use crate::support::{CLUSTER, ONE, TIMEOUT, TWO, authority, config, eventually, peer};
use quinn::{Connection, Endpoint, VarInt};
use synod_transport::{QuicTransport, Transport};
use synod_types::Lane;
use tokio::time::timeout;

/// Starts node 2, and a rogue endpoint with the certificate of its peer 1.
fn node_and_rogue_peer() -> (QuicTransport, Endpoint) {
    let two = QuicTransport::bind(config(TWO)).expect("binds");
    let issued = authority().issue_node(CLUSTER, ONE).expect("issues");
    let rogue = caller(Some(&issued), ALPN);
    two.set_peers(&[peer(ONE, rogue.local_addr().expect("is bound"))]);
    (two, rogue)
}

/// Opens a stream with these bytes, which stays open until the connection ends.
async fn stream(connection: &Connection, bytes: &[u8]) -> quinn::SendStream {
    let mut stream = connection.open_uni().await.expect("opens");
    stream.write_all(bytes).await.expect("writes");
    stream
}

async fn assert_closed(connection: &Connection, reason: &str) {
    let end = timeout(TIMEOUT, connection.closed()).await.expect("is closed").to_string();
    assert!(end.contains("protocol violation") && end.contains(reason), "{end}");
}

#[tokio::test]
async fn protocol_violation_closes_only_its_connection() {
    let (two, rogue) = node_and_rogue_peer();
    let address = two.local_addr();

    let connection = connect(&rogue, address).await;
    let _stream = stream(&connection, &[1, 0xff, 0xff, 0xff, 0xff]).await;
    assert_closed(&connection, "frame length 4294967295 exceeds the limit").await;

    let connection = connect(&rogue, address).await;
    let _stream = stream(&connection, &[4]).await;
    assert_closed(&connection, "unknown lane 4").await;

    let connection = connect(&rogue, address).await;
    let _streams = (stream(&connection, &[0]).await, stream(&connection, &[0]).await);
    assert_closed(&connection, "a second stream for lane Control").await;

    let connection = connect(&rogue, address).await;
    stream(&connection, &[0]).await.finish().expect("is open");
    assert_closed(&connection, "the stream of lane Control ended").await;

    let connection = connect(&rogue, address).await;
    stream(&connection, &[]).await.finish().expect("is open");
    assert_closed(&connection, "a stream ended before its lane byte").await;

    let connection = connect(&rogue, address).await;
    let mut reset = stream(&connection, &[2, 0, 0]).await;
    reset.reset(VarInt::from_u32(9)).expect("is open");
    assert_closed(&connection, "reset").await;

    // Later connections without violations are served.
    let connection = connect(&rogue, address).await;
    let _stream = stream(&connection, &[0, 0, 0, 0, 2, b'o', b'k']).await;
    let got = timeout(TIMEOUT, two.recv()).await.expect("arrives");
    assert_eq!(got, Some((ONE, "ok".into())));
    assert_eq!(two.stats().peers[&ONE].connections, 7);
    assert_eq!(two.stats().peers[&ONE].received_frames, 1);
}

#[tokio::test]
async fn oversize_frame_is_dropped_by_the_sender() {
    let one = QuicTransport::bind(config(ONE)).expect("binds");
    let two = QuicTransport::bind(config(TWO)).expect("binds");
    two.set_peers(&[peer(ONE, one.local_addr())]);
    one.set_peers(&[peer(TWO, two.local_addr())]);
    let largest = config(ONE).limits.max_frame;
    one.send(TWO, Lane::Bulk, vec![1; largest + 1].into());
    one.send(TWO, Lane::Bulk, vec![2; largest].into());
    let got = timeout(TIMEOUT, two.recv()).await.expect("arrives");
    assert_eq!(got, Some((ONE, vec![2; largest].into())));
    let stats = one.stats().peers[&TWO];
    assert_eq!((stats.connections, stats.sent_frames, stats.dropped_frames), (1, 1, 1));
}

#[tokio::test]
async fn bidirectional_streams_and_datagrams_are_not_accepted() {
    let (two, rogue) = node_and_rogue_peer();
    let connection = connect(&rogue, two.local_addr()).await;
    assert_eq!(connection.max_datagram_size(), None);
    let opening = connection.open_bi();
    let rejected = timeout(std::time::Duration::from_millis(100), opening).await.is_err();
    assert!(rejected, "a bidirectional stream was opened");
    let _streams = (
        stream(&connection, &[0]).await,
        stream(&connection, &[1]).await,
        stream(&connection, &[2]).await,
        stream(&connection, &[3]).await,
    );
    let opening = connection.open_uni();
    let rejected = timeout(std::time::Duration::from_millis(100), opening).await.is_err();
    assert!(rejected, "a fifth stream was opened");
}

#[tokio::test]
async fn removing_a_peer_closes_its_connection() {
    let (two, rogue) = node_and_rogue_peer();
    let connection = connect(&rogue, two.local_addr()).await;
    eventually("it is connected", || two.stats().peers[&ONE].connected).await;
    two.set_peers(&[]);
    let end = timeout(TIMEOUT, connection.closed()).await.expect("is closed").to_string();
    assert!(end.contains("no longer a peer"), "{end}");
    assert!(two.stats().peers.is_empty());
}
