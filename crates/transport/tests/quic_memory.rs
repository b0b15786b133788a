//! The announced length of a frame allocates no memory.
//!
//! This test is a program of its own, so that no other test changes the memory of the process.
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "shared with the other tests of QUIC")]
#[path = "quic/rogue_peer.rs"]
mod rogue_peer;
#[allow(dead_code, reason = "shared with the other tests of QUIC")]
#[path = "quic/support.rs"]
mod support;

use rogue_peer::{ALPN, caller, connect};
use support::{CLUSTER, ONE, TIMEOUT, TWO, authority, config, peer};
use synod_transport::{QuicTransport, Transport};
use tokio::time::timeout;

/// Length that each of three streams announces.
const ANNOUNCED: u32 = 1 << 30;

/// Returns the address space that this process has reserved, in bytes.
fn reserved_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("VmSize is listed");
    let kib = line.trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") << 10
}

#[tokio::test(flavor = "current_thread")]
async fn announced_length_allocates_no_memory() {
    let mut config = config(TWO);
    config.limits.max_frame = ANNOUNCED as usize;
    config.limits.queue_bytes = ANNOUNCED as usize;
    let two = QuicTransport::bind(config).expect("binds");
    let issued = authority().issue_node(CLUSTER, ONE).expect("issues");
    let rogue = caller(Some(&issued), ALPN);
    two.set_peers(&[peer(ONE, rogue.local_addr().expect("is bound"))]);
    let connection = connect(&rogue, two.local_addr()).await;

    // A small frame on each lane shows that the node reads it.
    let mut streams = Vec::new();
    for lane in 0..3 {
        let mut stream = connection.open_uni().await.expect("opens");
        stream.write_all(&[lane, 0, 0, 0, 1, lane]).await.expect("writes");
        let got = timeout(TIMEOUT, two.recv()).await.expect("arrives");
        assert_eq!(got, Some((ONE, vec![lane].into())));
        streams.push(stream);
    }
    let before = reserved_bytes();
    for stream in &mut streams {
        stream.write_all(&ANNOUNCED.to_be_bytes()).await.expect("writes");
        stream.write_all(&[0; 1000]).await.expect("writes");
    }
    // The receiver reads the announced frame before it extends the stream's window.
    let filler = vec![0; 1 << 20];
    for stream in &mut streams {
        timeout(TIMEOUT, stream.write_all(&filler)).await.expect("is read").expect("writes");
    }
    let more = reserved_bytes().saturating_sub(before);
    assert!(more < u64::from(ANNOUNCED), "{more} bytes were reserved for announced lengths");
}
