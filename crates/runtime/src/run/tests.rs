//! Tests of a single-node replica whose log can fail, block and be observed.

use crate::{Fatal, Replica, ReplicaError, Untyped};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use synod_consensus::{Refusal, Role, StateMachine, StateReader, Status};
use synod_kv::{Command, KvStore, Put, Query, Reply};
use synod_raft::Raft;
use synod_replica::{
    Actions, Applier, Counters, Driver, Event, FatalError, Outcome, ReplicaSettings, Response,
};
use synod_storage::{
    Batch, BootId, LogStore, MemoryDisk, StateStore, StorageError, StoreReader, StoredGroup,
};
use synod_transport::MemoryNetwork;
use synod_types::{
    Changes, ClusterId, Epoch, GroupId, Incarnation, Instant, Membership, NodeId, Slot,
};

const ME: NodeId = NodeId(1);

/// Log store that commits only while its gate is open, counts commits, and fails a given one.
struct GatedLog {
    log: Box<dyn LogStore>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    commits: AtomicUsize,
    /// Number of the commit that fails, from 1; 0 for none.
    failing: AtomicUsize,
    /// Size of the largest commit, in bytes.
    largest: AtomicUsize,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }

    fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }
}

impl LogStore for GatedLog {
    fn boot_id(&self) -> BootId {
        self.log.boot_id()
    }

    fn load(&mut self, group: GroupId) -> Result<StoredGroup, StorageError> {
        self.log.load(group)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let commit = self.gate.commits.fetch_add(1, Ordering::SeqCst) + 1;
        self.gate.largest.fetch_max(batch.byte_len(), Ordering::SeqCst);
        let closed = self.gate.closed.lock().unwrap();
        let _open = self.gate.opened.wait_while(closed, |closed| *closed).unwrap();
        if commit == self.gate.failing.load(Ordering::SeqCst) {
            return Err(StorageError::Io { path: "log".into(), reason: "the disk is full".into() });
        }
        self.log.commit(batch)
    }
}

struct Node {
    replica: Replica<Untyped>,
    gate: Arc<Gate>,
}

/// Starts a single-node cluster on `disk` and waits until the node leads.
async fn start(disk: &MemoryDisk) -> Node {
    start_with(disk, |driver| driver).await
}

async fn start_with(
    disk: &MemoryDisk,
    wrap: impl FnOnce(Box<dyn Driver>) -> Box<dyn Driver> + Send + 'static,
) -> Node {
    let gate = Arc::new(Gate::default());
    let log = GatedLog { log: Box::new(disk.open_log()), gate: Arc::clone(&gate) };
    let replica = Replica::builder::<Raft>(ClusterId(7), ME)
        .members([(ME, "1")])
        .stores(Box::new(log), Box::new(disk.open_state()))
        .transport(Arc::new(MemoryNetwork::default().join(ME)))
        .request_timeout(Duration::from_secs(30))
        .launch(Box::new(KvStore::new()), wrap);
    let node = Node { replica: replica.await.unwrap(), gate };
    node.until("the node leads", |node| node.replica.status().role == Role::Leader).await;
    node
}

fn open_applier(disk: &MemoryDisk, settings: &ReplicaSettings) -> Applier {
    let machine: Box<dyn StateMachine> = Box::new(KvStore::new());
    Applier::open(machine, Box::new(disk.open_state()), settings.session()).unwrap()
}

impl Node {
    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let poll = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let polled = tokio::time::timeout(Duration::from_secs(20), poll).await;
        assert!(polled.is_ok(), "not within 20 s: {what}");
    }

    fn put(&self, key: String) -> tokio::task::JoinHandle<Result<Bytes, ReplicaError>> {
        let replica = self.replica.clone();
        let command = Command::Put(Put::new(key, "value")).encode();
        tokio::spawn(async move { replica.execute_bytes(command).await })
    }

    async fn stop(self) {
        self.replica.stop().await.unwrap();
    }
}

fn revision(reply: &Bytes) -> i64 {
    Reply::decode(reply).unwrap().revision.0
}

/// Returns the newest revision that a reader shows.
fn newest(reader: &dyn StateReader) -> i64 {
    revision(&reader.query(&Query::Revision.encode()).unwrap())
}

