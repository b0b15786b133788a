//! Client load, and its measurements.

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

/// Timeout of a client's request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One acknowledged write.
#[derive(Clone, Copy, Debug)]
struct Write {
    ended: Instant,
    took: Duration,
    bytes: usize,
}

/// Clients of one cluster: writers and readers. They stop when this is dropped.
pub(crate) struct Load {
    runtime: Runtime,
    channels: Vec<Channel>,
    clients: Vec<KvClient<Channel>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Number of this load, a part of its keys: two loads have no key in common.
    name: u64,
    writes: Mutex<Vec<Write>>,
    /// Number of ended writes of the steady load.
    ended: AtomicU64,
    failed: AtomicU64,
    keys: AtomicU64,
    stop: AtomicBool,
}

/// Replies to the readers of one load.
#[derive(Default)]
pub(crate) struct Replies {
    /// Number of complete replies.
    pub(crate) whole: AtomicU64,
    /// Number of rejected and failed reads.
    pub(crate) failed: AtomicU64,
}

/// Writes that were sent together.
pub(crate) struct Burst {
    /// Time at which the last of them was sent.
    pub(crate) sent: Instant,
    writes: Vec<JoinHandle<bool>>,
}

impl Load {
    pub(crate) fn new(ports: &[u16]) -> Self {
        Self::on(&mut tokio::runtime::Builder::new_multi_thread(), ports)
    }

