//! Durable batches per second of one writer thread on a log store, with entries of 256 bytes.
//!
//! RocksDB syncs at every commit, so its rows mainly measure the disk. For comparison, the row
//! `file/append+fdatasync` writes to a plain file on the same disk.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::io::Write;
use synod_storage::{Batch, LogOp, LogStore, MemoryLog, RocksLog, StoreIdentity, StoredRun};
use synod_types::{ClusterId, GroupId, Incarnation, NodeId, Slot, Value, Values};

const ENTRY: usize = 256;
const BATCHES: [usize; 4] = [1, 10, 100, 1000];
const GROUP: GroupId = GroupId(0);
/// Number of slots that compaction keeps, as in a node with snapshots.
const KEPT: u64 = 10_000;

fn log_commit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(".").expect("a temporary folder on this disk");
    let identity = StoreIdentity { cluster: ClusterId(1), node: NodeId(1) };
    let rocks = RocksLog::open(folder.path().join("log"), identity, Incarnation(1));
    commit(criterion, "memory", MemoryLog::new(Incarnation(1)));
    commit(criterion, "rocksdb", rocks.expect("a new store opens"));
    plain_file(criterion, &folder.path().join("plain"));
}

fn commit(criterion: &mut Criterion, name: &str, mut store: impl LogStore) {
    let mut group = criterion.benchmark_group("log_commit");
    store.load(GROUP).expect("an empty group loads");
    let mut next = Slot(1);
    for entries in BATCHES {
        let value = Value::Command(vec![7; ENTRY].into());
        let values: Values = std::iter::repeat_n(value, entries).collect();
        group.throughput(Throughput::Elements(entries as u64));
        group.bench_function(BenchmarkId::new(name, entries), |bencher| {
            bencher.iter(|| {
                let run = StoredRun {
                    first: next,
                    stamp: Bytes::from_static(b"\x01"),
                    values: values.clone(),
                };
                let mut ops = vec![(GROUP, LogOp::Put(run))];
                if next.0 % 4096 < entries as u64 && next.0 > KEPT {
                    let through = Slot(next.0 - KEPT);
                    let base = Bytes::from_static(b"base");
                    ops.push((GROUP, LogOp::Compact { through, base }));
                }
                store.commit(&Batch { ops }).expect("the disk is writable");
                next = next.plus(entries);
            });
        });
    }
}

fn plain_file(criterion: &mut Criterion, path: &std::path::Path) {
    let mut group = criterion.benchmark_group("log_commit");
    let mut file = std::fs::File::create(path).expect("a new file");
    for entries in BATCHES {
        let bytes = vec![7; ENTRY * entries];
        group.throughput(Throughput::Elements(entries as u64));
        group.bench_function(BenchmarkId::new("file/append+fdatasync", entries), |bencher| {
            bencher.iter(|| {
                file.write_all(&bytes).expect("the disk is writable");
                file.sync_data().expect("the disk is writable");
            });
        });
    }
}

criterion_group!(benches, log_commit);
criterion_main!(benches);