#[tokio::test]
async fn batches_queued_during_a_sync_become_one_commit() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.gate.set_closed(true);
    let before = node.gate.commits();
    let mut puts = vec![node.put("first".into())];
    node.until("the first command is at the disk", |node| node.gate.commits() == before + 1).await;
    puts.extend((0..100).map(|key| node.put(format!("key {key}"))));
    node.until("all are pending", |node| node.replica.metrics().outstanding == 101).await;
    assert!(puts.iter().all(|put| !put.is_finished()), "acknowledged before it is durable");
    node.gate.set_closed(false);
    for put in puts {
        assert!(put.await.unwrap().is_ok());
    }
    assert!(node.gate.commits() <= before + 3, "{} commits", node.gate.commits() - before);
    node.stop().await;
}

#[tokio::test]
async fn failed_commit_stops_the_replica_without_an_acknowledgement() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    // After this command, no write of the node itself is pending.
    assert!(node.put("kept".into()).await.unwrap().is_ok());
    node.gate.failing.store(node.gate.commits() + 1, Ordering::SeqCst);
    let put = node.put("lost".into());
    let fatal = tokio::time::timeout(Duration::from_secs(20), node.replica.failed()).await;
    let fatal = fatal.expect("a failed write is reported");
    let expected = "the log cannot be written, so the node stops: log: the disk is full";
    assert_eq!(fatal.to_string(), expected);
    let cause = Some(fatal.clone());
    assert_eq!(put.await.unwrap(), Err(ReplicaError::OutcomeUnknown { cause: cause.clone() }));
    let failing = node.gate.failing.load(Ordering::SeqCst);
    assert_eq!(node.gate.commits(), failing, "the failed commit was retried");
    let stopped = tokio::time::timeout(Duration::from_secs(20), node.replica.shutdown()).await;
    assert_eq!(stopped, Ok(Err(fatal)), "the shutdown hangs after a disk error");
    let late = node.put("late".into()).await.unwrap();
    assert_eq!(late, Err(ReplicaError::Stopped { cause }));
}

#[tokio::test]
async fn backlog_is_written_in_bounded_commits() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.gate.set_closed(true);
    let put = |key: usize| {
        let (replica, value) = (node.replica.clone(), "v".repeat(200_000));
        let command = Command::Put(Put::new(key.to_string(), value)).encode();
        tokio::spawn(async move { replica.execute_bytes(command).await })
    };
    let puts: Vec<_> = (0..100).map(put).collect();
    node.until("all are pending", |node| node.replica.metrics().outstanding == 100).await;
    node.gate.set_closed(false);
    for put in puts {
        assert!(put.await.unwrap().is_ok());
    }
    let largest = node.gate.largest.load(Ordering::SeqCst);
    assert!((200_000..5 << 20).contains(&largest), "{largest} bytes of 20 MB in one commit");
    node.stop().await;
}

/// State store whose writes fail.
struct FullState(Box<dyn StateStore>);

impl StateStore for FullState {
    fn write(&mut self, _: &Changes) -> Result<(), StorageError> {
        Err(StorageError::Io { path: "state".into(), reason: "the disk is full".into() })
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.0.sync()
    }

    fn reader(&self) -> Arc<dyn StoreReader> {
        self.0.reader()
    }
}

#[tokio::test]
async fn failed_save_stops_the_replica() {
    let disk = MemoryDisk::new(Incarnation(1));
    let state = FullState(Box::new(disk.open_state()));
    let replica = Replica::builder::<Raft>(ClusterId(7), ME)
        .members([(ME, "1")])
        .stores(Box::new(disk.open_log()), Box::new(state))
        .transport(Arc::new(MemoryNetwork::default().join(ME)))
        .start_untyped(KvStore::new());
    let replica = replica.await.unwrap();
    let fatal = tokio::time::timeout(Duration::from_secs(20), replica.failed()).await.unwrap();
    let expected = "the state cannot be saved, so the node stops: state: the disk is full";
    assert_eq!(fatal.to_string(), expected);
    assert_eq!(replica.shutdown().await, Err(fatal));
}

/// Driver that reports a fatal error once its flag is set.
struct FatalDriver {
    driver: Box<dyn Driver>,
    is_fatal: Arc<AtomicBool>,
}

const FATAL: FatalError = FatalError::TruncatesChosen { from: Slot(2), chosen: Slot(3) };

impl Driver for FatalDriver {
    fn handle(&mut self, now: Instant, event: Event) {
        self.driver.handle(now, event);
    }

    fn take(&mut self, now: Instant) -> Actions {
        if !self.is_fatal.load(Ordering::SeqCst) {
            return self.driver.take(now);
        }
        Actions { fatal: Some(FATAL), ..Actions::default() }
    }

