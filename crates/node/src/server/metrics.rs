//! The page `/metrics`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use synod_consensus::Role;
use synod_runtime::{Counters, Histogram, Metrics, Replica};
use synod_transport::PeerStats;
use synod_transport::quic::QuicStats;
use synod_types::NodeId;

/// Function that returns the current traffic counters of the transport.
pub type TransportStats = Box<dyn Fn() -> QuicStats + Send + Sync>;

/// Returns a registry of this node's metrics. It is not global, because one process may run several nodes.
pub(super) fn registry(replica: &Replica, traffic: TransportStats) -> Registry {
    let mut registry = Registry::with_prefix("synod");
    registry.register_collector(Box::new(LiveMetrics { replica: replica.clone(), traffic }));
    registry
}

/// Collector that reads the counters of the replica and the transport at each scrape.
struct LiveMetrics {
    replica: Replica,
    traffic: TransportStats,
}

impl fmt::Debug for LiveMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveMetrics")
    }
}

impl Collector for LiveMetrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        let Metrics { status, counters, outstanding, log_sync, apply, batches } =
            self.replica.metrics();
        page.seconds(
            "log_sync",
            "Duration of a log write, sync included, without its time in the queue.",
            &log_sync,
        )?;
        let help = "Time from commit to apply; each batch counts once, by its oldest slot.";
        page.seconds("apply", help, &apply)?;
        let help = "Batches written to the log. Several may share one write and sync.";
        page.counter("log_batches", help, batches)?;
        let leads = u64::from(status.role == Role::Leader);
        let leader = status.leader.map_or(0, |leader| leader.0);
        let help = "1 if this node is the leader, else 0. Basic Paxos has no leader.";
        page.gauge("is_leader", help, leads)?;
        let help = "Node id of the known leader, else 0. In Basic Paxos, this node's id.";
        page.gauge("leader", help, leader)?;
        let help = "Current term, or round of the ballot. 0 in Basic Paxos.";
        page.gauge("term", help, status.ballot.round)?;
        let help = "Last slot (log index) known to be committed.";
        page.gauge("commit_slot", help, status.commit.0)?;
        page.gauge("last_slot", "Last slot in this node's log, committed or not.", status.last.0)?;
        page.gauge("applied_slot", "Last slot applied to the state machine.", status.applied.0)?;
        let help =
            "Last slot whose effects are in the state store. A restart applies later ones again.";
        page.gauge("saved_slot", help, status.saved.0)?;
        page.gauge(
            "outstanding",
            "Requests of this node's clients in flight, reads included.",
            outstanding as u64,
        )?;
        page.counters(&counters)?;
        page.traffic(&(self.traffic)())
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, None, gauge.metric_type())?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, None, counter.metric_type())?)
    }

    fn seconds(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let Histogram { sum, count, buckets } = histogram;
        let (unit, kind) = (Some(&Unit::Seconds), MetricType::Histogram);
        let mut encoder = self.0.encode_descriptor(name, help, unit, kind)?;
        encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
    }

    fn counters(&mut self, counters: &Counters) -> fmt::Result {
        // No `..`: a new counter must be exported here, or this does not compile.
        let Counters {
            frames,
            frames_malformed,
            frames_foreign,
            frames_forged,
            frames_wrong_incarnation,
            frames_dropped,
            requests,
            forwarded,
            retried,
            stalls,
        } = *counters;
        self.counter(
            "frames",
            "Frames accepted from peers, including those counted in frames_dropped.",
            frames,
        )?;
        let help = "Frames dropped: malformed, or of another version of the wire format.";
        self.counter("frames_malformed", help, frames_malformed)?;
        let help = "Frames dropped: of another cluster, group or epoch.";
        self.counter("frames_foreign", help, frames_foreign)?;
        let help = "Frames dropped: the sender's id is not that of the authenticated peer.";
        self.counter("frames_forged", help, frames_forged)?;
        let help =
            "Frames dropped: the sender's store was wiped, replaced, cloned or kept in memory.";
        self.counter("frames_wrong_incarnation", help, frames_wrong_incarnation)?;
        let help = "Log and bulk frames dropped: too many bytes of log writes are pending.";
        self.counter("frames_dropped", help, frames_dropped)?;
        let help = "Write requests received from this node's clients.";
        self.counter("requests", help, requests)?;
        let help =
            "Write requests forwarded to the leader, retries included. Reads are not counted.";
        self.counter("requests_forwarded", help, forwarded)?;
        let help = "Requests queued again because an earlier attempt may be lost.";
        self.counter("requests_retried", help, retried)?;
        let help = "Number of times that pending log writes or applies made no progress for 2 s.";
        self.counter("stalls", help, stalls)
    }

    fn traffic(&mut self, stats: &QuicStats) -> fmt::Result {
        type Read = fn(&PeerStats) -> u64;
        let counters: [(&str, &str, Read); 6] = [
            ("peer_sent_frames", "Frames sent to the peer.", |peer| peer.sent_frames),
            ("peer_sent_bytes", "Bytes of frames sent to the peer.", |peer| peer.sent_bytes),
            ("peer_received_frames", "Frames received from the peer.", |peer| peer.received_frames),
            ("peer_received_bytes", "Bytes of frames received from the peer.", |peer| {
                peer.received_bytes
            }),
            ("peer_dropped_frames", "Frames to the peer dropped unsent.", |peer| {
                peer.dropped_frames
            }),
            ("peer_reconnects", "Connections to the peer after the first.", PeerStats::reconnects),
        ];
        for (name, help, read) in counters {
            let of = |(node, peer): (&NodeId, _)| (node.to_string(), ConstCounter::new(read(peer)));
            self.family(name, help, MetricType::Counter, "peer", stats.peers.iter().map(of))?;
        }
        let connected = stats
            .peers
            .iter()
            .map(|(node, peer)| (node.to_string(), ConstGauge::new(u64::from(peer.connected))));
        let help = "1 if there is a connection to the peer, else 0.";
        self.family("peer_connected", help, MetricType::Gauge, "peer", connected)?;
        let rejected = stats
            .rejected
            .iter()
            .map(|(reason, count)| (format!("{reason:?}"), ConstCounter::new(*count)));
        let help = "Connections from or to peers that this node rejected, by reason.";
        self.family("rejected_peer_connections", help, MetricType::Counter, "reason", rejected)
    }

    /// Encodes one metric with a value for each label.
    fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        label: &str,
        values: impl Iterator<Item = (String, M)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (key, value) in values {
            value.encode(encoder.encode_family(&[(label, key)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use synod_kv::KvStore;
    use synod_raft::Raft;
    use synod_transport::MemoryNetwork;
    use synod_types::ClusterId;

    #[tokio::test]
    async fn metrics_page_has_histograms_with_every_bound() {
        let replica = Replica::builder::<Raft>(ClusterId(7), NodeId(1))
            .members([(NodeId(1), "1")])
            .in_memory()
            .transport(Arc::new(MemoryNetwork::default().join(NodeId(1))))
            .start_untyped(KvStore::new());
        let replica = replica.await.unwrap();
        replica.read_barrier().await.unwrap();
        let registry = registry(&replica, Box::new(QuicStats::default));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for (name, help) in [
            ("log_sync", "Duration of a log write, sync included, without its time in the queue."),
            ("apply", "Time from commit to apply; each batch counts once, by its oldest slot."),
        ] {
            assert!(page.contains(&format!("# HELP synod_{name}_seconds {help}\n")), "{page}");
            let bounds = page.matches(&format!("synod_{name}_seconds_bucket{{")).count();
            assert_eq!(bounds, 19, "{page}");
            let last = format!("synod_{name}_seconds_bucket{{le=\"+Inf\"}} ");
            let count = page.split(&last).nth(1).and_then(|rest| rest.lines().next());
            assert!(page.contains(&format!("synod_{name}_seconds_count {}\n", count.unwrap())));
        }
        replica.stop().await.unwrap();
    }
}
