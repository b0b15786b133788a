//! A permitted peer that forges the sender of its messages, over real sockets.

use std::sync::Arc;
use std::time::Duration;
use synod_consensus::Role;
use synod_kv::KvStore;
use synod_raft::{Message, PreVote, PreVoteReply, Raft, RequestVote, Vote};
use synod_replica::{Envelope, Payload, decode_frame, encode_frame};
use synod_runtime::Replica;
use synod_transport::certificates::CertificateAuthority;
use synod_transport::quic::{Credentials, QuicConfig, QuicTransport};
use synod_transport::{Peer, Transport};
use synod_types::{ClusterId, Lane, NodeId};

const CLUSTER: ClusterId = ClusterId(7);
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
/// Senders that node 2 writes into its votes. With node 1's own vote they would be a majority of five.
const SENDERS: [NodeId; 3] = [TWO, NodeId(3), NodeId(4)];
/// Number of rejected frames after which the test ends.
const FORGED_FRAMES: u64 = 20;
const TIMEOUT: Duration = Duration::from_secs(60);

fn bind(authority: &CertificateAuthority, node: NodeId) -> QuicTransport {
    let issued = authority.issue_node(CLUSTER, node).expect("a new certificate");
    let ca = authority.certificate_pem().to_owned();
    let credentials = Credentials { ca, certificate: issued.certificate, key: issued.key };
    let config = QuicConfig::new(CLUSTER, node, ([127, 0, 0, 1], 0).into(), credentials);
    QuicTransport::bind(config).expect("a free port")
}

/// Starts node 1 of five; of its peers only node 2 runs.
async fn start(transport: QuicTransport, two: &QuicTransport) -> Replica {
    let absent = "127.0.0.1:1".to_owned();
    let at = |id| if NodeId(id) == TWO { two.local_addr().to_string() } else { absent.clone() };
    Replica::builder::<Raft>(CLUSTER, ONE)
        .members((1..=5).map(|id| (NodeId(id), at(id))))
        .in_memory()
        .transport(Arc::new(transport))
        .request_timeout(TIMEOUT)
        .start_untyped(KvStore::new())
        .await
        .expect("new stores open")
}

/// Returns a granted vote for a vote request.
fn grant(frame: &[u8]) -> Option<(Envelope, Message)> {
    let (envelope, payload) = decode_frame(frame).ok()?;
    let vote = match payload {
        Payload::Protocol(Message::PreVote(PreVote { next_term, .. })) => {
            Message::PreVoteReply(PreVoteReply { term: next_term, next_term, granted: true })
        }
        Payload::Protocol(Message::RequestVote(RequestVote { term, .. })) => {
            Message::Vote(Vote { term, granted: true })
        }
        _ => return None,
    };
    Some((envelope, vote))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_with_a_forged_sender_are_rejected() {
    let authority = CertificateAuthority::new(CLUSTER).expect("a new authority");
    let [one, two] = [ONE, TWO].map(|node| bind(&authority, node));
    two.set_peers(&[Peer { node: ONE, address: one.local_addr().to_string() }]);
    let node = start(one, &two).await;
    loop {
        let metrics = node.metrics();
        assert_ne!(metrics.status.role, Role::Leader, "elected by one peer of four");
        if metrics.counters.frames_forged >= FORGED_FRAMES {
            break;
        }
        let frame = tokio::time::timeout(TIMEOUT, two.recv()).await.expect("node 1 campaigns");
        let (_, frame) = frame.expect("the transport is open");
        let Some((envelope, vote)) = grant(&frame) else { continue };
        for from in SENDERS {
            let payload = Payload::Protocol(vote.clone());
            two.send(ONE, Lane::Control, encode_frame(&Envelope { from, ..envelope }, &payload));
        }
    }
    node.stop().await.expect("the replica stops");
}