    fn status(&self) -> Status {
        self.driver.status()
    }

    fn counters(&self) -> &Counters {
        self.driver.counters()
    }

    fn outstanding(&self) -> usize {
        self.driver.outstanding()
    }
}

#[tokio::test]
async fn fatal_error_of_the_driver_stops_the_replica_and_is_reported() {
    let disk = MemoryDisk::new(Incarnation(1));
    let is_fatal = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_fatal);
    let wrap = |driver| Box::new(FatalDriver { driver, is_fatal: flag }) as _;
    let node = start_with(&disk, wrap).await;
    assert!(node.put("kept".into()).await.unwrap().is_ok());
    let commits = node.gate.commits();
    is_fatal.store(true, Ordering::SeqCst);
    let cause = Some(Fatal::Protocol(FATAL));
    let lost = node.put("lost".into()).await.unwrap();
    assert_eq!(lost, Err(ReplicaError::OutcomeUnknown { cause }));
    let fatal = tokio::time::timeout(Duration::from_secs(20), node.replica.failed()).await;
    assert_eq!(fatal.unwrap().to_string(), FATAL.to_string());
    assert_eq!(node.gate.commits(), commits, "the log was written after a fatal error");
    assert_eq!(node.replica.stop().await, Err(Fatal::Protocol(FATAL)));
}

/// Driver that ends every request and read with the same outcome.
struct FixedOutcome {
    driver: Box<dyn Driver>,
    outcome: Arc<Mutex<Outcome>>,
    responses: Vec<Response>,
}

impl Driver for FixedOutcome {
    fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request { token, .. } | Event::Read { token, .. } => {
                let outcome = self.outcome.lock().unwrap().clone();
                self.responses.push(Response { token, outcome });
            }
            event => self.driver.handle(now, event),
        }
    }

    fn take(&mut self, now: Instant) -> Actions {
        let mut actions = self.driver.take(now);
        actions.responses.append(&mut self.responses);
        actions
    }

    fn status(&self) -> Status {
        self.driver.status()
    }

    fn counters(&self) -> &Counters {
        self.driver.counters()
    }

    fn outstanding(&self) -> usize {
        self.driver.outstanding()
    }
}

#[tokio::test]
async fn each_refusal_maps_to_an_error_that_is_retryable_if_a_retry_is_safe() {
    let disk = MemoryDisk::new(Incarnation(1));
    let outcome = Arc::new(Mutex::new(Outcome::Unknown));
    let given = Arc::clone(&outcome);
    let wrap =
        |driver| Box::new(FixedOutcome { driver, outcome: given, responses: Vec::new() }) as _;
    let node = start_with(&disk, wrap).await;
    let members = Membership::new([ME], []).unwrap();
    let hint = Some(ME);
    let cases = [
        (Refusal::NotLeader { hint }, ReplicaError::NotLeader { hint }, true),
        (Refusal::Busy, ReplicaError::Busy, true),
        (Refusal::WrongEpoch { epoch: Epoch(1), members }, ReplicaError::MembersChanged, true),
        (Refusal::TooLarge { limit: 9 }, ReplicaError::TooLarge { limit: 9 }, false),
        (Refusal::Unsupported, ReplicaError::Unsupported, false),
    ];
    for (refusal, expected, retryable) in cases {
        *outcome.lock().unwrap() = Outcome::Refused(refusal);
        let error = node.put("key".into()).await.unwrap().unwrap_err();
        assert_eq!((&error, error.is_retryable()), (&expected, retryable));
        assert_eq!(node.replica.read_barrier().await, Err(expected));
    }
    *outcome.lock().unwrap() = Outcome::Unknown;
    let unknown = node.put("key".into()).await.unwrap().unwrap_err();
    assert_eq!(unknown, ReplicaError::OutcomeUnknown { cause: None });
    assert!(!unknown.is_retryable(), "the command may have been applied");
    let read = node.replica.read_barrier().await.unwrap_err();
    assert!(read == ReplicaError::ReadTimedOut && read.is_retryable());
    node.stop().await;
}

