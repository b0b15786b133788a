//! A replica of one node, whose stores can be told to fail, to wait, and to be looked at.

use super::{Clock, Handle, Parts, Running, launch};
use crate::alarm::{Alarm, Alarms};
use crate::backend::NodeBackend;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;
use synod_consensus::{Role, StateMachine, StateView, Status};
use synod_etcd_api::{Backend, Consistency};
use synod_kv::{Command, KeyRange, KvStore, Put, Query, Range, Reply};
use synod_raft::{Config, Raft};
use synod_replica::{
    Actions, Applier, Counters, Driver, Event, FatalError, Outcome, Replica, Settings,
};
use synod_storage::{Batch, Life, LogStore, MemoryDisk, Saved, StorageError};
use synod_transport::MemoryNetwork;
use synod_types::{ClusterId, GroupId, Incarnation, Instant, Membership, NodeId, Slot};

const ME: NodeId = NodeId(1);

/// A log that commits only while its gate is open, counts, and fails when told to.
struct Gated {
    log: Box<dyn LogStore>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    commits: AtomicUsize,
    /// The commit that fails, counted from 1; 0 for none.
    failing: AtomicUsize,
    /// The most that one commit had to write, in bytes.
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

impl LogStore for Gated {
    fn life(&self) -> Life {
        self.log.life()
    }

