//! The folder of a development cluster: created once, then reused.

use super::args::Dev;
use crate::certificates::{new_cluster_id, write_authority, write_issued};
use crate::protocol::ProtocolKind;
use crate::settings::{Layer, NodeSettings, StoreKind};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use synod_transport::certificates::CertificateAuthority;
use synod_types::{ClusterId, NodeId};

/// File with the [`Plan`] of a folder.
const PLAN_FILE: &str = "dev.toml";
/// File that a running supervisor keeps locked.
const LOCK_FILE: &str = "dev.lock";
const DEFAULT_CLIENT_PORT: u16 = 2379;

/// The layout of a cluster, fixed when its folder is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) cluster: u64,
    pub(super) nodes: u16,
    pub(super) client_port: u16,
    pub(super) peer_port: u16,
    pub(super) protocol: String,
    pub(super) store: StoreKind,
}

/// The folder of a cluster.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) plan: Plan,
}

/// A node's own subfolder and addresses.
#[derive(Clone, Debug)]
pub(super) struct NodeDir {
    pub(super) node: u16,
    pub(super) folder: PathBuf,
    pub(super) clients: SocketAddr,
    pub(super) peers: SocketAddr,
}

impl Folder {
    /// Opens the folder that `dev` names, or creates it.
    ///
    /// # Errors
    /// If it cannot be created, holds other files, or has another layout than `dev` requests.
    pub(super) fn open_or_create(dev: &Dev) -> anyhow::Result<Self> {
        let path = dev.data.clone();
        let file = path.join(PLAN_FILE);
        let plan = match fs::read_to_string(&file) {
            Ok(text) => {
                let plan = toml::from_str::<Plan>(&text);
                let plan = plan.with_context(|| format!("cannot use {}", file.display()))?;
                plan.check_against(dev)?;
                plan
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let plan = Plan::new(dev)?;
                create(&path, &plan)?;
                plan
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        Ok(Self { path, plan })
    }

    /// Locks the folder until the returned file is dropped, or the process exits.
    ///
    /// # Errors
    /// If another supervisor runs on the folder.
    pub(super) fn lock(&self) -> anyhow::Result<File> {
        let file = self.path.join(LOCK_FILE);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&file);
        let lock = lock.with_context(|| format!("cannot write {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => bail!(
                "another `synod dev` runs on {}: stop it, or name another folder with --data",
                self.path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", file.display()))
            }
        }
    }

    pub(super) fn node_dirs(&self) -> Vec<NodeDir> {
        (1..=self.plan.nodes).map(|node| self.plan.node_dir(&self.path, node)).collect()
    }
}

impl NodeDir {
    /// Returns the path of the node's settings file.
    pub(super) fn settings(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// Returns the path of the node's log lines.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }
}

impl Plan {
    fn new(dev: &Dev) -> anyhow::Result<Self> {
        let nodes = dev.nodes.unwrap_or(3);
        let client_port = dev.client_port.unwrap_or(DEFAULT_CLIENT_PORT);
        let protocol = dev.protocol.clone().unwrap_or_else(|| ProtocolKind::default().to_string());
        let plan = Self {
            cluster: new_cluster_id(),
            nodes,
            client_port,
            // Peers use UDP and clients TCP, so both can have the same number.
            peer_port: dev.peer_port.unwrap_or(client_port),
            protocol,
            store: dev.store.unwrap_or_default(),
        };
        for (flag, port) in [("--client-port", client_port), ("--peer-port", plan.peer_port)] {
            if port == 0 || port.checked_add(nodes - 1).is_none() {
                bail!(
                    "{flag} {port} is not valid: {nodes} nodes need {nodes} consecutive ports \
                     from 1 to 65535"
                );
            }
        }
        if plan.store == StoreKind::Rocksdb && !cfg!(feature = "rocksdb") {
            bail!("this program was built without RocksDB: use --store memory");
        }
        Ok(plan)
    }

    /// Checks that `dev` requests this layout: the layout of an existing folder cannot be changed.
    fn check_against(&self, dev: &Dev) -> anyhow::Result<()> {
        let requests = [
            ("nodes", dev.nodes.map(|nodes| nodes.to_string()), self.nodes.to_string()),
            ("client-port", dev.client_port.map(|p| p.to_string()), self.client_port.to_string()),
            ("peer-port", dev.peer_port.map(|p| p.to_string()), self.peer_port.to_string()),
            ("protocol", dev.protocol.clone(), self.protocol.clone()),
            ("store", dev.store.map(|store| store.to_string()), self.store.to_string()),
        ];
        for (flag, requested, found) in requests {
            if requested.as_ref().is_some_and(|requested| *requested != found) {
                bail!(
                    "{} was created with --{flag} {found}: omit --{flag}, or name another folder \
                     with --data",
                    dev.data.display()
                );
            }
        }
        Ok(())
    }

    fn node_dir(&self, folder: &Path, node: u16) -> NodeDir {
        let at = |first: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, first + node - 1));
        NodeDir {
            node,
            folder: folder.join(format!("node-{node}")),
            clients: at(self.client_port),
            peers: at(self.peer_port),
        }
    }

    /// Returns the text of a node's settings file. Its paths are relative, so that the folder can be
    /// moved.
    fn settings(&self, folder: &Path, node: u16) -> String {
        let Self { cluster, protocol, store, .. } = self;
        let NodeDir { clients, peers, .. } = self.node_dir(folder, node);
        let members: String = (1..=self.nodes)
            .map(|id| {
                let NodeDir { clients, peers, .. } = self.node_dir(folder, id);
                format!("    {{ id = {id}, peer = \"{peers}\", client = \"http://{clients}\" }},\n")
            })
            .collect();
        format!(
            "# Created by `synod dev`. `synod start --help` explains every setting.\n\
             node = {node}\n\
             cluster = {cluster}\n\
             listen-clients = \"{clients}\"\n\
             listen-peers = \"{peers}\"\n\
             data = \"data\"\n\
             ca = \"../ca.pem\"\n\
             cert = \"node-{node}.pem\"\n\
             key = \"node-{node}.key\"\n\
             protocol = {protocol:?}\n\
             store = \"{store}\"\n\
             log-format = \"compact\"\n\
             members = [\n{members}]\n"
        )
    }
}