#[tokio::test]
async fn shutdown_completes_and_saves_every_accepted_command() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.gate.set_closed(true);
    let puts: Vec<_> = (0..100).map(|key| node.put(format!("key {key}"))).collect();
    tokio::task::yield_now().await; // Queues every call; the core need not have received it.
    let replica = node.replica.clone();
    let shutdown = tokio::spawn(async move { replica.shutdown().await });
    tokio::task::yield_now().await;
    let stopped = ReplicaError::Stopped { cause: None };
    assert_eq!(node.put("late".into()).await.unwrap(), Err(stopped));
    assert!(!shutdown.is_finished() && puts.iter().all(|put| !put.is_finished()));
    node.gate.set_closed(false);
    for put in puts {
        assert!(put.await.unwrap().is_ok());
    }
    assert_eq!(shutdown.await.unwrap(), Ok(()));
    disk.crash(0);
    let node = start(&disk).await;
    assert_eq!(node.replica.read_barrier().await, Ok(()));
    assert_eq!(newest(&*node.replica.reader().await.unwrap()), 101);
    node.stop().await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_threads_despite_a_pending_command() {
    let disk = MemoryDisk::new(Incarnation(1));
    let Node { replica, gate } = start(&disk).await;
    gate.set_closed(true);
    let command = Command::Put(Put::new("key", "value")).encode();
    let call = replica.clone();
    let put = tokio::spawn(async move { call.execute_bytes(command).await });
    while replica.metrics().outstanding == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    let status = replica.watch();
    drop(replica);
    gate.set_closed(false);
    // The writer owns the log, which has the other reference to the gate.
    let ended = async {
        while Arc::strong_count(&gate) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the writer still runs");
    drop(status);
}

#[tokio::test]
async fn stop_saves_every_applied_command() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    for key in 0..10 {
        let reply = node.put(format!("key {key}")).await.unwrap().unwrap();
        assert_eq!(revision(&reply), 2 + key);
    }
    let replica = node.replica.clone();
    node.stop().await;
    let applied = replica.status();
    disk.crash(0);
    let again =
        open_applier(&disk, &ReplicaSettings::new(ClusterId(7), ME, disk.open_log().boot_id(), 1));
    assert_eq!((again.applied(), again.digest()), (applied.applied, applied.digest));
    assert!(again.applied() >= Slot(10));
}

#[tokio::test]
async fn read_after_the_barrier_includes_acknowledged_commands() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    for key in 0..50 {
        node.put(format!("key {key}")).await.unwrap().unwrap();
        assert_eq!(node.replica.read_barrier().await, Ok(()));
        assert_eq!(newest(&*node.replica.reader().await.unwrap()), 2 + key);
    }
    node.stop().await;
}

#[tokio::test]
async fn command_is_applied_while_64_readers_are_open() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.put("before".into()).await.unwrap().unwrap();
    let mut readers = Vec::new();
    for _ in 0..64 {
        readers.push(node.replica.reader().await.unwrap());
    }
    assert_eq!(revision(&node.put("during".into()).await.unwrap().unwrap()), 3);
    assert!(readers.iter().all(|reader| newest(&**reader) == 2), "a reader has changed");
    assert_eq!(newest(&*node.replica.reader().await.unwrap()), 3);
    node.stop().await;
}

#[tokio::test]
async fn stopping_replica_rejects_new_calls() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.replica.refuse_new();
    let stopped = ReplicaError::Stopped { cause: None };
    assert_eq!(node.put("a".into()).await.unwrap(), Err(stopped.clone()));
    let replica = node.replica.clone();
    node.stop().await;
    assert_eq!(replica.reader().await.err(), Some(stopped));
}

#[tokio::test]
async fn cancelled_call_keeps_its_memory_permit_until_the_command_ends() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.gate.set_closed(true);
    let command = || Bytes::from(vec![0; 1 << 20]);
    let mut cancelled = 0;
    for _ in 0..200 {
        let replica = node.replica.clone();
        let call = tokio::spawn(async move { replica.execute_bytes(command()).await });
        let accepted = || node.replica.metrics().outstanding > cancelled;
        node.until("the call is accepted or rejected", |_| accepted() || call.is_finished()).await;
        if call.is_finished() && !accepted() {
            assert_eq!(call.await.unwrap(), Err(ReplicaError::Busy));
            break;
        }
        call.abort();
        cancelled += 1;
    }
    assert!((1..64).contains(&cancelled), "{cancelled} commands of 1 MiB were accepted");
    node.gate.set_closed(false);
    node.until("all are done", |node| node.replica.metrics().outstanding == 0).await;
    assert!(node.put("room".into()).await.unwrap().is_ok());
    node.stop().await;
}
