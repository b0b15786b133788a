//! Clients that write continuously, and record the acknowledged writes.

use super::{connect, put};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// One completed or failed write.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) node: usize,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    /// Error message of a write that was not acknowledged.
    pub(crate) error: Option<String>,
}

/// Client tasks that write distinct keys through every node until stopped.
pub(crate) struct Writers {
    runtime: Runtime,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    ended: Arc<Mutex<Vec<Write>>>,
}

impl Writers {
    /// Starts `each` tasks for each node.
    pub(crate) fn start(ports: &[u16], each: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let mut writers = Self {
            runtime: runtime.expect("a runtime"),
            tasks: Vec::new(),
            stop: Arc::default(),
            ended: Arc::default(),
        };
        for (node, port) in ports.iter().enumerate() {
            for task in 0..each {
                let write = write_on(
                    node,
                    *port,
                    format!("node{}/task{task}", node + 1),
                    Arc::clone(&writers.stop),
                    Arc::clone(&writers.ended),
                );
                writers.tasks.push(writers.runtime.spawn(write));
            }
        }
        writers
    }

    /// Returns the number of ended writes that match.
    pub(crate) fn count(&self, matches: impl Fn(&Write) -> bool) -> usize {
        self.ended.lock().expect("no writer panics").iter().filter(|write| matches(write)).count()
    }

    /// Returns the first ended write that matches.
    pub(crate) fn find(&self, matches: impl Fn(&Write) -> bool) -> Option<Write> {
        self.ended.lock().expect("no writer panics").iter().find(|write| matches(write)).cloned()
    }

    /// Waits for the pending writes, and returns all.
    pub(crate) fn stop(self) -> Vec<Write> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            self.runtime.block_on(task).expect("no writer panics");
        }
        std::mem::take(&mut *self.ended.lock().expect("no writer panics"))
    }
}

impl Write {
    pub(crate) fn acknowledged(&self) -> bool {
        self.error.is_none()
    }
}

async fn write_on(
    node: usize,
    port: u16,
    name: String,
    stop: Arc<AtomicBool>,
    ended: Arc<Mutex<Vec<Write>>>,
) {
    let mut client = connect(port, Duration::from_secs(10));
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let (key, value) = (format!("{name}/{number:08}"), format!("value {number}"));
        let started = Instant::now();
        let error = put(&mut client, &key, &value).await.err();
        if error.is_some() {
            // A connection to a stopped node fails in microseconds: retrying at once would take the
            // cores that the other nodes need to elect a leader.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = error.map(|status| status.message().to_owned());
        let write = Write { node, key, value, started, ended: Instant::now(), error };
        ended.lock().expect("no writer panics").push(write);
    }
}
