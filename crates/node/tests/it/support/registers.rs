//! Clients that read and write the same few keys through every node, and write it all down.

use super::{Recorder, connect, get, put};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::Code;

/// So few that clients meet, so many that the order of what each holds is soon found.
const KEYS: u64 = 8;

/// Tasks that read and write until they are told to stop.
pub(crate) struct Registers {
    runtime: Runtime,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    recorder: Arc<Recorder>,
    /// How many operations each node has done.
    done: Vec<Arc<AtomicUsize>>,
}

impl Registers {
    /// `each` tasks for each node.
    pub(crate) fn start(ports: &[u16], each: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let mut registers = Self {
            runtime: runtime.expect("a runtime"),
            tasks: Vec::new(),
            stop: Arc::default(),
            recorder: Arc::default(),
            done: ports.iter().map(|_| Arc::default()).collect(),
        };
        for (node, port) in ports.iter().enumerate() {
            for task in 0..each {
                let client = Client {
                    name: format!("node{}/client{task}", node + 1),
                    dice: (node * each + task + 1) as u64,
                    recorder: Arc::clone(&registers.recorder),
                    done: Arc::clone(&registers.done[node]),
                };
                let stop = Arc::clone(&registers.stop);
                registers.tasks.push(registers.runtime.spawn(client.run(*port, stop)));
            }
        }
        registers
    }

    /// How many operations a node has done.
    pub(crate) fn done(&self, node: usize) -> usize {
        self.done[node].load(Ordering::Relaxed)
    }

    /// Lets what is under way end, and returns what was written down.
    pub(crate) fn stop(self) -> Arc<Recorder> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            self.runtime.block_on(task).expect("no client panics");
        }
        self.recorder
    }
}

struct Client {
    name: String,
    dice: u64,
    recorder: Arc<Recorder>,
    done: Arc<AtomicUsize>,
}

impl Client {
    async fn run(mut self, port: u16, stop: Arc<AtomicBool>) {
        let mut channel = connect(port, Duration::from_secs(10));
        let mut number = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let key = format!("register{}", self.roll() % KEYS);
            let value = self.roll().is_multiple_of(2).then(|| format!("{}/{number}", self.name));
            let pending = self.recorder.begin(&self.name, &key, value.clone());
            let answer = match &value {
                Some(value) => put(&mut channel, &key, value).await.map(|()| None),
                None => get(&mut channel, &key, false).await,
            };
            match answer {
                Ok(found) => {
                    self.recorder.done(&pending, found.as_deref());
                    self.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) => {
                    if value.is_none() || is_refusal(&status) {
                        self.recorder.failed(&pending);
                    } else {
                        self.recorder.lost(&pending);
                    }
                    // A dead node refuses in microseconds.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Scattered, and the same in every run.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        self.dice >> 33
    }
}

/// Whether an answer says that the write was not taken, and never will be.
fn is_refusal(status: &tonic::Status) -> bool {
    status.message() == "etcdserver: no leader" || status.code() == Code::ResourceExhausted
}
