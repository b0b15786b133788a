//! Writers, and what they measure.

use crate::support::{channel, connect};
use bytes::{Buf, Bytes};
use prost::Message;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use synod_etcd_api::proto::etcdserverpb as pb;
use synod_etcd_api::proto::etcdserverpb::kv_client::KvClient;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

/// Patience of a client with one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// One acknowledged write.
#[derive(Clone, Copy, Debug)]
struct Write {
    ended: Instant,
    took: Duration,
    bytes: usize,
}

/// Writers against one cluster. They stop when this is dropped.
pub(crate) struct Load {
    runtime: Runtime,
    channels: Vec<Channel>,
    clients: Vec<KvClient<Channel>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Keys of one load are no keys of another.
    name: u64,
    writes: Mutex<Vec<Write>>,
    /// Writes of the steady load that ended, and those of them that failed.
    ended: AtomicU64,
    failed: AtomicU64,
    keys: AtomicU64,
    stop: AtomicBool,
}

/// Replies to the readers of one load.
#[derive(Default)]
pub(crate) struct Replies {
    /// Whole ones.
    pub(crate) whole: AtomicU64,
    /// Refusals and failures.
    pub(crate) failed: AtomicU64,
}

/// Writes that were sent at once.
pub(crate) struct Burst {
    /// The time at which the last of them was sent.
    pub(crate) sent: Instant,
    writes: Vec<JoinHandle<bool>>,
}

impl Load {
    pub(crate) fn new(ports: &[u16]) -> Self {
        Self::on(&mut tokio::runtime::Builder::new_multi_thread(), ports)
    }

