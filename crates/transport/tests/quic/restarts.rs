//! Nodes that are killed and restarted.

use crate::support::{CLUSTER, ONE, TIMEOUT, TWO, bind, config, eventually, peer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use synod_transport::{QuicConfig, QuicTransport, RejectReason, Transport, TransportError};
use synod_types::{Lane, NodeId};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// A node on a runtime of its own, which can be killed like a process: at once and without a notice.
struct Process {
    /// There until it is killed.
    runtime: Option<Runtime>,
    /// Shared, so that it can outlive the runtime.
    transport: Arc<QuicTransport>,
    config: QuicConfig,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The default would wait, which asynchronous code must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns a configuration with an idle timeout longer than these tests wait.
fn patient(node: NodeId) -> QuicConfig {
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

    fn meet(&self, other: &Self) {
        self.transport.set_peers(&[peer(other.config.node, other.address())]);
    }

    /// Stops at once; what is returned starts it again at the same address.
    async fn kill(mut self) -> QuicConfig {
        let (runtime, transport) = (self.runtime.take(), Arc::clone(&self.transport));
        let stop = || runtime.map(|runtime| runtime.shutdown_timeout(TIMEOUT));
        tokio::task::spawn_blocking(stop).await.expect("stops");
        // Only now: with its tasks gone, it cannot say goodbye any more.
        drop(transport);
        self.config.clone()
    }

    async fn talks_to(&self, other: &Self) {
        let (from, to) = (self.config.node, other.config.node);
        let text = format!("{from:?} to {to:?}, {:?}", self.transport.stats());
        let talk = async {
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
        timeout(TIMEOUT, talk).await.unwrap_or_else(|_| panic!("{from:?} cannot reach {to:?}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialler_detects_a_restart_by_a_stateless_reset() {
    let one = Process::start(patient(ONE)).await;
    let mut two = Process::start(patient(TWO)).await;
    for life in 1..=3 {
        one.meet(&two);
        two.meet(&one);
        one.talks_to(&two).await;
        two.talks_to(&one).await;
        assert_eq!(one.transport.stats().peers[&TWO].connections, life);
        let config = two.kill().await;
        assert!(one.transport.stats().peers[&TWO].connected, "nothing was said");
        two = Process::start(config).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_dialler_replaces_its_old_connection() {
    let mut one = Process::start(patient(ONE)).await;
    // Says nothing by itself, so that no reset tells it that the former life is over.
    let mut silent = patient(TWO);
    silent.keep_alive = 2 * TIMEOUT;
    let two = Process::start(silent).await;
    for life in 1..=3 {
        one.meet(&two);
        two.meet(&one);
        one.talks_to(&two).await;
        two.talks_to(&one).await;
        assert_eq!(two.transport.stats().peers[&ONE].connections, life);
        let config = one.kill().await;
        assert!(two.transport.stats().peers[&ONE].connected, "nothing was said");
        one = Process::start(config).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_stays_down_times_out_and_is_reconnected() {
    let one = Process::start(config(ONE)).await;
    let two = Process::start(config(TWO)).await;
    one.meet(&two);
    two.meet(&one);
    one.talks_to(&two).await;
    let config = two.kill().await;
    let connected = || one.transport.stats().peers[&TWO].connected;
    eventually("the dead peer is given up", || !connected()).await;
    let two = Process::start(config).await;
    two.meet(&one);
    one.talks_to(&two).await;
    two.talks_to(&one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_processes_with_one_identity_is_rejected() {
    let one = Process::start(patient(ONE)).await;
    let two = Process::start(patient(TWO)).await;
    one.meet(&two);
    two.meet(&one);
    one.talks_to(&two).await;

    let clone = Process::start(patient(ONE)).await;
    clone.meet(&two);
    let refused = || two.transport.stats().rejected.get(&RejectReason::AlreadyConnected).copied();
    eventually("the clone is refused, twice", || refused() >= Some(2)).await;
    one.talks_to(&two).await;
    assert_eq!(two.transport.stats().peers[&ONE].connections, 1);
    assert_eq!(clone.transport.stats().peers[&TWO].connections, 0);

    // When the first one is gone for good, the other may have its place.
    one.transport.close().await;
    clone.talks_to(&two).await;
}

#[tokio::test]
async fn bind_error_names_its_reason() {
    let taken = QuicTransport::bind(config(ONE)).expect("binds");
    let mut second = config(ONE);
    second.listen = taken.local_addr();
    let error = QuicTransport::bind(second).err().expect("the port is taken");
    assert!(matches!(error, TransportError::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&taken.local_addr().to_string()), "{error}");

    let mut stranger = config(ONE);
    stranger.node = TWO;
    let error = QuicTransport::bind(stranger).err().expect("the certificate is another's");
    let said = format!("the certificate is that of node 1 of cluster {CLUSTER}");
    assert!(error.to_string().starts_with(&said), "{error}");

    let mut mismatched = config(ONE);
    mismatched.credentials.key = config(ONE).credentials.key;
    let error = QuicTransport::bind(mismatched).err().expect("the key is another's");
    assert!(matches!(error, TransportError::Credentials { .. }), "{error}");

    let mut restless = config(ONE);
    restless.keep_alive = restless.idle_timeout;
    let error = QuicTransport::bind(restless).err().expect("the keep-alive comes too late");
    assert_eq!(error.to_string(), "keep_alive must be at most half of idle_timeout");
}

#[test]
fn binding_outside_a_runtime_is_an_error() {
    let error = QuicTransport::bind(config(ONE)).err().expect("there is no runtime");
    assert!(matches!(error, TransportError::NoRuntime(_)), "{error}");
}
