//! The processes of a development cluster: started, watched, ended.

use super::earlier::wait_for_ports;
use super::folder::{Folder, NodeDir};
use super::report;
use crate::http;
use crate::server::NodeReport;
use anyhow::{Context, bail};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How often the nodes are asked whether one serves.
const POLL: Duration = Duration::from_millis(50);
/// How long a node may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// If none serves for this long, the user is told where to look.
const WORRY: Duration = Duration::from_secs(20);
/// How long the nodes may take to end; they need about 5 s if requests are under way.
const FAREWELL: Duration = Duration::from_secs(15);

/// Runs the cluster in a folder until a signal comes, or until no node is left.
///
/// # Errors
/// In one line, why a node does not start. No child is left then.
pub(super) async fn run(folder: &Folder) -> anyhow::Result<ExitCode> {
    let _lock = folder.lock()?;
    let node_dirs = folder.node_dirs();
    // Before there are children that would be left behind.
    let mut stop = Stop::new()?;
    tokio::select! {
        free = wait_for_ports(&node_dirs, FAREWELL) => free?,
        () = stop.requested() => return Ok(ExitCode::SUCCESS),
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut family = Family::start(&program, &node_dirs)?;
    report::started(folder, &node_dirs, &family.processes, &program);
    let result = family.watch(folder, &node_dirs, &program, &mut stop).await;
    family.end().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// The signals that end the cluster.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The children.
struct Family {
    /// Their process ids, by the order of their nodes.
    processes: Vec<u32>,
    alive: usize,
    /// What keeps them alive.
    pipes: Vec<ChildStdin>,
    exits: mpsc::Receiver<(usize, std::io::Result<ExitStatus>)>,
    kill: watch::Sender<bool>,
}

impl Family {
    fn start(program: &Path, node_dirs: &[NodeDir]) -> anyhow::Result<Self> {
        let (report_exit, exits) = mpsc::channel(node_dirs.len().max(1));
        let (kill, _) = watch::channel(false);
        let mut family = Self { processes: Vec::new(), alive: 0, pipes: Vec::new(), exits, kill };
        for (index, node_dir) in node_dirs.iter().enumerate() {
            let mut child = spawn(program, node_dir)
                .with_context(|| format!("cannot start the process of node {}", node_dir.node))?;
            family.processes.push(child.id().context("the process has ended already")?);
            family.pipes.extend(child.stdin.take());
            family.alive += 1;
            let (report_exit, kill) = (report_exit.clone(), family.kill.subscribe());
            tokio::spawn(async move {
                let status = wait(child, kill).await;
                // Nobody listens once the supervisor gives up waiting.
                let _ = report_exit.send((index, status)).await;
            });
        }
        Ok(family)
    }

    /// Watches until a signal comes. A node that cannot even start ends all; one that is killed
    /// stays dead, and the user is told how to start it again.
    async fn watch(
        &mut self,
        folder: &Folder,
        node_dirs: &[NodeDir],
        program: &Path,
        stop: &mut Stop,
    ) -> anyhow::Result<()> {
        let mut ready = false;
        let mut serving = Box::pin(first_serving(node_dirs));
        loop {
            tokio::select! {
                () = stop.requested() => return Ok(()),
                node = &mut serving, if !ready => {
                    ready = true;
                    report::ready(&node);
                }
                Some((index, status)) = self.exits.recv() => {
                    self.alive -= 1;
                    let (node_dir, status) = (&node_dirs[index], status?);
                    if !ready && status.code().is_some() {
                        bail!("node {} does not start: {}", node_dir.node, report::last_words(node_dir));
                    }
                    report::ended(folder, node_dir, self.processes[index], status, program);
                    if self.alive == 0 {
                        bail!("no node is left");
                    }
                }
            }
        }
    }

    /// Lets go of the children and waits until they have ended.
    async fn end(mut self) {
        self.pipes.clear();
        let gone = async {
            while self.alive > 0 && self.exits.recv().await.is_some() {
                self.alive -= 1;
            }
        };
        if timeout(FAREWELL, gone).await.is_err() {
            eprintln!("synod: {} nodes do not end by themselves and are killed", self.alive);
            // They hold receivers as long as they live.
            let _ = self.kill.send(true);
            while self.alive > 0 && self.exits.recv().await.is_some() {
                self.alive -= 1;
            }
        }
    }
}

fn spawn(program: &Path, node_dir: &NodeDir) -> anyhow::Result<Child> {
    let log = node_dir.log();
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(program);
    command
        .args(["start", "--exit-with-parent", "--config"])
        .arg(node_dir.settings())
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    // The nodes' settings are in their files; only what they log is the user's to choose here.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("SYNOD_") && !name.starts_with("SYNOD_LOG") {
            command.env_remove(name);
        }
    }
    Ok(command.spawn()?)
}

/// Waits for the child's end, and brings it about if told so.
async fn wait(mut child: Child, mut kill: watch::Receiver<bool>) -> std::io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        // An error means that the supervisor is gone: then the child must not stay.
        _ = kill.wait_for(|kill| *kill) => {}
    }
    child.start_kill()?;
    child.wait().await
}

/// Waits for a node that serves: the leader, or any of peers.
async fn first_serving(node_dirs: &[NodeDir]) -> NodeReport {
    let look = async {
        loop {
            for node_dir in node_dirs {
                if let Some(report) = serving(node_dir).await {
                    return report;
                }
            }
            sleep(POLL).await;
        }
    };
    let mut look = Box::pin(look);
    match timeout(WORRY, &mut look).await {
        Ok(report) => report,
        Err(_) => {
            let log = node_dirs.first().map(|node_dir| node_dir.log().display().to_string());
            eprintln!("synod: still no node serves; see {}", log.unwrap_or_default());
            look.await
        }
    }
}

async fn serving(node_dir: &NodeDir) -> Option<NodeReport> {
    let address = node_dir.clients.to_string();
    let page = http::get(&address, "/status", PATIENCE).await.ok()?;
    let report: NodeReport = serde_json::from_str(&page.body).ok()?;
    let mine = report.node == u64::from(node_dir.node) && report.orders();
    if !mine {
        return None;
    }
    let health = http::get(&address, "/health", PATIENCE).await.ok()?;
    (health.code == 200).then_some(report)
}
