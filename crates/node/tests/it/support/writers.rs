//! Clients that write as fast as they can, and remember what was acknowledged.

use super::{connect, put};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// One write that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) node: usize,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// What the node said instead of acknowledging it.
    pub(crate) error: Option<String>,
}

/// Tasks that write keys of their own through every node until they are told to stop.
pub(crate) struct Writers {
    runtime: Runtime,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    ended: Arc<Mutex<Vec<Write>>>,
}

impl Writers {
    /// `each` tasks for each node.
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

    /// How many writes that fit have ended.
    pub(crate) fn count(&self, fits: impl Fn(&Write) -> bool) -> usize {
        self.ended.lock().expect("no writer panics").iter().filter(|write| fits(write)).count()
    }

    /// The first write that fits, of those that have ended.
    pub(crate) fn find(&self, fits: impl Fn(&Write) -> bool) -> Option<Write> {
        self.ended.lock().expect("no writer panics").iter().find(|write| fits(write)).cloned()
    }

    /// Lets the writes under way end, and returns all.
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
        let begun = Instant::now();
        let error = put(&mut client, &key, &value).await.err();
        if error.is_some() {
            // A dead node refuses in microseconds: asking it on and on would take the cores that
            // the others need to elect a leader.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = error.map(|status| status.message().to_owned());
        let write = Write { node, key, value, begun, ended: Instant::now(), error };
        ended.lock().expect("no writer panics").push(write);
    }
}
