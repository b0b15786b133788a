//! Clients that read, write, delete and compare the same few keys through every node, and record the
//! history.

use super::{Recorder, Request, Response, SwapOutcome, connect, delete, get, put, swap};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use synod_etcd_api::proto::etcdserverpb::kv_client::KvClient;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

/// Number of keys: few, so that clients compete for them, but enough that the history of each key is
/// checked fast.
const KEYS: u64 = 8;

/// Client tasks that run until stopped.
pub(crate) struct Registers {
    runtime: Runtime,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    recorder: Arc<Recorder>,
    /// Number of operations that each node has completed.
    done: Vec<Arc<AtomicUsize>>,
}

impl Registers {
    /// Starts `each` tasks for each node.
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
                    random: (node * each + task + 1) as u64,
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

    /// Returns the number of operations that a node has completed.
    pub(crate) fn done(&self, node: usize) -> usize {
        self.done[node].load(Ordering::Relaxed)
    }

    /// Waits for the pending operations, and returns the recorded history.
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
    /// State of a pseudorandom generator.
    random: u64,
    recorder: Arc<Recorder>,
    done: Arc<AtomicUsize>,
    /// The last value seen of each key: the expected value of a compare-and-set.
    seen: BTreeMap<String, Option<String>>,
}

impl Client {
    async fn run(mut self, port: u16, stop: Arc<AtomicBool>) {
        let mut channel = connect(port, Duration::from_secs(10));
        let mut number = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let key = format!("register{}", self.next_random() % KEYS);
            let request = self.choose(&key, number);
            let pending = self.recorder.invoke(&self.name, &key, request.clone());
            match send(&mut channel, &key, &request).await {
                Ok(response) => {
                    self.recorder.complete(&pending, &response);
                    self.done.fetch_add(1, Ordering::Relaxed);
                    self.record_seen(key, request, response);
                }
                Err(status) => {
                    if matches!(request, Request::Get) || is_rejection(&status) {
                        self.recorder.fail(&pending);
                    } else {
                        self.recorder.abandon(&pending);
                    }
                    // A connection to a stopped node fails in microseconds. Wait, so that the client does
                    // not occupy a core with retries.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Chooses a random operation; half of them are reads. Every written value is unique.
    fn choose(&mut self, key: &str, number: u64) -> Request {
        let value = format!("{}/{number}", self.name);
        match self.next_random() % 8 {
            0..4 => Request::Get,
            4..6 => Request::Put(value),
            6 => Request::Swap(self.seen.get(key).cloned().flatten(), value),
            _ => Request::Delete,
        }
    }

    fn record_seen(&mut self, key: String, request: Request, response: Response) {
        let value = match (request, response) {
            (Request::Get, Response::Found(found)) => found,
            (Request::Swap(..), Response::Swapped(SwapOutcome::Mismatch(found))) => found,
            (Request::Put(value) | Request::Swap(_, value), _) => Some(value),
            (Request::Get | Request::Delete, _) => None,
        };
        self.seen.insert(key, value);
    }

    /// Returns the next number of a linear congruential generator, the same in every run.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        self.random >> 33
    }
}

async fn send(
    channel: &mut KvClient<Channel>,
    key: &str,
    request: &Request,
) -> Result<Response, tonic::Status> {
    Ok(match request {
        Request::Get => Response::Found(get(channel, key, false).await?),
        Request::Put(value) => {
            put(channel, key, value).await?;
            Response::Found(None)
        }
        Request::Delete => Response::Deleted(delete(channel, key).await?),
        Request::Swap(old, new) => {
            Response::Swapped(swap(channel, key, old.as_deref(), new).await?)
        }
    })
}

/// Returns whether a reply states that the write was rejected, and will not be applied.
fn is_rejection(status: &tonic::Status) -> bool {
    status.message() == "etcdserver: no leader" || status.code() == Code::ResourceExhausted
}