/// Creates the folder with all its files. After an error, nothing is left of them.
fn create(path: &Path, plan: &Plan) -> anyhow::Result<()> {
    let cannot = || format!("cannot create {}", path.display());
    if let Ok(mut entries) = fs::read_dir(path)
        && entries.next().is_some()
    {
        bail!(
            "{} is not empty and was not created by `synod dev`: name another folder with --data",
            path.display()
        );
    }
    if path.is_dir() {
        // The folder is filled and not replaced, because it may be the working directory of a process.
        // The plan is written last, so a folder with a plan is complete.
        let filled = fill(path, plan);
        if filled.is_err() {
            clear(path);
        }
        return filled;
    }
    let name = path.file_name().context("--data is not a folder name")?.to_string_lossy();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let temporary = parent.join(format!(".{name}.{}", std::process::id()));
    fs::create_dir_all(&temporary).with_context(cannot)?;
    // Renaming is atomic: a folder with a plan is complete.
    let created =
        fill(&temporary, plan).and_then(|()| fs::rename(&temporary, path).with_context(cannot));
    if created.is_err() {
        // Ignores a failure here: the first error is reported.
        let _ = fs::remove_dir_all(&temporary);
    }
    created
}

/// Removes the entries of a folder. Ignores failures: the caller reports its own, earlier error.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
    }
}

fn fill(folder: &Path, plan: &Plan) -> anyhow::Result<()> {
    let cluster = ClusterId(plan.cluster);
    let authority = CertificateAuthority::new(cluster)?;
    write_authority(&authority, folder)?;
    for node in 1..=plan.nodes {
        let node_dir = plan.node_dir(folder, node);
        let issued = authority.issue_node(cluster, NodeId(node.into()))?;
        write_issued(&issued, &node_dir.folder, &format!("node-{node}"))?;
        let text = plan.settings(folder, node);
        // Reports invalid settings, such as an unknown protocol, before any process is started.
        NodeSettings::parse(Layer::from_toml(&text, &node_dir.settings())?)?;
        write(&node_dir.settings(), &text)?;
    }
    write(&folder.join(PLAN_FILE), &toml::to_string(plan)?)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(data: &Path) -> Dev {
        Dev {
            nodes: None,
            data: data.to_owned(),
            client_port: None,
            peer_port: None,
            protocol: None,
            store: Some(StoreKind::Memory),
        }
    }

    fn error(dev: &Dev) -> String {
        format!("{:#}", Folder::open_or_create(dev).unwrap_err())
    }

    #[test]
    fn folder_is_created_once_and_keeps_its_layout() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("cluster");
        let plan = Folder::open_or_create(&dev(&data)).unwrap().plan;
        assert_eq!((plan.nodes, plan.client_port, plan.peer_port), (3, 2379, 2379));
        let again = Folder::open_or_create(&Dev { store: None, ..dev(&data) }).unwrap();
        assert_eq!(again.plan, plan);
        let five = error(&Dev { nodes: Some(5), ..dev(&data) });
        assert!(five.contains("was created with --nodes 3: omit --nodes"), "{five}");
        let entries = fs::read_dir(parent.path()).unwrap().count();
        assert_eq!(entries, 1, "no temporary folder is left");
    }

    #[test]
    fn every_node_gets_valid_settings() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("cluster");
        let dev = Dev { nodes: Some(5), client_port: Some(4000), ..dev(&data) };
        let folder = Folder::open_or_create(&dev).unwrap();
        for node_dir in folder.node_dirs() {
            let settings =
                NodeSettings::parse(Layer::from_file(&node_dir.settings()).unwrap()).unwrap();
            assert_eq!(settings.node, NodeId(node_dir.node.into()));
            assert_eq!(settings.listen_clients.port(), 3999 + node_dir.node);
            assert_eq!(settings.members.len(), 5);
            assert!(settings.certificates.ca.exists() && settings.certificates.key.exists());
        }
    }

    #[test]
    fn empty_folder_is_filled_in_place() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("here");
        fs::create_dir(&data).unwrap();
        let here = data.join(".");
        let unknown = error(&Dev { protocol: Some("flood".into()), ..dev(&here) });
        assert!(unknown.contains("unknown protocol \"flood\""), "{unknown}");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "no file is left");
        let plan = Folder::open_or_create(&dev(&here)).unwrap().plan;
        assert_eq!(Folder::open_or_create(&dev(&data)).unwrap().plan, plan);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "no temporary folder is left");
    }

    #[test]
    fn rejected_arguments_leave_no_files() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("cluster");
        let unknown = error(&Dev { protocol: Some("flood".into()), ..dev(&data) });
        assert!(unknown.contains("unknown protocol \"flood\"; known: raft"), "{unknown}");
        let high = error(&Dev { client_port: Some(65_534), ..dev(&data) });
        assert!(
            high.contains("--client-port 65534 is not valid: 3 nodes need 3 consecutive ports"),
            "{high}"
        );
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("diary.txt"), "dear").unwrap();
        let foreign = error(&dev(&data));
        assert!(foreign.contains("is not empty and was not created by"), "{foreign}");
        assert!(data.join("diary.txt").exists());
    }
}
