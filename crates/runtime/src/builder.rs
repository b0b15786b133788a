//! Builder of a replica: checks its parts, opens its stores and starts its threads.

use crate::data_dir::{DataDirError, Stores, random};
use crate::run::{self, Assembly, Clock};
use crate::{Replica, Typed, TypedMachine, Untyped};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use synod_consensus::{ConfigError, Protocol, StateEvent, StateMachine};
use synod_replica::{Applier, ApplyError, Driver, OpenError, ReplicaCore, ReplicaSettings};
use synod_storage::{LogStore, StateStore, StorageError};
use synod_transport::{Peer, Transport};
use synod_types::{ClusterId, GroupId, Membership, MembershipError, NodeId, Slot};

/// Default time limit of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// Error of a replica that cannot start. None of its threads runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A part without a default was not set.
    #[error("the replica has no {0}: set it with `Builder::{0}`")]
    Missing(&'static str),
    /// The list of members is not a valid configuration.
    #[error("invalid members: {0}")]
    Members(#[from] MembershipError),
    /// The protocol rejects its settings.
    #[error("invalid settings: {0}")]
    Config(ConfigError),
    /// The data folder cannot be used.
    #[error("{}{}", .0, .0.remedy())]
    DataDir(#[from] DataDirError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] StorageError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] ApplyError),
    /// Log and state do not match each other or the protocol.
    #[error("the replica cannot start from its stores: {0}")]
    Open(#[from] OpenError),
    /// The operating system could not start a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Source of a replica's stores.
enum StoresSource {
    #[cfg(feature = "rocksdb")]
    DataDir(std::path::PathBuf),
    Given(Stores),
}

/// Change of a protocol's default settings.
type Configure<P> =
    Box<dyn FnOnce(<P as Protocol>::Config) -> Result<<P as Protocol>::Config, ConfigError> + Send>;

/// Callback for the events of a slot.
type Observer = Box<dyn FnMut(Slot, &[StateEvent]) + Send>;

/// Builder of a replica of protocol `P`, returned by [`Replica::builder`].
pub struct Builder<P: Protocol> {
    cluster: ClusterId,
    node: NodeId,
    members: Vec<(NodeId, String)>,
    configure: Configure<P>,
    stores: Option<StoresSource>,
    transport: Option<Arc<dyn Transport>>,
    request_timeout: Duration,
    observer: Option<Observer>,
}

impl Replica {
    /// Returns a builder for node `me` of a cluster. [`start`](Builder::start) takes the state machine.
    #[must_use]
    pub fn builder<P: Protocol>(cluster: ClusterId, me: NodeId) -> Builder<P> {
        Builder {
            cluster,
            node: me,
            members: Vec::new(),
            configure: Box::new(Ok),
            stores: None,
            transport: None,
            request_timeout: REQUEST_TIMEOUT,
            observer: None,
        }
    }
}

impl<P: Protocol> Builder<P> {
    /// Sets the members of the cluster, this node included, each with the address of its transport. The
    /// list must be the same on every node. Addresses may change later, ids may not.
    #[must_use]
    pub fn members<A: Into<String>>(
        mut self,
        members: impl IntoIterator<Item = (NodeId, A)>,
    ) -> Self {
        self.members = members.into_iter().map(|(node, at)| (node, at.into())).collect();
        self
    }

    /// Changes the protocol's settings, for example its timeouts. `change` receives those of
    /// [`Protocol::config`] for this node and its members, so that they cannot be another node's.
    #[must_use]
    pub fn configure(
        mut self,
        change: impl FnOnce(P::Config) -> Result<P::Config, ConfigError> + Send + 'static,
    ) -> Self {
        self.configure = Box::new(change);
        self
    }

    /// Stores log and state in RocksDB in this folder, which must be this node's alone; creates it if
    /// necessary. The start fails on a folder of another node, cluster, protocol or list of members.
    #[cfg(feature = "rocksdb")]
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
        self.stores = Some(StoresSource::DataDir(folder.into()));
        self
    }

    /// Stores log and state in these stores.
    #[must_use]
    pub fn stores(mut self, log: Box<dyn LogStore>, state: Box<dyn StateStore>) -> Self {
        self.stores = Some(StoresSource::Given(Stores { log, state }));
        self
    }

    /// Stores log and state in memory. A node that stops loses its votes, so it must not start again
    /// under the same id while its peers run.
    #[must_use]
    pub fn in_memory(self) -> Self {
        let Stores { log, state } = Stores::in_memory();
        self.stores(log, state)
    }

    /// Sets the transport to the other members.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Sets the time limit of requests, after which a request in flight ends with an unknown outcome.
    /// 7 s by default.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Registers `observer`, which receives the events that the state machine
    /// [emits](crate::Output::emit), slot by slot in order, before this node replies to the command. It
    /// runs on the apply thread, so it must be fast. Slots that are applied again after a restart emit
    /// their events again.
    #[must_use]
    pub fn on_events(mut self, observer: impl FnMut(Slot, &[StateEvent]) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Starts the replica with a typed state machine. Needs a tokio runtime with its time driver.
    ///
    /// # Errors
    /// If a part is missing, or the stores are of another node, list of members or protocol.
    pub async fn start<M: TypedMachine>(self, machine: M) -> Result<Replica<M>, StartError> {
        self.launch(Box::new(Typed(machine)), |driver| driver).await
    }

    /// Starts the replica with a state machine whose commands, queries and replies are bytes. Use its
    /// [`execute_bytes`](Replica::execute_bytes), [`read_barrier`](Replica::read_barrier) and
    /// [`reader`](Replica::reader).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_untyped(
        self,
        machine: impl StateMachine + 'static,
    ) -> Result<Replica<Untyped>, StartError> {
        self.launch(Box::new(machine), |driver| driver).await
    }

    /// Opens the stores on a blocking thread, and starts the replica's threads.
    pub(crate) async fn launch<M: 'static>(
        self,
        machine: Box<dyn StateMachine>,
        wrap: impl FnOnce(Box<dyn Driver>) -> Box<dyn Driver> + Send + 'static,
    ) -> Result<Replica<M>, StartError> {
        let opened = tokio::task::spawn_blocking(move || {
            let mut assembly = self.open(machine)?;
            assembly.driver = wrap(assembly.driver);
            run::launch(assembly).map(Replica::new).map_err(StartError::Thread)
        });
        match opened.await {
            Ok(opened) => opened,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn open(self, machine: Box<dyn StateMachine>) -> Result<Assembly, StartError> {
        let Self { cluster, node, members, configure, stores, transport, .. } = self;
        if members.is_empty() {
            return Err(StartError::Missing("members"));
        }
        let transport = transport.ok_or(StartError::Missing("transport"))?;
        let founders = Membership::new(members.iter().map(|(node, _)| *node), [])?;
        let config = P::config(node, &founders).and_then(configure).map_err(StartError::Config)?;
        // Set before the stores are opened, so that the transport accepts peers' connections meanwhile.
        let peers = members.iter().filter(|(peer, _)| *peer != node);
        let peers = peers.map(|(node, at)| Peer { node: *node, address: at.clone() });
        transport.set_peers(&peers.collect::<Vec<_>>());
        let Stores { mut log, state } = match stores {
            Some(StoresSource::Given(stores)) => stores,
            #[cfg(feature = "rocksdb")]
            Some(StoresSource::DataDir(folder)) => {
                let identity = synod_storage::StoreIdentity { cluster, node };
                let ids = members.iter().map(|(node, _)| *node);
                crate::open_data_dir(&folder, P::NAME, identity, ids)?
            }
            None => return Err(StartError::Missing("stores")),
        };
        let settings = ReplicaSettings::new(cluster, node, log.boot_id(), random());
        let saved = log.load(GroupId(0))?;
        let mut applier = Applier::open(machine, state, settings.session())?;
        if let Some(observer) = self.observer {
            applier.on_events(observer);
        }
        let (clock, applied) = (Clock::start(), applier.applied());
        let driver = ReplicaCore::<P>::open(clock.now(), settings, config, &saved, applied)?;
        let addresses: BTreeMap<_, _> = members.into_iter().collect();
        let (driver, request_timeout) = (Box::new(driver), self.request_timeout);
        Ok(Assembly { node, driver, log, applier, transport, addresses, request_timeout, clock })
    }
}