    fn load(&mut self, group: GroupId) -> Result<Saved, StorageError> {
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
    handle: Handle,
    running: Running,
    alarms: Alarms,
    gate: Arc<Gate>,
}

/// Starts a node alone on `disk` and waits until it leads.
async fn start(disk: &MemoryDisk) -> Node {
    start_with(disk, |driver| driver).await
}

async fn start_with(
    disk: &MemoryDisk,
    wrap: impl FnOnce(Box<dyn Driver>) -> Box<dyn Driver>,
) -> Node {
    let gate = Arc::new(Gate::default());
    let mut log = Gated { log: Box::new(disk.open_log()), gate: Arc::clone(&gate) };
    let settings = Settings::new(ClusterId(7), ME, log.life(), 1);
    let applier = open_applier(disk, &settings);
    let members = Membership::new([ME], []).unwrap();
    let (clock, saved) = (Clock::start(), log.load(GroupId(0)).unwrap());
    let config = Config::new(ME, members).unwrap();
    let driver = Replica::<Raft>::open(clock.now(), settings, config, &saved, applier.applied());
    let parts = Parts {
        driver: wrap(Box::new(driver.unwrap())),
        log: Box::new(log),
        applier,
        transport: Arc::new(MemoryNetwork::default().join(ME)),
        addresses: BTreeMap::new(),
        request_timeout: Duration::from_secs(30),
        clock,
    };
    let (alarm, alarms) = Alarm::new();
    let (handle, running) = launch(parts, &alarm).unwrap();
    let node = Node { handle, running, alarms, gate };
    node.until("it leads", |node| node.handle.meters().view().status.role == Role::Leader).await;
    node
}

fn open_applier(disk: &MemoryDisk, settings: &Settings) -> Applier {
    let machine: Box<dyn StateMachine> = Box::new(KvStore::new());
    Applier::open(machine, Box::new(disk.open_state()), settings.session()).unwrap()
}

impl Node {
    async fn until(&self, what: &str, seen: impl Fn(&Self) -> bool) {
        let look = async {
            while !seen(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let looked = tokio::time::timeout(Duration::from_secs(20), look).await;
        assert!(looked.is_ok(), "still not: {what}");
    }

    fn put(&self, key: String) -> tokio::task::JoinHandle<Outcome> {
        let handle = self.handle.clone();
        let command = Command::Put(Put::new(key, "value")).encode();
        tokio::spawn(async move { handle.request(command).await.unwrap() })
    }

    async fn stop(self) {
        tokio::task::spawn_blocking(move || self.running.stop()).await.unwrap();
    }
}

fn revision(reply: &Bytes) -> i64 {
    Reply::decode(reply).unwrap().revision.0
}

#[tokio::test]
async fn what_waits_for_the_disk_becomes_one_commit() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.gate.set_closed(true);
    let before = node.gate.commits();
    let mut puts = vec![node.put("first".into())];
    node.until("the first is at the disk", |node| node.gate.commits() == before + 1).await;
    puts.extend((0..100).map(|key| node.put(format!("key {key}"))));
    node.until("all are under way", |node| node.handle.meters().view().outstanding == 101).await;
    assert!(puts.iter().all(|put| !put.is_finished()), "acknowledged before it is durable");
    node.gate.set_closed(false);
    for put in puts {
        assert!(matches!(put.await.unwrap(), Outcome::Done(..)));
    }
    assert!(node.gate.commits() <= before + 3, "{} commits", node.gate.commits() - before);
    node.stop().await;
}

#[tokio::test]
async fn a_failed_commit_raises_the_alarm_and_acknowledges_nothing() {
    let disk = MemoryDisk::new(Incarnation(1));
    let mut node = start(&disk).await;
    // Behind this one nothing of the node's own is on its way to the disk.
    assert!(matches!(node.put("kept".into()).await.unwrap(), Outcome::Done(..)));
    node.gate.failing.store(node.gate.commits() + 1, Ordering::SeqCst);
    let put = node.put("lost".into());
    let alarm = tokio::time::timeout(Duration::from_secs(20), node.alarms.first()).await;
    let alarm = alarm.expect("whoever fails to write raises the alarm");
    let expected = "the log cannot be written, so the node stops: log: the disk is full";
    assert_eq!(format!("{alarm:#}"), expected);
    assert_eq!(put.await.unwrap(), Outcome::Unknown);
    assert_eq!(node.gate.commits(), node.gate.failing.load(Ordering::SeqCst), "no second try");
    let (stopped, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        node.running.stop();
        let _ = stopped.send(());
    });
    let stopped = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert_eq!(stopped, Ok(Ok(())), "whoever stops a node whose disk failed waits for ever");
}

#[tokio::test]
async fn a_backlog_reaches_the_disk_in_bounded_commits() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.gate.set_closed(true);
    let put = |key: usize| {
        let (handle, value) = (node.handle.clone(), "v".repeat(200_000));
        let command = Command::Put(Put::new(key.to_string(), value)).encode();
        tokio::spawn(async move { handle.request(command).await.unwrap() })
    };
    let puts: Vec<_> = (0..100).map(put).collect();
    node.until("all are under way", |node| node.handle.meters().view().outstanding == 100).await;
    node.gate.set_closed(false);
    for put in puts {
        assert!(matches!(put.await.unwrap(), Outcome::Done(..)));
    }
    let largest = node.gate.largest.load(Ordering::SeqCst);
    assert!((200_000..5 << 20).contains(&largest), "{largest} bytes of 20 MB at once");
    node.stop().await;
}

/// A driver whose core asks for what must not be done, once it is told to.
struct Doomed {
    driver: Box<dyn Driver>,
    doomed: Arc<AtomicBool>,
    actions: Actions,
}

const FATAL: FatalError = FatalError::TruncatesChosen { from: Slot(2), chosen: Slot(3) };

impl Driver for Doomed {
    fn handle(&mut self, now: Instant, event: Event) {
        self.driver.handle(now, event);
    }

    fn take(&mut self, now: Instant) -> &mut Actions {
        if !self.doomed.load(Ordering::SeqCst) {
            return self.driver.take(now);
        }
        self.actions.fatal = Some(FATAL);
        &mut self.actions
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
async fn a_core_that_would_undo_what_is_applied_stops_the_node_with_one_line() {
    let disk = MemoryDisk::new(Incarnation(1));
    let doomed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&doomed);
    let wrap = |driver| Box::new(Doomed { driver, doomed: flag, actions: Actions::default() }) as _;
    let mut node = start_with(&disk, wrap).await;
    assert!(matches!(node.put("kept".into()).await.unwrap(), Outcome::Done(..)));
    let commits = node.gate.commits();
    doomed.store(true, Ordering::SeqCst);
    assert_eq!(node.put("lost".into()).await.unwrap(), Outcome::Unknown);
    let alarm = tokio::time::timeout(Duration::from_secs(20), node.alarms.first()).await;
    assert_eq!(format!("{:#}", alarm.unwrap()), FATAL.to_string());
    assert_eq!(node.gate.commits(), commits, "nothing was written any more");
    node.stop().await;
}

#[tokio::test]
async fn a_stop_saves_all_that_was_applied() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    for key in 0..10 {
        let outcome = node.put(format!("key {key}")).await.unwrap();
        assert!(matches!(&outcome, Outcome::Done(_, reply) if revision(reply) == 2 + key));
    }
    let applied = node.handle.meters().applying();
    node.stop().await;
    disk.crash(0);
    let again = open_applier(&disk, &Settings::new(ClusterId(7), ME, disk.open_log().life(), 1));
    assert_eq!((again.applied(), again.digest()), (applied.applied, applied.digest));
    assert!(again.applied() >= Slot(10));
}

#[tokio::test]
async fn a_read_after_the_barrier_sees_what_was_acknowledged() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    for key in 0..50 {
        node.put(format!("key {key}")).await.unwrap();
        assert_eq!(node.handle.read_barrier().await, Ok(Outcome::Readable));
        let view = node.handle.view().await.unwrap();
        assert_eq!(revision(&view.query(&Query::Revision.encode())), 2 + key);
    }
    node.stop().await;
}

