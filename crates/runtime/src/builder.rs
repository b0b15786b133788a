//! The one assembly of a replica: stores, state machine, protocol, network, threads.

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

/// Reason that a replica does not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A part without a default was not given.
    #[error("the replica has no {0}: give it one with `Builder::{0}`")]
    Missing(&'static str),
    /// The list of members makes no cluster.
    #[error("the members cannot be used: {0}")]
    Members(#[from] MembershipError),
    /// The protocol rejects its settings.
    #[error("the settings cannot be used: {0}")]
    Config(ConfigError),
    /// The data folder is refused.
    #[error("{}{}", .0, .0.remedy())]
    DataDir(#[from] DataDirError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] StorageError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] ApplyError),
    /// Log and state do not belong together, or to this protocol.
    #[error("the data cannot be started on: {0}")]
    Open(#[from] OpenError),
    /// The operating system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Where a replica's stores come from.
enum StoresFrom {
    #[cfg(feature = "rocksdb")]
    DataDir(std::path::PathBuf),
    Given(Stores),
}

/// A change of a protocol's default settings.
type Configure<P> =
    Box<dyn FnOnce(<P as Protocol>::Config) -> Result<<P as Protocol>::Config, ConfigError> + Send>;

/// Receives the events of a slot.
type Observer = Box<dyn FnMut(Slot, &[StateEvent]) + Send>;

/// Puts a replica of protocol `P` together. Made by [`Replica::builder`].
pub struct Builder<P: Protocol> {
    cluster: ClusterId,
    node: NodeId,
    members: Vec<(NodeId, String)>,
    configure: Configure<P>,
    stores: Option<StoresFrom>,
    transport: Option<Arc<dyn Transport>>,
    request_timeout: Duration,
    observer: Option<Observer>,
}

impl Replica {
    /// Returns a builder of node `me` of a cluster. The state machine follows in
    /// [`start`](Builder::start).
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
    /// Sets the members of the cluster, this node included, each with the address on which its
    /// transport receives. The same on every node; the ids cannot change later.
    #[must_use]
    pub fn members<A: Into<String>>(
        mut self,
        members: impl IntoIterator<Item = (NodeId, A)>,
    ) -> Self {
        self.members = members.into_iter().map(|(node, at)| (node, at.into())).collect();
        self
    }

    /// Changes the protocol's settings, as its timeouts. `change` gets those of [`Protocol::config`] for
    /// this node and these members, so that a replica cannot run with the settings of another node.
    #[must_use]
    pub fn configure(
        mut self,
        change: impl FnOnce(P::Config) -> Result<P::Config, ConfigError> + Send + 'static,
    ) -> Self {
        self.configure = Box::new(change);
        self
    }

    /// Keeps log and state in RocksDB in this folder, which is this node's alone; makes it if there is
    /// none. A folder of another node, cluster, protocol or list of members is refused.
    #[cfg(feature = "rocksdb")]
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
        self.stores = Some(StoresFrom::DataDir(folder.into()));
        self
    }

    /// Keeps log and state in these stores.
    #[must_use]
    pub fn stores(mut self, log: Box<dyn LogStore>, state: Box<dyn StateStore>) -> Self {
        self.stores = Some(StoresFrom::Given(Stores { log, state }));
        self
    }

    /// Keeps log and state in memory. A node that stops loses its votes: it must not come back under
    /// the same id while its peers run.
    #[must_use]
    pub fn in_memory(self) -> Self {
        let Stores { log, state } = Stores::in_memory();
        self.stores(log, state)
    }

    /// Sets the network.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Sets the time after which the outcome of a request counts as unknown. 7 s by default.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Hands the events that the state machine [emits](crate::Output::emit) to `observer`, slot by slot,
    /// in order, before the command is answered on this node. It runs on the thread that applies, so it
    /// must be quick. Slots that are applied again after a restart give their events again.
    #[must_use]
    pub fn on_events(mut self, observer: impl FnMut(Slot, &[StateEvent]) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Starts the replica of a typed state machine. Needs a tokio runtime with its time driver.
    ///
    /// # Errors
    /// If a part is missing, or the stores do not belong to this node, its members or its protocol.
    pub async fn start<M: TypedMachine>(self, machine: M) -> Result<Replica<M>, StartError> {
        self.launch(Box::new(Typed(machine)), |driver| driver).await
    }

    /// Starts the replica of a state machine whose commands, queries and replies are bytes: use
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

    /// Opens the stores on a thread that may block, and starts the threads.
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
        // Known from the start, so that no peer is turned away while the stores are opened.
        let peers = members.iter().filter(|(peer, _)| *peer != node);
        let peers = peers.map(|(node, at)| Peer { node: *node, address: at.clone() });
        transport.set_peers(&peers.collect::<Vec<_>>());
        let Stores { mut log, state } = match stores {
            Some(StoresFrom::Given(stores)) => stores,
            #[cfg(feature = "rocksdb")]
            Some(StoresFrom::DataDir(folder)) => {
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