    /// Clients that take only the processor time that nodes and other clients leave. Elsewhere they
    /// run on machines of their own.
    pub(crate) fn in_background(ports: &[u16]) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // On Linux the priority is the thread's own.
        builder.on_thread_start(|| _ = rustix::process::nice(19));
        Self::on(&mut builder, ports)
    }

    fn on(builder: &mut tokio::runtime::Builder, ports: &[u16]) -> Self {
        let runtime = builder.enable_all().build().expect("a runtime");
        let entered = runtime.enter();
        let clients = ports.iter().map(|port| connect(*port, PATIENCE)).collect();
        let channels = ports.iter().map(|port| channel(*port, PATIENCE)).collect();
        drop(entered);
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let name = LOADS.fetch_add(1, Ordering::Relaxed);
        Self { runtime, channels, clients, shared: Arc::new(Shared { name, ..Shared::default() }) }
    }

    /// Offers `per_second` writes of `size` bytes a second, however slowly they are answered, over
    /// all nodes in turn.
    pub(crate) fn offer(&self, per_second: u32, size: usize) {
        let (clients, shared) = (self.clients.clone(), Arc::clone(&self.shared));
        self.runtime.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
            for turn in 0.. {
                ticks.tick().await;
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let client = clients[turn % clients.len()].clone();
                tokio::spawn(steady_write(client, Arc::clone(&shared), size));
            }
        });
    }

    /// Sends writes of `count` values of `size` bytes at once, and does not wait for the answers.
    pub(crate) fn send_burst(&self, count: usize, size: usize) -> Burst {
        let clients = (0..count).map(|turn| self.clients[turn % self.clients.len()].clone());
        let writes = clients
            .map(|client| self.runtime.spawn(write(client, Arc::clone(&self.shared), size)))
            .collect();
        Burst { sent: Instant::now(), writes }
    }

    /// Waits until the writes of a burst are answered; returns how many were acknowledged.
    pub(crate) fn acknowledged(&self, burst: Burst) -> usize {
        self.runtime.block_on(async {
            let mut acknowledged = 0;
            for write in burst.writes {
                acknowledged += usize::from(write.await.unwrap_or(false));
            }
            acknowledged
        })
    }

    /// Writes `count` values of `size` bytes at once. Returns when all are answered, with the
    /// number of those that were acknowledged.
    pub(crate) fn burst(&self, count: usize, size: usize) -> usize {
        self.acknowledged(self.send_burst(count, size))
    }

    /// Lets `count` clients write values of `size` bytes, each one after the other.
    pub(crate) fn clients(&self, count: usize, size: usize) {
        for turn in 0..count {
            let client = self.clients[turn % self.clients.len()].clone();
            let shared = Arc::clone(&self.shared);
            self.runtime.spawn(async move {
                while !shared.stop.load(Ordering::Relaxed) {
                    if !steady_write(client.clone(), Arc::clone(&shared), size).await {
                        // A node that refuses at once is not asked in a tight loop.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
    }

    /// Lets `count` clients read every key of their node, each without pause, until this is
    /// dropped; returns the counters of their replies.
    pub(crate) fn readers(&self, count: usize, serializable: bool) -> Arc<Replies> {
        let replies = Arc::<Replies>::default();
        for turn in 0..count {
            let mut client = Grpc::new(self.channels[turn % self.channels.len()].clone())
                .max_decoding_message_size(1 << 30);
            let (shared, replies) = (Arc::clone(&self.shared), Arc::clone(&replies));
            self.runtime.spawn(async move {
                while !shared.stop.load(Ordering::Relaxed) {
                    match read_all(&mut client, serializable).await {
                        Ok(()) => _ = replies.whole.fetch_add(1, Ordering::Relaxed),
                        Err(_) => {
                            replies.failed.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
            });
        }
        replies
    }

    /// Does `work` with a client of one node.
    pub(crate) fn with<T, F: Future<Output = T>>(
        &self,
        node: usize,
        work: impl FnOnce(KvClient<Channel>) -> F,
    ) -> T {
        self.runtime.block_on(work(self.clients[node].clone()))
    }

    /// Acknowledged bytes a second within a span of time.
    pub(crate) fn rate(&self, from: Instant, to: Instant) -> f64 {
        let bytes: usize = self.within(from, to).iter().map(|write| write.bytes).sum();
        bytes as f64 / (to - from).as_secs_f64()
    }

    /// Acknowledged writes a second within a span of time.
    pub(crate) fn writes_per_second(&self, from: Instant, to: Instant) -> f64 {
        self.within(from, to).len() as f64 / (to - from).as_secs_f64()
    }

    /// The prefix of the keys that this load writes.
    pub(crate) fn prefix(&self) -> String {
        format!("load/{}/", self.shared.name)
    }

    /// Bytes acknowledged so far.
    pub(crate) fn bytes(&self) -> u64 {
        let writes = self.shared.writes.lock().expect("no writer panics");
        writes.iter().map(|write| write.bytes as u64).sum()
    }

    /// Writes of the steady load that failed so far; those of bursts are not among them.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// The part that failed of all writes of the steady load that ended so far.
    pub(crate) fn failed_share(&self) -> f64 {
        self.failed() as f64 / self.shared.ended.load(Ordering::Relaxed).max(1) as f64
    }

    /// The 99th percentile of what writes took that ended within a span of time.
    pub(crate) fn p99(&self, from: Instant, to: Instant) -> Duration {
        let mut took: Vec<_> = self.within(from, to).iter().map(|write| write.took).collect();
        took.sort_unstable();
        took.get((took.len() * 99 / 100).min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or(PATIENCE)
    }

    /// Time from `since` until throughput is back for good: over any two seconds that begin later,
    /// it is at least `goal` bytes a second. Watches for as long as `most`; `None` if it is not
    /// back by then.
    pub(crate) fn back_after(&self, since: Instant, goal: f64, most: Duration) -> Option<Duration> {
        const WINDOW: Duration = Duration::from_secs(2);
        const STEP: Duration = Duration::from_millis(100);
        let until = since + most;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let windows = (most - WINDOW).as_millis() / STEP.as_millis();
        let mut back = Duration::ZERO;
        for window in 0..=windows as u32 {
            let from = since + STEP * window;
            if self.rate(from, from + WINDOW) < goal {
                back = STEP * (window + 1);
            }
        }
        (back + WINDOW <= most).then_some(back)
    }

    fn within(&self, from: Instant, to: Instant) -> Vec<Write> {
        let writes = self.shared.writes.lock().expect("no writer panics");
        writes.iter().filter(|write| (from..to).contains(&write.ended)).copied().collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// One write; returns whether it was acknowledged.
async fn write(mut client: KvClient<Channel>, shared: Arc<Shared>, bytes: usize) -> bool {
    let begun = Instant::now();
    // A thousand keys: the state stays small, so that what is measured is the log.
    let key = shared.keys.fetch_add(1, Ordering::Relaxed) % 1000;
    let key = format!("load/{}/{key:03}", shared.name);
    let value = Bytes::from(vec![b'v'; bytes]);
    let request = pb::PutRequest { key: key.into(), value, ..Default::default() };
    let acknowledged = client.put(request).await.is_ok();
    if acknowledged {
        let ended = Instant::now();
        let write = Write { ended, took: ended - begun, bytes };
        shared.writes.lock().expect("no writer panics").push(write);
    }
    acknowledged
}

/// One write of the steady load.
async fn steady_write(client: KvClient<Channel>, shared: Arc<Shared>, bytes: usize) -> bool {
    let acknowledged = write(client, Arc::clone(&shared), bytes).await;
    shared.ended.fetch_add(1, Ordering::Relaxed);
    shared.failed.fetch_add(u64::from(!acknowledged), Ordering::Relaxed);
    acknowledged
}

/// A request for every key.
pub(crate) fn everything(serializable: bool) -> pb::RangeRequest {
    let (key, range_end) = (vec![0].into(), vec![0].into());
    pb::RangeRequest { key, range_end, serializable, ..Default::default() }
}

/// Reads every key of a node and drops the reply undecoded: what is measured is the node, not this
/// client on the same machine.
async fn read_all(client: &mut Grpc<Channel>, serializable: bool) -> Result<(), Status> {
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = tonic::Request::new(everything(serializable));
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
    client.unary(request, path, Dropping).await.map(drop)
}

/// A codec that encodes requests and drops replies.
#[derive(Clone, Copy, Default)]
struct Dropping;

impl Codec for Dropping {
    type Encode = pb::RangeRequest;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Dropping {
    type Item = pb::RangeRequest;
    type Error = Status;

    fn encode(&mut self, request: Self::Item, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dropping {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, reply: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        reply.advance(reply.remaining());
        Ok(Some(()))
    }
}