#[tokio::test]
async fn put_is_applied_while_64_reads_hold_views() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.put("before".into()).await.unwrap();
    let mut views = Vec::new();
    for _ in 0..64 {
        views.push(node.handle.view().await.unwrap());
    }
    let put = node.put("during".into()).await.unwrap();
    assert!(matches!(&put, Outcome::Done(_, reply) if revision(reply) == 3));
    let seen = |view: &dyn StateView| revision(&view.query(&Query::Revision.encode()));
    assert!(views.iter().all(|view| seen(&**view) == 2), "the views stay as they were");
    assert_eq!(seen(&*node.handle.view().await.unwrap()), 3);
    node.stop().await;
}

/// The apply thread does its tasks in order, and the read's was first: if that thread read, the put
/// would have waited for the whole read, and the reply would be there now.
#[tokio::test]
async fn put_is_applied_while_a_long_read_waits_for_a_reader_thread() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    let puts: Vec<_> = (0..2000).map(|key| node.put(key.to_string())).collect();
    for put in puts {
        assert!(matches!(put.await.unwrap(), Outcome::Done(..)), "more keys than one piece takes");
    }
    let backend = NodeBackend::without_reader_threads(node.handle.clone());
    let query = Query::Range(Range::new(KeyRange::all()));
    let mut read = pin!(backend.query(query, Consistency::Serializable));
    let mut no_wake = Context::from_waker(Waker::noop());
    assert!(read.as_mut().poll(&mut no_wake).is_pending(), "the view is asked for");
    let put = tokio::time::timeout(Duration::from_secs(20), node.put("during".into())).await;
    assert!(matches!(put, Ok(Ok(Outcome::Done(..)))), "the put waits for the read");
    assert!(read.as_mut().poll(&mut no_wake).is_pending(), "the apply thread has read it all");
    node.stop().await;
}

#[tokio::test]
async fn a_stopping_node_takes_nothing_new() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.handle.refuse_new();
    let command = Command::Put(Put::new("a", "b")).encode();
    assert_eq!(node.handle.request(command).await, Err(super::Overload::Stopping));
    let handle = node.handle.clone();
    node.stop().await;
    assert_eq!(handle.view().await.err(), Some(super::Overload::Stopping));
}

#[tokio::test]
async fn who_hangs_up_frees_no_room_that_is_still_in_use() {
    let disk = MemoryDisk::new(Incarnation(1));
    let node = start(&disk).await;
    node.gate.set_closed(true);
    let command = || Bytes::from(vec![0; 1 << 20]);
    let mut hung_up = 0;
    for _ in 0..200 {
        let handle = node.handle.clone();
        let call = tokio::spawn(async move { handle.request(command()).await });
        let taken = || node.handle.meters().view().outstanding > hung_up;
        node.until("it is taken or refused", |_| taken() || call.is_finished()).await;
        if call.is_finished() && !taken() {
            assert_eq!(call.await.unwrap(), Err(super::Overload::Busy));
            break;
        }
        call.abort();
        hung_up += 1;
    }
    assert!((1..64).contains(&hung_up), "{hung_up} commands of a MiB are held");
    node.gate.set_closed(false);
    node.until("all are done", |node| node.handle.meters().view().outstanding == 0).await;
    assert!(matches!(node.put("room".into()).await, Ok(Outcome::Done(..))));
    node.stop().await;
}
