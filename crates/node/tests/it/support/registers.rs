//! Clients that read, write, delete and compare the same few keys through every node, and write it
//! all down.

use super::{Asked, Recorder, Swapped, Told, connect, delete, get, put, swap};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use synod_etcd_api::proto::etcdserverpb::kv_client::KvClient;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

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
                    seen: BTreeMap::new(),
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
    /// What it saw last under each key: what it expects when it compares.
    seen: BTreeMap<String, Option<String>>,
}

impl Client {
    async fn run(mut self, port: u16, stop: Arc<AtomicBool>) {
        let mut channel = connect(port, Duration::from_secs(10));
        let mut number = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let key = format!("register{}", self.roll() % KEYS);
            let asked = self.choose(&key, number);
            let pending = self.recorder.begin(&self.name, &key, asked.clone());
            match ask(&mut channel, &key, &asked).await {
                Ok(told) => {
                    self.recorder.done(&pending, &told);
                    self.done.fetch_add(1, Ordering::Relaxed);
                    self.remember(key, asked, told);
                }
                Err(status) => {
                    if matches!(asked, Asked::Get) || is_refusal(&status) {
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

    /// Half of all operations read. No value is ever written twice.
    fn choose(&mut self, key: &str, number: u64) -> Asked {
        let value = format!("{}/{number}", self.name);
        match self.roll() % 8 {
            0..4 => Asked::Get,
            4..6 => Asked::Put(value),
            6 => Asked::Swap(self.seen.get(key).cloned().flatten(), value),
            _ => Asked::Delete,
        }
    }

    fn remember(&mut self, key: String, asked: Asked, told: Told) {
        let held = match (asked, told) {
            (Asked::Get, Told::Found(found)) => found,
            (Asked::Swap(..), Told::Swapped(Swapped::No(found))) => found,
            (Asked::Put(value) | Asked::Swap(_, value), _) => Some(value),
            (Asked::Get | Asked::Delete, _) => None,
        };
        self.seen.insert(key, held);
    }

    /// Scattered, and the same in every run.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        self.dice >> 33
    }
}

async fn ask(
    channel: &mut KvClient<Channel>,
    key: &str,
    asked: &Asked,
) -> Result<Told, tonic::Status> {
    Ok(match asked {
        Asked::Get => Told::Found(get(channel, key, false).await?),
        Asked::Put(value) => {
            put(channel, key, value).await?;
            Told::Found(None)
        }
        Asked::Delete => Told::Deleted(delete(channel, key).await?),
        Asked::Swap(old, new) => Told::Swapped(swap(channel, key, old.as_deref(), new).await?),
    })
}

/// Whether an answer says that the write was not taken, and never will be.
fn is_refusal(status: &tonic::Status) -> bool {
    status.message() == "etcdserver: no leader" || status.code() == Code::ResourceExhausted
}
