//! Limits under load: stalled handshakes, full lanes.

use crate::rogue_peer::{ALPN, caller, connect, stalled_caller};
use crate::support::{CLUSTER, ONE, TIMEOUT, TWO, authority, config, eventually, loopback, peer};
use std::time::Duration;
use synod_transport::{QuicTransport, RejectReason, Transport};
use synod_types::Lane;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_handshakes_are_bounded_and_time_out() {
    let mut config = config(TWO);
    config.max_handshakes = 1;
    config.handshake_timeout = Duration::from_millis(500);
    let two = QuicTransport::bind(config).expect("binds");
    two.set_peers(&[peer(ONE, loopback())]);
    let (address, rejected) = (two.local_addr(), || two.stats().rejected);
    let issued = authority().issue_node(CLUSTER, ONE).expect("issues");

    let (open_gate, gate) = std::sync::mpsc::channel();
    // On its own thread, which it blocks.
    let stalling = std::thread::spawn({
        let issued = issued.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("builds").block_on(async {
                let stalled = stalled_caller(&issued, gate);
                let connecting = stalled.connect(address, "any-name").expect("dials");
                // The result does not matter.
                let _ = timeout(Duration::from_secs(5), connecting).await;
            });
        }
    });
    let other = caller(Some(&issued), ALPN);
    let mut dialling = Vec::new();
    eventually("a second handshake is rejected", || {
        dialling.push(other.connect(address, "any-name").expect("dials"));
        rejected().contains_key(&RejectReason::Overload)
    })
    .await;
    drop(dialling);
    // The stalled handshake times out, which frees its slot.
    let connection = timeout(TIMEOUT, connect(&other, address)).await.expect("is accepted");
    eventually("the link is up", || two.stats().peers[&ONE].connected).await;
    drop(open_gate);
    connection.close(0_u32.into(), b"done");
    two.close().await;
    stalling.join().expect("ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeat_does_not_wait_for_a_snapshot() {
    let one = QuicTransport::bind(config(ONE)).expect("binds");
    let two = QuicTransport::bind(config(TWO)).expect("binds");
    two.set_peers(&[peer(ONE, one.local_addr())]);
    one.set_peers(&[peer(TWO, two.local_addr())]);
    eventually("they are connected", || one.stats().peers[&TWO].connected).await;

    // Fill every queue and window between the two nodes with the snapshot: more than 100 frames of
    // 10 KB.
    let snapshot = vec![1; 10_000];
    eventually("the bulk lane is full", || {
        one.send(TWO, Lane::Bulk, snapshot.clone().into());
        one.send(TWO, Lane::Bulk, snapshot.clone().into());
        one.stats().peers[&TWO].dropped_frames > 0
    })
    .await;
    one.send(TWO, Lane::Control, "heartbeat".into());
    // A reader that is much slower than the network.
    let mut before = 0;
    loop {
        let (_, frame) = timeout(TIMEOUT, two.recv()).await.expect("arrives").expect("is open");
        if frame == "heartbeat" {
            break;
        }
        before += 1;
        sleep(Duration::from_millis(10)).await;
    }
    assert!(before < 60, "{before} frames of the snapshot arrived before the heartbeat");
}
