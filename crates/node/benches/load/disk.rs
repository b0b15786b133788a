//! Nodes on a slow disk: a log store whose writes have a limited rate.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use synod_node::node;
use synod_node::settings::{Layer, NodeSettings};
use synod_runtime::Stores;
use synod_storage::{Batch, BootId, LogOp, LogStore, StorageError, StoredGroup};
use synod_types::GroupId;

/// Latency of a sync of the slow disk, in addition to the transfer time of its bytes.
const SYNC: Duration = Duration::from_millis(5);

/// A log store whose commits take at least as long as they would on the slow disk.
struct SlowLog {
    log: Box<dyn LogStore>,
    bytes_per_second: u64,
}

impl LogStore for SlowLog {
    fn boot_id(&self) -> BootId {
        self.log.boot_id()
    }

    fn load(&mut self, group: GroupId) -> Result<StoredGroup, StorageError> {
        self.log.load(group)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let until = Instant::now() + SYNC + self.transfer_time(bytes_of(batch));
        self.log.commit(batch)?;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    }
}

impl SlowLog {
    fn transfer_time(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
    }
}

fn bytes_of(batch: &Batch) -> usize {
    let of = |(_, op): &(GroupId, LogOp)| match op {
        LogOp::Put(run) => run.values.byte_len(),
        LogOp::HardState(bytes) => bytes.len(),
        LogOp::TruncateFrom(_) | LogOp::Compact { .. } => 16,
    };
    batch.ops.iter().map(of).sum()
}

/// Runs a node on a slow disk until it is killed.
pub(crate) fn serve(file: &Path, bytes_per_second: u64) -> ExitCode {
    let slow = |stores: Stores| Stores {
        log: Box::new(SlowLog { log: stores.log, bytes_per_second }),
        ..stores
    };
    let settings = Layer::from_file(file)
        .map_err(anyhow::Error::new)
        .and_then(|layer| Ok(NodeSettings::parse(layer)?));
    let served = settings.and_then(|settings| {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(node::serve_with(settings, slow, std::future::pending()))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("synod: {error:#}");
            ExitCode::FAILURE
        }
    }
}
