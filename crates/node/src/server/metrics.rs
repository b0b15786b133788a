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

/// What passed between this node and its peers, as it is when this is called.
pub type TransportStats = Box<dyn Fn() -> QuicStats + Send + Sync>;

/// A registry of this node's own: several nodes may live in one process.
pub(super) fn registry(replica: &Replica, traffic: TransportStats) -> Registry {
    let mut registry = Registry::with_prefix("synod");
    registry.register_collector(Box::new(Live { replica: replica.clone(), traffic }));
    registry
}

/// Reads replica and transport when it is asked.
struct Live {
    replica: Replica,
    traffic: TransportStats,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl Collector for Live {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        let Metrics { status, counters, outstanding, log_sync, apply, batches } =
            self.replica.metrics();
        page.seconds("log_sync", "Time until a write of the log was durable.", &log_sync)?;
        let help = "Time from when a slot was chosen until it was applied.";
        page.seconds("apply", help, &apply)?;
        let help = "Batches written to the log; merged ones share a sync.";
        page.counter("log_batches", help, batches)?;
        let leads = u64::from(status.role == Role::Leader);
        let leader = status.leader.map_or(0, |leader| leader.0);
        page.gauge("is_leader", "1 while this node leads; among peers nobody does", leads)?;
        page.gauge(
            "leader",
            "The node that leads as far as known, else 0; a peer names itself",
            leader,
        )?;
        page.gauge("term", "The term, or the round of the ballot", status.ballot.round)?;
        page.gauge("commit_slot", "The last slot known to be chosen", status.commit.0)?;
        page.gauge("last_slot", "The last slot of the log", status.last.0)?;
        page.gauge("applied_slot", "The last slot applied", status.applied.0)?;
        page.gauge("saved_slot", "The last slot in the state store", status.saved.0)?;
        page.gauge("outstanding", "Requests and reads under way", outstanding as u64)?;
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
        // Taken apart without `..`, so that a new counter is not forgotten here.
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
        self.counter("frames", "Frames taken from peers", frames)?;
        self.counter("frames_malformed", "Frames damaged or of another version", frames_malformed)?;
        self.counter("frames_foreign", "Frames of another cluster or group", frames_foreign)?;
        self.counter("frames_forged", "Frames under another node's name", frames_forged)?;
        let replaced = "Frames of a replaced store";
        self.counter("frames_other_life", replaced, frames_wrong_incarnation)?;
        self.counter("frames_dropped", "Frames the disk was too far behind for", frames_dropped)?;
        self.counter("requests", "Commands taken from this node's clients", requests)?;
        self.counter("requests_forwarded", "Commands sent on to a leader", forwarded)?;
        self.counter(
            "requests_retried",
            "Commands queued again because they may be lost",
            retried,
        )?;
        self.counter("stalls", "Times that disk or apply completed nothing in time", stalls)
    }

    fn traffic(&mut self, stats: &QuicStats) -> fmt::Result {
        type Read = fn(&PeerStats) -> u64;
        let counters: [(&str, &str, Read); 6] = [
            ("peer_sent_frames", "Frames handed to the network", |peer| peer.sent_frames),
            ("peer_sent_bytes", "Bytes of frames handed to the network", |peer| peer.sent_bytes),
            ("peer_received_frames", "Frames received", |peer| peer.received_frames),
            ("peer_received_bytes", "Bytes of frames received", |peer| peer.received_bytes),
            ("peer_dropped_frames", "Frames dropped unsent", |peer| peer.dropped_frames),
            ("peer_reconnects", "Connections made again", PeerStats::reconnects),
        ];
        for (name, help, read) in counters {
            let of = |(node, peer): (&NodeId, _)| (node.to_string(), ConstCounter::new(read(peer)));
            self.family(name, help, MetricType::Counter, "peer", stats.peers.iter().map(of))?;
        }
        let connected = stats
            .peers
            .iter()
            .map(|(node, peer)| (node.to_string(), ConstGauge::new(u64::from(peer.connected))));
        let help = "1 while there is a connection";
        self.family("peer_connected", help, MetricType::Gauge, "peer", connected)?;
        let refused = stats
            .rejected
            .iter()
            .map(|(reason, count)| (format!("{reason:?}"), ConstCounter::new(*count)));
        let help = "Connections of peers refused, by reason";
        self.family("refused_connections", help, MetricType::Counter, "reason", refused)
    }

    /// One metric with a value for each label.
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
    async fn page_has_histograms_with_every_bound() {
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
            ("log_sync", "Time until a write of the log was durable."),
            ("apply", "Time from when a slot was chosen until it was applied."),
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
