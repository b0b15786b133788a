//! Decided entries per second of the protocol cores with their hosts, without codec, disk or network. With
//! batches of 1, each entry is decided before the next is proposed. One node receives all commands (the
//! leader, or a peer of Basic Paxos), so there are no competing proposers.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use synod_basic_paxos::BasicPaxos;
use synod_bench::core::Cores;
use synod_bench::protocols;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;

fn core_step(criterion: &mut Criterion) {
    bench_protocol::<Raft>(criterion, protocols::raft);
    bench_protocol::<MultiPaxos>(criterion, protocols::multi_paxos);
    bench_protocol::<BasicPaxos>(criterion, |nodes| protocols::basic_paxos(nodes, 1024));
}

fn bench_protocol<P: Protocol>(
    criterion: &mut Criterion,
    configs: fn(u64) -> protocols::Configs<P>,
) {
    let mut group = criterion.benchmark_group(format!("core_step/{}", P::NAME));
    for nodes in [3, 5] {
        for bytes in [16, 256] {
            for batch in [1, 64, 1024] {
                let commands = vec![Bytes::from(vec![7; bytes]); batch];
                let mut cores = Cores::<P>::elect(configs(nodes));
                group.throughput(Throughput::Elements(batch as u64));
                let id = format!("{nodes} nodes, {bytes} B");
                group.bench_function(BenchmarkId::new(id, batch), |bencher| {
                    bencher.iter(|| cores.decide(&commands));
                });
            }
        }
    }
}

criterion_group!(benches, core_step);
criterion_main!(benches);
