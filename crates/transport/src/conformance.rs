//! The conformance suite of [`Transport`]s.
//!
//! Implement a [`Harness`] that starts your transport, then call [`run`], or single checks. A check that
//! fails panics with the violation. The suite needs a multi-threaded tokio runtime with time enabled. It
//! waits for conditions, each for at most [`TIMEOUT`], and never for a fixed time.
//!
//! Frames may be lost, so no check requires that a frame arrives at the first attempt: checks retransmit
//! a frame until it is received. The exception is [`loses_nothing_when_recv_is_dropped`], which sends
//! fewer frames than a queue holds.

use crate::{Peer, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use synod_types::{Lane, NodeId};
use tokio::time::{sleep, timeout};

/// Timeout of each condition that a check waits for.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Size in bytes of the frames that [`drops_instead_of_blocking`] sends.
pub const FLOOD_FRAME_BYTES: usize = 4096;

/// The interval of retransmissions.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

/// Starts the transports under test.
#[async_trait]
pub trait Harness: Send {
    /// Starts the transport of a node, without peers. A node that is started again after a close has the
    /// same address.
    async fn start(&mut self, node: NodeId) -> Arc<dyn Transport>;

    /// Returns the address of a node that was started.
    fn address(&self, node: NodeId) -> String;

    /// Returns the maximum size of a frame in bytes.
    fn max_frame(&self) -> usize;

    /// Returns a number of frames of [`FLOOD_FRAME_BYTES`] bytes that is more than all queues and buffers
    /// between two nodes hold while the receiver does not read.
    fn flood_frames(&self) -> usize;
}

/// Runs all checks in turn.
///
/// # Panics
/// If a check fails.
pub async fn run(harness: &mut dyn Harness) {
    delivers_both_ways(harness).await;
    carries_every_lane(harness).await;
    keeps_the_order_within_a_lane(harness).await;
    drops_instead_of_blocking(harness).await;
    ignores_unknown_peers(harness).await;
    drops_oversize_frames(harness).await;
    loses_nothing_when_recv_is_dropped(harness).await;
    reconnects_after_a_restart(harness).await;
    disconnects_removed_peers(harness).await;
    closing_ends_recv(harness).await;
}

/// Checks that frames arrive in both directions with their sender, empty frames included.
///
/// # Panics
/// If the check fails.
pub async fn delivers_both_ways(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "there").await;
    exchange(&*two, TWO, &*one, ONE, "and back").await;
    exchange(&*one, ONE, &*two, TWO, "").await;
    close(&[&one, &two]).await;
}

/// Checks that each lane carries frames up to the maximum size.
///
/// # Panics
/// If the check fails.
pub async fn carries_every_lane(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    for (mark, lane) in (1..).zip(Lane::ALL) {
        let small = Bytes::from(vec![mark; 3]);
        send_until_received(&*one, TWO, lane, &small, &*two, ONE).await;
        let large = Bytes::from(vec![mark; harness.max_frame()]);
        send_until_received(&*one, TWO, lane, &large, &*two, ONE).await;
    }
    close(&[&one, &two]).await;
}

