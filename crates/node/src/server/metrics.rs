//! The page `/metrics`.

use crate::run::{Applying, Handle, View};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use synod_consensus::Role;
use synod_replica::Counters;

/// A registry of this node's own: several nodes may live in one process.
pub(super) fn registry(handle: &Handle) -> Registry {
    let mut registry = Registry::with_prefix("synod");
    let meters = handle.meters();
    registry.register_with_unit(
        "log_sync",
        "Time until a write of the log was durable",
        Unit::Seconds,
        meters.sync_seconds.clone(),
    );
    registry.register_with_unit(
        "apply",
        "Time from when a slot was chosen until it was applied",
        Unit::Seconds,
        meters.apply_seconds.clone(),
    );
    registry.register(
        "log_batches",
        "Batches written to the log; merged ones share a sync",
        meters.batches.clone(),
    );
    registry.register_collector(Box::new(Replica(handle.clone())));
    registry
}

/// Reads the replica when it is asked.
struct Replica(Handle);

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replica")
    }
}

impl Collector for Replica {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        let View { status, counters, outstanding } = self.0.meters().view();
        let Applying { applied, saved, .. } = self.0.meters().applying();
        let leads = u64::from(status.role == Role::Leader);
        let leader = status.leader.map_or(0, |leader| leader.0);
        page.gauge("is_leader", "1 while this node leads", leads)?;
        page.gauge("leader", "The node that leads as far as known, else 0", leader)?;
        page.gauge("term", "The term, or the round of the ballot", status.ballot.round)?;
        page.gauge("commit_slot", "The last slot known to be chosen", status.commit.0)?;
        page.gauge("last_slot", "The last slot of the log", status.last.0)?;
        page.gauge("applied_slot", "The last slot applied", applied.0)?;
        page.gauge("saved_slot", "The last slot in the state store", saved.0)?;
        page.gauge("outstanding", "Requests and reads under way", outstanding as u64)?;
        page.counters(&counters)
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

    fn counters(&mut self, counters: &Counters) -> fmt::Result {
        // Taken apart without `..`, so that a new counter is not forgotten here.
        let Counters {
            frames,
            frames_malformed,
            frames_foreign,
            frames_forged,
            frames_other_life,
            requests,
            forwarded,
            retried,
            stalls,
        } = *counters;
        self.counter("frames", "Frames taken from peers", frames)?;
        self.counter("frames_malformed", "Frames damaged or of another version", frames_malformed)?;
        self.counter("frames_foreign", "Frames of another cluster or group", frames_foreign)?;
        self.counter("frames_forged", "Frames under another node's name", frames_forged)?;
        self.counter("frames_other_life", "Frames of a replaced store", frames_other_life)?;
        self.counter("requests", "Commands taken from this node's clients", requests)?;
        self.counter("requests_forwarded", "Commands sent on to a leader", forwarded)?;
        self.counter("requests_retried", "Commands proposed again", retried)?;
        self.counter("stalls", "Times that disk or apply did not answer", stalls)
    }
}
