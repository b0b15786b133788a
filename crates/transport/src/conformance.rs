//! What every [`Transport`] must do, as one suite to run over it.
//!
//! A transport of your own needs a [`Harness`]: how to start a node's transport, and how much
//! fits between two nodes. Then [`run`] runs every check; each can also be run alone. A check
//! that fails panics and says what was expected. They need a tokio runtime of several threads with
//! its clock enabled, and wait for conditions only, each up to [`PATIENCE`].
//!
//! Frames may be lost, so no check demands that a single frame arrives: what must get through is
//! sent again until it does.

use crate::{Peer, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use synod_types::{Lane, NodeId};
use tokio::time::{sleep, timeout};

/// How long a check waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How large the frames are that [`drops_instead_of_blocking`] sends, in bytes.
pub const FLOOD_FRAME: usize = 4096;

/// How often something is sent again until it arrives.
const AGAIN: Duration = Duration::from_millis(10);

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

/// Starts the transports that the suite tests.
#[async_trait]
pub trait Harness: Send {
    /// Starts the transport of a node, without peers. A node that was started before and closed
    /// comes back at the same address.
    async fn start(&mut self, node: NodeId) -> Arc<dyn Transport>;

    /// Where a node listens that was started.
    fn address(&self, node: NodeId) -> String;

    /// The largest frame that is carried, in bytes.
    fn max_frame(&self) -> usize;

    /// So many frames of [`FLOOD_FRAME`] bytes that they cannot all be under way between two nodes
    /// while nobody takes them.
    fn flood(&self) -> usize;
}

/// Runs every check, one after the other.
///
/// # Panics
/// When a check fails.
pub async fn run(harness: &mut dyn Harness) {
    delivers_both_ways(harness).await;
    carries_every_lane(harness).await;
    keeps_the_order_within_a_lane(harness).await;
    drops_instead_of_blocking(harness).await;
    ignores_unknown_peers(harness).await;
    drops_oversize_frames(harness).await;
    loses_nothing_when_recv_is_dropped(harness).await;
    reconnects_after_a_restart(harness).await;
    set_peers_cuts_off(harness).await;
    closing_ends_recv(harness).await;
}

/// Frames go both ways and carry their sender.
///
/// # Panics
/// When the check fails.
pub async fn delivers_both_ways(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "there").await;
    exchange(&*two, TWO, &*one, ONE, "and back").await;
    // An empty frame is a frame.
    exchange(&*one, ONE, &*two, TWO, "").await;
    close(&[&one, &two]).await;
}

/// Each lane carries frames, also the largest.
///
/// # Panics
/// When the check fails.
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