/// Checks that frames of one lane are neither reordered nor duplicated.
///
/// # Panics
/// If the check fails.
pub async fn keeps_the_order_within_a_lane(harness: &mut dyn Harness) {
    const ENOUGH: usize = 200;
    let [one, two] = pair(harness).await;
    let sender = tokio::spawn(async move {
        for number in 0_u64.. {
            for lane in [Lane::Log, Lane::Bulk] {
                let mut frame = number.to_be_bytes().to_vec();
                frame.push(lane as u8);
                // Different sizes split and join frames in the stream.
                frame.resize(frame.len() + (number as usize * 37) % 5000, 0);
                one.send(TWO, lane, frame.into());
            }
            if number % 8 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut last = [None, None];
    let mut count = 0;
    while count < ENOUGH || last.contains(&None) {
        let (from, frame) = received(&*two).await;
        assert_eq!(from, ONE, "a frame of another sender");
        let number = u64::from_be_bytes(frame[..8].try_into().expect("8 bytes were sent"));
        assert_eq!(frame.len(), 9 + (number as usize * 37) % 5000, "frame {number} was cut");
        let last = &mut last[usize::from(frame[8] == Lane::Bulk as u8)];
        assert!(Some(number) > *last, "frame {number} came after {last:?}");
        *last = Some(number);
        count += 1;
    }
    sender.abort();
    close(&[&two]).await;
}

/// Checks that sending neither blocks nor fails while the receiver does not read, and that the transport
/// recovers.
///
/// # Panics
/// If the check fails.
pub async fn drops_instead_of_blocking(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "up").await;
    let flood = harness.flood_frames();
    let sender = tokio::task::spawn_blocking({
        let one = Arc::clone(&one);
        move || {
            for number in 0..flood as u64 {
                let mut frame = vec![1; FLOOD_FRAME_BYTES];
                frame[..8].copy_from_slice(&number.to_be_bytes());
                one.send(TWO, Lane::Log, frame.into());
            }
        }
    });
    timeout(TIMEOUT, sender).await.expect("send blocked").expect("send panicked");

    let end = Bytes::from_static(b"the end of the flood");
    let (mut last, mut arrived) = (None, 0);
    timeout(TIMEOUT, async {
        loop {
            one.send(TWO, Lane::Log, end.clone());
            let (_, frame) = received(&*two).await;
            if frame == end {
                break;
            }
            if frame.len() != FLOOD_FRAME_BYTES {
                continue;
            }
            let number = u64::from_be_bytes(frame[..8].try_into().expect("8 bytes were sent"));
            assert!(Some(number) > last, "frame {number} came after {last:?}");
            last = Some(number);
            arrived += 1;
        }
    })
    .await
    .expect("no frame arrived after the flood");
    assert!(arrived < flood, "all {flood} frames arrived: the queues are unbounded");
    exchange(&*one, ONE, &*two, TWO, "up again").await;
    close(&[&one, &two]).await;
}

/// Checks that frames are sent to peers and received from peers only.
///
/// # Panics
/// If the check fails.
pub async fn ignores_unknown_peers(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    let three = harness.start(THREE).await;
    three.set_peers(&peers(harness, &[TWO]));
    exchange(&*one, ONE, &*two, TWO, "known").await;
    for number in 0..50_u32 {
        three.send(TWO, Lane::Control, "unknown to the receiver".into());
        two.send(THREE, Lane::Control, "unknown to the sender".into());
        two.send(TWO, Lane::Control, "itself".into());
        // The arrival of this frame ends the round.
        let frame = Bytes::from(number.to_be_bytes().to_vec());
        loop {
            one.send(TWO, Lane::Control, frame.clone());
            let Ok(got) = timeout(RETRY_INTERVAL, received(&*two)).await else { continue };
            assert_eq!(got.0, ONE, "a frame of {:?}, which is not a peer", got.0);
            if got.1 == frame {
                break;
            }
        }
    }
    let stray = timeout(RETRY_INTERVAL, three.recv()).await;
    assert!(stray.is_err(), "received a frame of a node without this peer: {stray:?}");
    close(&[&one, &two, &three]).await;
}

/// Checks that a frame above the maximum size is dropped, and that later frames pass.
///
/// # Panics
/// If the check fails.
pub async fn drops_oversize_frames(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "up").await;
    let oversize = Bytes::from(vec![7; harness.max_frame() + 1]);
    for round in 0..5 {
        one.send(TWO, Lane::Bulk, oversize.clone());
        let after = Bytes::from(format!("after {round}"));
        loop {
            one.send(TWO, Lane::Bulk, after.clone());
            let Ok((_, frame)) = timeout(RETRY_INTERVAL, received(&*two)).await else { continue };
            assert_ne!(frame.len(), oversize.len(), "an oversize frame arrived");
            if frame == after {
                break;
            }
        }
    }
    close(&[&one, &two]).await;
}

/// Checks that a cancelled `recv`, as in a `select!`, loses no frame.
///
/// # Panics
/// If the check fails.
pub async fn loses_nothing_when_recv_is_dropped(harness: &mut dyn Harness) {
    const FRAMES: u32 = 100;
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "up").await;
    // So few that no queue is full: all must arrive without retransmission.
    let mut missing: BTreeSet<u32> = (0..FRAMES).collect();
    for number in 0..FRAMES {
        one.send(TWO, Lane::Log, number.to_be_bytes().to_vec().into());
    }
    timeout(TIMEOUT, async {
        while !missing.is_empty() {
            let taken = tokio::select! {
                biased;
                frame = two.recv() => frame,
                () = tokio::task::yield_now() => continue,
            };
            let (_, frame) = taken.expect("the transport is open");
            if let Ok(number) = frame[..].try_into() {
                missing.remove(&u32::from_be_bytes(number));
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("frames lost although no queue was full"));
    close(&[&one, &two]).await;
}

/// Checks that two nodes connect again after either one has restarted at the same address.
///
/// # Panics
/// If the check fails.
pub async fn reconnects_after_a_restart(harness: &mut dyn Harness) {
    let [mut one, mut two] = pair(harness).await;
    for start in 1..=3 {
        exchange(&*one, ONE, &*two, TWO, &format!("to two, start {start}")).await;
        exchange(&*two, TWO, &*one, ONE, &format!("to one, start {start}")).await;
        let (restarted, node, other) =
            if start % 2 == 1 { (&mut two, TWO, ONE) } else { (&mut one, ONE, TWO) };
        close(&[restarted]).await;
        *restarted = harness.start(node).await;
        restarted.set_peers(&peers(harness, &[other]));
    }
    exchange(&*one, ONE, &*two, TWO, "two again").await;
    exchange(&*two, TWO, &*one, ONE, "one again").await;
    close(&[&one, &two]).await;
}

/// Checks that a peer removed by `set_peers` is disconnected, and connected once it is added again.
///
/// # Panics
/// If the check fails.
pub async fn disconnects_removed_peers(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    let three = harness.start(THREE).await;
    three.set_peers(&peers(harness, &[TWO]));
    two.set_peers(&peers(harness, &[ONE, THREE]));
    exchange(&*one, ONE, &*two, TWO, "a peer").await;
    exchange(&*three, THREE, &*two, TWO, "another peer").await;

    two.set_peers(&peers(harness, &[THREE]));
    for number in 0..50_u32 {
        one.send(TWO, Lane::Control, "after the removal".into());
        let frame = Bytes::from(number.to_be_bytes().to_vec());
        loop {
            three.send(TWO, Lane::Control, frame.clone());
            let Ok((_, got)) = timeout(RETRY_INTERVAL, received(&*two)).await else { continue };
            assert_ne!(got, "after the removal", "a frame of a removed peer");
            if got == frame {
                break;
            }
        }
    }
    two.set_peers(&peers(harness, &[ONE, THREE]));
    exchange(&*one, ONE, &*two, TWO, "a peer again").await;
    exchange(&*two, TWO, &*one, ONE, "and the other way").await;
    close(&[&one, &two, &three]).await;
}

/// Checks that after `close`, `recv` returns the frames that had arrived and then `None`, and that `send`,
/// `set_peers` and a second `close` have no effect.
///
/// # Panics
/// If the check fails.
pub async fn closing_ends_recv(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "up").await;
    let waiting = tokio::spawn({
        let one = Arc::clone(&one);
        async move { while one.recv().await.is_some() {} }
    });
    tokio::task::yield_now().await;
    close(&[&one, &two]).await;
    timeout(TIMEOUT, waiting).await.expect("recv did not end after close").expect("recv panicked");
    let rest = async { while two.recv().await.is_some() {} };
    timeout(TIMEOUT, rest).await.expect("recv did not end after close");
    one.send(TWO, Lane::Log, "too late".into());
    one.set_peers(&peers(harness, &[TWO]));
    close(&[&one]).await;
}

/// Starts nodes 1 and 2, each the only peer of the other.
async fn pair(harness: &mut dyn Harness) -> [Arc<dyn Transport>; 2] {
    let one = harness.start(ONE).await;
    let two = harness.start(TWO).await;
    one.set_peers(&peers(harness, &[TWO]));
    two.set_peers(&peers(harness, &[ONE]));
    [one, two]
}

fn peers(harness: &dyn Harness, nodes: &[NodeId]) -> Vec<Peer> {
    nodes.iter().map(|node| Peer { node: *node, address: harness.address(*node) }).collect()
}

async fn received(transport: &dyn Transport) -> (NodeId, Bytes) {
    let frame = timeout(TIMEOUT, transport.recv()).await.expect("no frame arrived");
    frame.expect("the transport is open")
}

/// Sends a text as a control frame until the receiver has it.
async fn exchange(
    sender: &dyn Transport,
    from: NodeId,
    receiver: &dyn Transport,
    to: NodeId,
    text: &str,
) {
    let frame = Bytes::copy_from_slice(text.as_bytes());
    send_until_received(sender, to, Lane::Control, &frame, receiver, from).await;
}

async fn send_until_received(
    sender: &dyn Transport,
    to: NodeId,
    lane: Lane,
    frame: &Bytes,
    receiver: &dyn Transport,
    from: NodeId,
) {
    let arrival = async {
        loop {
            sender.send(to, lane, frame.clone());
            // Frames of earlier steps of the check are received first.
            while let Ok(got) = timeout(RETRY_INTERVAL, received(receiver)).await {
                if got.1 == *frame {
                    assert_eq!(got.0, from, "wrong sender");
                    return;
                }
            }
        }
    };
    if timeout(TIMEOUT, arrival).await.is_err() {
        panic!(
            "a frame of {} bytes from {from:?} to {to:?} on {lane:?} did not arrive",
            frame.len()
        );
    }
}

async fn close(transports: &[&Arc<dyn Transport>]) {
    for transport in transports {
        timeout(TIMEOUT, transport.close()).await.expect("close did not return");
    }
}
