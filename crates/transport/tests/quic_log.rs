//! A rejected connection is logged by both nodes, with the reason.
//!
//! This test is a program of its own: with the threads of other tests in the process, a thread-local
//! subscriber does not reliably receive all lines.

#[allow(dead_code, reason = "shared with the other tests of QUIC")]
#[path = "quic/support.rs"]
mod support;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use support::{ONE, TWO, config, eventually, peer};
use synod_transport::{QuicTransport, Transport};
use synod_types::NodeId;
use tracing::Level;

/// The logged lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines_with(&self, parts: &[&str]) -> usize {
        let log = self.0.lock().expect("no writer panics");
        let log = String::from_utf8_lossy(&log);
        log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}

// One thread, because the subscriber is thread-local.
#[tokio::test(flavor = "current_thread")]
async fn rejection_is_logged_once_by_both_nodes() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let one = QuicTransport::bind(config(ONE)).expect("binds");
    let two = QuicTransport::bind(config(TWO)).expect("binds");
    two.set_peers(&[peer(NodeId(3), one.local_addr())]);
    one.set_peers(&[peer(TWO, two.local_addr())]);
    let rejected = || two.stats().rejected.values().sum::<u64>();
    eventually("the connection was rejected three times", || rejected() >= 3).await;

    let accepting = [
        "WARN",
        "rejected a peer connection",
        "local=node 2 of cluster 7",
        "remote=\"node 1 of cluster 7\"",
        "reason=unknown node",
    ];
    assert_eq!(log.lines_with(&accepting), 1);
    let dialling = ["WARN", "peer rejected", "local=node 1 of cluster 7", "unknown node"];
    assert_eq!(log.lines_with(&dialling), 1);
}