/// Frames of one lane never pass one another and are never doubled.
///
/// # Panics
/// When the check fails.
pub async fn keeps_the_order_within_a_lane(harness: &mut dyn Harness) {
    const ENOUGH: usize = 200;
    let [one, two] = pair(harness).await;
    let sender = tokio::spawn(async move {
        for number in 0_u64.. {
            for lane in [Lane::Log, Lane::Bulk] {
                let mut frame = number.to_be_bytes().to_vec();
                frame.push(lane as u8);
                // Sizes differ, so that frames are cut and joined on their way.
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

/// When nobody takes the frames, sending neither blocks nor fails, and the transport recovers.
///
/// # Panics
/// When the check fails.
pub async fn drops_instead_of_blocking(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "up").await;
    let flood = harness.flood();
    let sender = tokio::task::spawn_blocking({
        let one = Arc::clone(&one);
        move || {
            for number in 0..flood as u64 {
                let mut frame = vec![1; FLOOD_FRAME];
                frame[..8].copy_from_slice(&number.to_be_bytes());
                one.send(TWO, Lane::Log, frame.into());
            }
        }
    });
    timeout(PATIENCE, sender).await.expect("send blocks").expect("send panics");

    let end = Bytes::from_static(b"the end of the flood");
    let (mut last, mut arrived) = (None, 0);
    timeout(PATIENCE, async {
        loop {
            one.send(TWO, Lane::Log, end.clone());
            let (_, frame) = received(&*two).await;
            if frame == end {
                break;
            }
            if frame.len() != FLOOD_FRAME {
                continue;
            }
            let number = u64::from_be_bytes(frame[..8].try_into().expect("8 bytes were sent"));
            assert!(Some(number) > last, "frame {number} came after {last:?}");
            last = Some(number);
            arrived += 1;
        }
    })
    .await
    .expect("nothing arrives behind the flood");
    assert!(arrived < flood, "all {flood} frames arrived: the queues have no bound");
    exchange(&*one, ONE, &*two, TWO, "up again").await;
    close(&[&one, &two]).await;
}

/// Frames go to peers and come from peers only.
///
/// # Panics
/// When the check fails.
pub async fn ignores_unknown_peers(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    let three = harness.start(THREE).await;
    three.set_peers(&peers(harness, &[TWO]));
    exchange(&*one, ONE, &*two, TWO, "known").await;
    for number in 0..50_u32 {
        three.send(TWO, Lane::Control, "unknown to the receiver".into());
        two.send(THREE, Lane::Control, "unknown to the sender".into());
        two.send(TWO, Lane::Control, "itself".into());
        // Something that does arrive is the clock of this check.
        let frame = Bytes::from(number.to_be_bytes().to_vec());
        loop {
            one.send(TWO, Lane::Control, frame.clone());
            let Ok(got) = timeout(AGAIN, received(&*two)).await else { continue };
            assert_eq!(got.0, ONE, "a frame of {:?}, which is no peer", got.0);
            if got.1 == frame {
                break;
            }
        }
    }
    let stray = timeout(AGAIN, three.recv()).await;
    assert!(stray.is_err(), "a frame of a node that has no such peer: {stray:?}");
    close(&[&one, &two, &three]).await;
}

/// A frame above the limit is dropped, and costs nothing else its way.
///
/// # Panics
/// When the check fails.
pub async fn drops_oversize_frames(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "up").await;
    let oversize = Bytes::from(vec![7; harness.max_frame() + 1]);
    for round in 0..5 {
        one.send(TWO, Lane::Bulk, oversize.clone());
        let behind = Bytes::from(format!("behind {round}"));
        loop {
            one.send(TWO, Lane::Bulk, behind.clone());
            let Ok((_, frame)) = timeout(AGAIN, received(&*two)).await else { continue };
            assert_ne!(frame.len(), oversize.len(), "an oversize frame was carried");
            if frame == behind {
                break;
            }
        }
    }
    close(&[&one, &two]).await;
}

/// A `recv` that is given up, as in a `select!`, takes no frame with it.
///
/// # Panics
/// When the check fails.
pub async fn loses_nothing_when_recv_is_dropped(harness: &mut dyn Harness) {
    const FRAMES: u32 = 100;
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "up").await;
    // Few enough that nothing need be dropped; what is not lost arrives without sending again.
    let mut missing: BTreeSet<u32> = (0..FRAMES).collect();
    for number in 0..FRAMES {
        one.send(TWO, Lane::Log, number.to_be_bytes().to_vec().into());
    }
    timeout(PATIENCE, async {
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
    .unwrap_or_else(|_| panic!("lost although nothing was full"));
    close(&[&one, &two]).await;
}

/// A peer that stops and comes back at its address is connected again, whichever side it is.
///
/// # Panics
/// When the check fails.
pub async fn reconnects_after_a_restart(harness: &mut dyn Harness) {
    let [mut one, mut two] = pair(harness).await;
    for life in 1..=3 {
        exchange(&*one, ONE, &*two, TWO, &format!("to two, life {life}")).await;
        exchange(&*two, TWO, &*one, ONE, &format!("to one, life {life}")).await;
        let (restarted, node, other) =
            if life % 2 == 1 { (&mut two, TWO, ONE) } else { (&mut one, ONE, TWO) };
        close(&[restarted]).await;
        *restarted = harness.start(node).await;
        restarted.set_peers(&peers(harness, &[other]));
    }
    exchange(&*one, ONE, &*two, TWO, "still there").await;
    exchange(&*two, TWO, &*one, ONE, "so am I").await;
    close(&[&one, &two]).await;
}

/// A node that is taken from the peers is cut off, and one that is added again is back.
///
/// # Panics
/// When the check fails.
pub async fn set_peers_cuts_off(harness: &mut dyn Harness) {
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
            let Ok((_, got)) = timeout(AGAIN, received(&*two)).await else { continue };
            assert_ne!(got, "after the removal", "a frame of a peer that was removed");
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

/// After `close`, what had arrived can be taken, then `recv` ends; `send` does nothing.
///
/// # Panics
/// When the check fails.
pub async fn closing_ends_recv(harness: &mut dyn Harness) {
    let [one, two] = pair(harness).await;
    exchange(&*one, ONE, &*two, TWO, "up").await;
    let waiting = tokio::spawn({
        let one = Arc::clone(&one);
        async move { while one.recv().await.is_some() {} }
    });
    tokio::task::yield_now().await;
    close(&[&one, &two]).await;
    timeout(PATIENCE, waiting).await.expect("recv outlives close").expect("recv panics");
    let rest = async { while two.recv().await.is_some() {} };
    timeout(PATIENCE, rest).await.expect("recv outlives close");
    one.send(TWO, Lane::Log, "too late".into());
    one.set_peers(&peers(harness, &[TWO]));
    close(&[&one]).await;
}

/// Nodes 1 and 2, freshly started, each the other's only peer.
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
    let frame = timeout(PATIENCE, transport.recv()).await.expect("nothing arrives");
    frame.expect("the transport is open")
}

/// Sends a text as a control frame until the other side has it.
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
            // Whatever else waits, of earlier steps of the check, is taken first.
            while let Ok(got) = timeout(AGAIN, received(receiver)).await {
                if got.1 == *frame {
                    assert_eq!(got.0, from, "the frame names another sender");
                    return;
                }
            }
        }
    };
    if timeout(PATIENCE, arrival).await.is_err() {
        panic!("a frame of {} bytes from {from:?} to {to:?} on {lane:?} is lost", frame.len());
    }
}

async fn close(transports: &[&Arc<dyn Transport>]) {
    for transport in transports {
        timeout(PATIENCE, transport.close()).await.expect("close does not end");
    }
}