    /// Returns clients whose threads have the lowest priority, so that they use only spare processor time: in
    /// production, clients run on other machines.
    pub(crate) fn in_background(ports: &[u16]) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // On Linux, `nice` changes the priority of the calling thread only.
        builder.on_thread_start(|| _ = rustix::process::nice(19));
        Self::on(&mut builder, ports)
    }

    fn on(builder: &mut tokio::runtime::Builder, ports: &[u16]) -> Self {
        let runtime = builder.enable_all().build().expect("a runtime");
        let entered = runtime.enter();
        let clients = ports.iter().map(|port| connect(*port, TIMEOUT)).collect();
        let channels = ports.iter().map(|port| channel(*port, TIMEOUT)).collect();
        drop(entered);
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let name = LOADS.fetch_add(1, Ordering::Relaxed);
        Self { runtime, channels, clients, shared: Arc::new(Shared { name, ..Shared::default() }) }
    }

    /// Sends `per_second` writes of `size` bytes a second to all nodes in turn, without waiting for
    /// replies (open loop).
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

    /// Sends `count` writes of `size` bytes together, without waiting for the replies.
    pub(crate) fn send_burst(&self, count: usize, size: usize) -> Burst {
        let clients = (0..count).map(|turn| self.clients[turn % self.clients.len()].clone());
        let writes = clients
            .map(|client| self.runtime.spawn(write(client, Arc::clone(&self.shared), size)))
            .collect();
        Burst { sent: Instant::now(), writes }
    }

    /// Waits for the replies to a burst; returns the number of acknowledged writes.
    pub(crate) fn acknowledged(&self, burst: Burst) -> usize {
        self.runtime.block_on(async {
            let mut acknowledged = 0;
            for write in burst.writes {
                acknowledged += usize::from(write.await.unwrap_or(false));
            }
            acknowledged
        })
    }

    /// Sends a burst and waits for its replies; returns the number of acknowledged writes.
    pub(crate) fn burst(&self, count: usize, size: usize) -> usize {
        self.acknowledged(self.send_burst(count, size))
    }

    /// Starts `count` clients that each write values of `size` bytes, one after the other (closed
    /// loop).
    pub(crate) fn clients(&self, count: usize, size: usize) {
        for turn in 0..count {
            let client = self.clients[turn % self.clients.len()].clone();
            let shared = Arc::clone(&self.shared);
            self.runtime.spawn(async move {
                while !shared.stop.load(Ordering::Relaxed) {
                    if !steady_write(client.clone(), Arc::clone(&shared), size).await {
                        // Wait before the next write, because the node may reject writes at once.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
    }

    /// Starts `count` clients that read every key of their node continuously until this is dropped;
    /// returns the counters of their replies.
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

    /// Runs `work` with a client of one node.
    pub(crate) fn with<T, F: Future<Output = T>>(
        &self,
        node: usize,
        work: impl FnOnce(KvClient<Channel>) -> F,
    ) -> T {
        self.runtime.block_on(work(self.clients[node].clone()))
    }

    /// Returns the acknowledged bytes per second within a time span.
    pub(crate) fn rate(&self, from: Instant, to: Instant) -> f64 {
        let bytes: usize = self.within(from, to).iter().map(|write| write.bytes).sum();
        bytes as f64 / (to - from).as_secs_f64()
    }

    /// Returns the acknowledged writes per second within a time span.
    pub(crate) fn writes_per_second(&self, from: Instant, to: Instant) -> f64 {
        self.within(from, to).len() as f64 / (to - from).as_secs_f64()
    }

    /// Returns the prefix of this load's keys.
    pub(crate) fn prefix(&self) -> String {
        format!("load/{}/", self.shared.name)
    }

    /// Returns the bytes acknowledged so far.
    pub(crate) fn bytes(&self) -> u64 {
        let writes = self.shared.writes.lock().expect("no writer panics");
        writes.iter().map(|write| write.bytes as u64).sum()
    }

    /// Returns the number of failed writes of the steady load, without bursts.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Returns the failed share of the ended writes of the steady load.
    pub(crate) fn failed_share(&self) -> f64 {
        self.failed() as f64 / self.shared.ended.load(Ordering::Relaxed).max(1) as f64
    }

    /// Returns the 99th percentile latency of the writes that ended within a time span.
    pub(crate) fn p99(&self, from: Instant, to: Instant) -> Duration {
        let mut took: Vec<_> = self.within(from, to).iter().map(|write| write.took).collect();
        took.sort_unstable();
        took.get((took.len() * 99 / 100).min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or(TIMEOUT)
    }

    /// Returns the time from `since` until throughput has recovered: from then on, it is at least `goal` bytes
    /// per second in every window of two seconds. Measures until `limit` has passed, and returns `None` if
    /// throughput has not recovered by then.
    pub(crate) fn recovery_time(
        &self,
        since: Instant,
        goal: f64,
        limit: Duration,
    ) -> Option<Duration> {
        const WINDOW: Duration = Duration::from_secs(2);
        const STEP: Duration = Duration::from_millis(100);
        let until = since + limit;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let windows = (limit - WINDOW).as_millis() / STEP.as_millis();
        let mut recovered = Duration::ZERO;
        for window in 0..=windows as u32 {
            let from = since + STEP * window;
            if self.rate(from, from + WINDOW) < goal {
                recovered = STEP * (window + 1);
            }
        }
        (recovered + WINDOW <= limit).then_some(recovered)
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

/// Writes once; returns whether the write was acknowledged.
async fn write(mut client: KvClient<Channel>, shared: Arc<Shared>, bytes: usize) -> bool {
    let started = Instant::now();
    // Only a thousand keys: the state stays small, so that the log dominates the measurement.
    let key = shared.keys.fetch_add(1, Ordering::Relaxed) % 1000;
    let key = format!("load/{}/{key:03}", shared.name);
    let value = Bytes::from(vec![b'v'; bytes]);
    let request = pb::PutRequest { key: key.into(), value, ..Default::default() };
    let acknowledged = client.put(request).await.is_ok();
    if acknowledged {
        let ended = Instant::now();
        let write = Write { ended, took: ended - started, bytes };
        shared.writes.lock().expect("no writer panics").push(write);
    }
    acknowledged
}

/// Writes once as part of the steady load; returns whether the write was acknowledged.
async fn steady_write(client: KvClient<Channel>, shared: Arc<Shared>, bytes: usize) -> bool {
    let acknowledged = write(client, Arc::clone(&shared), bytes).await;
    shared.ended.fetch_add(1, Ordering::Relaxed);
    shared.failed.fetch_add(u64::from(!acknowledged), Ordering::Relaxed);
    acknowledged
}

/// Returns a request for every key.
pub(crate) fn read_all_request(serializable: bool) -> pb::RangeRequest {
    let (key, range_end) = (vec![0].into(), vec![0].into());
    pb::RangeRequest { key, range_end, serializable, ..Default::default() }
}

/// Reads every key of a node. Drops the reply without decoding it, because decoding would take processor time
/// from the node, which runs on the same machine.
async fn read_all(client: &mut Grpc<Channel>, serializable: bool) -> Result<(), Status> {
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = tonic::Request::new(read_all_request(serializable));
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
    client.unary(request, path, DropReplies).await.map(drop)
}

/// A codec that encodes requests and drops replies.
#[derive(Clone, Copy, Default)]
struct DropReplies;

impl Codec for DropReplies {
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

impl Encoder for DropReplies {
    type Item = pb::RangeRequest;
    type Error = Status;

    fn encode(&mut self, request: Self::Item, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for DropReplies {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, reply: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        reply.advance(reply.remaining());
        Ok(Some(()))
    }
}
