//! Nodes that are killed and restarted.

use crate::support::{CLUSTER, ONE, TIMEOUT, TWO, bind, config, eventually, peer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use synod_transport::{QuicConfig, QuicTransport, RejectReason, Transport, TransportError};
use synod_types::{Lane, NodeId};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Node on its own runtime, which can be killed like a process: at once and without notice.
struct Process {
    /// `None` once it is killed.
    runtime: Option<Runtime>,
    /// Shared, so that it can outlive the runtime.
    transport: Arc<QuicTransport>,
    config: QuicConfig,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The default drop blocks, which asynchronous code must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns a configuration with an idle timeout longer than these tests wait.
fn long_idle_config(node: NodeId) -> QuicConfig {
    let mut config = config(node);
    config.idle_timeout = 4 * TIMEOUT;
    config.keep_alive = Duration::from_millis(100);
    config
}

impl Process {
    async fn start(mut config: QuicConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("builds");
        let binding = config.clone();
        let transport = runtime.spawn(async move { bind(&binding).await }).await.expect("binds");
        config.listen = transport.local_addr();
        Self { runtime: Some(runtime), transport: Arc::new(transport), config }
    }

    fn address(&self) -> SocketAddr {
        self.config.listen
    }

    fn set_peer(&self, other: &Self) {
        self.transport.set_peers(&[peer(other.config.node, other.address())]);
    }

    /// Stops the node at once. Returns the configuration for a restart at the same address.
    async fn kill(mut self) -> QuicConfig {
        let (runtime, transport) = (self.runtime.take(), Arc::clone(&self.transport));
        let stop = || runtime.map(|runtime| runtime.shutdown_timeout(TIMEOUT));
        tokio::task::spawn_blocking(stop).await.expect("stops");
        // Dropped after its tasks have ended, so that it sends no close notice.
        drop(transport);
        self.config.clone()
    }

    async fn assert_reaches(&self, other: &Self) {
        let (from, to) = (self.config.node, other.config.node);
        let text = format!("{from:?} to {to:?}, {:?}", self.transport.stats());
        let exchange = async {
            loop {
                self.transport.send(to, Lane::Log, text.clone().into());
                let received = other.transport.recv();
                let Ok(got) = timeout(Duration::from_millis(10), received).await else { continue };
                let (sender, frame) = got.expect("is open");
                assert_eq!(sender, from);
                if frame == text {
                    return;
                }
            }
        };
        timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| panic!("{from:?} cannot reach {to:?}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialler_detects_a_restart_by_a_stateless_reset() {
    let one = Process::start(long_idle_config(ONE)).await;
    let mut two = Process::start(long_idle_config(TWO)).await;
    for start in 1..=3 {
        one.set_peer(&two);
        two.set_peer(&one);
        one.assert_reaches(&two).await;
        two.assert_reaches(&one).await;
        assert_eq!(one.transport.stats().peers[&TWO].connections, start);
        let config = two.kill().await;
        assert!(one.transport.stats().peers[&TWO].connected, "the node sent a close notice");
        two = Process::start(config).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_dialler_replaces_its_old_connection() {
    let mut one = Process::start(long_idle_config(ONE)).await;
    // Sends no keep-alives, so that no reset reveals the restart.
    let mut silent = long_idle_config(TWO);
    silent.keep_alive = 2 * TIMEOUT;
    let two = Process::start(silent).await;
    for start in 1..=3 {
        one.set_peer(&two);
        two.set_peer(&one);
        one.assert_reaches(&two).await;
        two.assert_reaches(&one).await;
        assert_eq!(two.transport.stats().peers[&ONE].connections, start);
        let config = one.kill().await;
        assert!(two.transport.stats().peers[&ONE].connected, "the node sent a close notice");
        one = Process::start(config).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_stays_down_times_out_and_is_reconnected() {
    let one = Process::start(config(ONE)).await;
    let two = Process::start(config(TWO)).await;
    one.set_peer(&two);
    two.set_peer(&one);
    one.assert_reaches(&two).await;
    let config = two.kill().await;
    let connected = || one.transport.stats().peers[&TWO].connected;
    eventually("the connection to the dead peer timed out", || !connected()).await;
    let two = Process::start(config).await;
    two.set_peer(&one);
    one.assert_reaches(&two).await;
    two.assert_reaches(&one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_process_with_the_same_identity_is_rejected() {
    let one = Process::start(long_idle_config(ONE)).await;
    let two = Process::start(long_idle_config(TWO)).await;
    one.set_peer(&two);
    two.set_peer(&one);
    one.assert_reaches(&two).await;

    let clone = Process::start(long_idle_config(ONE)).await;
    clone.set_peer(&two);
    let rejected = || two.transport.stats().rejected.get(&RejectReason::AlreadyConnected).copied();
    eventually("the clone is rejected twice", || rejected() >= Some(2)).await;
    one.assert_reaches(&two).await;
    assert_eq!(two.transport.stats().peers[&ONE].connections, 1);
    assert_eq!(clone.transport.stats().peers[&TWO].connections, 0);

    // After the first one has closed, the other may connect.
    one.transport.close().await;
    clone.assert_reaches(&two).await;
}

#[tokio::test]
async fn bind_error_states_its_reason() {
    let taken = QuicTransport::bind(config(ONE)).expect("binds");
    let mut second = config(ONE);
    second.listen = taken.local_addr();
    let error = QuicTransport::bind(second).err().expect("the port is taken");
    assert!(matches!(error, TransportError::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&taken.local_addr().to_string()), "{error}");

    let mut other_node = config(ONE);
    other_node.node = TWO;
    let error =
        QuicTransport::bind(other_node).err().expect("the certificate belongs to another node");
    let expected = format!("the certificate belongs to node 1 of cluster {CLUSTER}");
    assert!(error.to_string().starts_with(&expected), "{error}");

    let mut mismatched = config(ONE);
    mismatched.credentials.key = config(ONE).credentials.key;
    let error =
        QuicTransport::bind(mismatched).err().expect("the key belongs to another certificate");
    assert!(matches!(error, TransportError::Credentials { .. }), "{error}");

    let mut invalid = config(ONE);
    invalid.keep_alive = invalid.idle_timeout;
    let error = QuicTransport::bind(invalid).err().expect("the keep-alive is too long");
    assert_eq!(error.to_string(), "keep_alive must be at most half of idle_timeout");
}

#[test]
fn binding_outside_a_runtime_is_an_error() {
    let error = QuicTransport::bind(config(ONE)).err().expect("there is no runtime");
    assert!(matches!(error, TransportError::NoRuntime(_)), "{error}");
}
