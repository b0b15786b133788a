//! Supervisor of the node processes: starts, watches and stops them.

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

/// Interval of the status requests until a node serves.
const POLL: Duration = Duration::from_millis(50);
/// Timeout of a status request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without a serving node after which a message names a log file.
const START_WARNING: Duration = Duration::from_secs(20);
/// Time that nodes have to exit. With requests in flight they need about 5 s, their drain timeout.
const EXIT_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs the cluster in a folder until a signal arrives or all nodes have exited.
///
/// # Errors
/// If a node does not start, or all nodes have exited. The message is one line, and no child process
/// is left.
pub(super) async fn run(folder: &Folder) -> anyhow::Result<ExitCode> {
    let _lock = folder.lock()?;
    let node_dirs = folder.node_dirs();
    // Handle signals before the children start, so that an early signal stops them, too.
    let mut stop = Stop::new()?;
    tokio::select! {
        free = wait_for_ports(&node_dirs, EXIT_TIMEOUT) => free?,
        () = stop.requested() => return Ok(ExitCode::SUCCESS),
    }
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let mut children = Children::start(&program, &node_dirs)?;
    report::started(folder, &node_dirs, &children.processes, &program);
    let result = children.watch(folder, &node_dirs, &program, &mut stop).await;
    children.end().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// The signals that stop the cluster.
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

/// The child processes.
struct Children {
    /// Process ids in the order of the nodes.
    processes: Vec<u32>,
    alive: usize,
    /// The children's standard inputs. A child exits when its pipe closes.
    pipes: Vec<ChildStdin>,
    exits: mpsc::Receiver<(usize, std::io::Result<ExitStatus>)>,
    kill: watch::Sender<bool>,
}

impl Children {
    fn start(program: &Path, node_dirs: &[NodeDir]) -> anyhow::Result<Self> {
        let (report_exit, exits) = mpsc::channel(node_dirs.len().max(1));
        let (kill, _) = watch::channel(false);
        let mut children = Self { processes: Vec::new(), alive: 0, pipes: Vec::new(), exits, kill };
        for (index, node_dir) in node_dirs.iter().enumerate() {
            let mut child = spawn(program, node_dir)
                .with_context(|| format!("cannot start the process of node {}", node_dir.node))?;
            children.processes.push(child.id().context("the process has exited already")?);
            children.pipes.extend(child.stdin.take());
            children.alive += 1;
            let (report_exit, kill) = (report_exit.clone(), children.kill.subscribe());
            tokio::spawn(async move {
                let status = wait(child, kill).await;
                // Sending fails once the supervisor stops waiting.
                let _ = report_exit.send((index, status)).await;
            });
        }
        Ok(children)
    }

    /// Watches the nodes until a signal arrives. If a node cannot start, this returns its error, which
    /// stops all. A node that exits later is not restarted: a message shows the command for that.
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
                        let reason = report::last_log_line(node_dir);
                        bail!("node {} failed to start: {reason}", node_dir.node);
                    }
                    report::exited(folder, node_dir, self.processes[index], status, program);
                    if self.alive == 0 {
                        bail!("all nodes have exited");
                    }
                }
            }
        }
    }

    /// Closes the children's pipes and waits until they have exited. Kills those that do not exit in time.
    async fn end(mut self) {
        self.pipes.clear();
        let all_exited = async {
            while self.alive > 0 && self.exits.recv().await.is_some() {
                self.alive -= 1;
            }
        };
        if timeout(EXIT_TIMEOUT, all_exited).await.is_err() {
            eprintln!(
                "synod: {} nodes did not exit within {EXIT_TIMEOUT:?}: killing them",
                self.alive
            );
            // Sending fails if no receiver is left: each task keeps one until its child has exited.
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
    // The environment must not override the nodes' settings files, except for the log settings.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("SYNOD_") && !name.starts_with("SYNOD_LOG") {
            command.env_remove(name);
        }
    }
    Ok(command.spawn()?)
}

/// Waits until the child exits; kills it when `kill` is set.
async fn wait(mut child: Child, mut kill: watch::Receiver<bool>) -> std::io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        // An error means that the supervisor is gone: kill the child as well.
        _ = kill.wait_for(|kill| *kill) => {}
    }
    child.start_kill()?;
    child.wait().await
}

/// Waits for a node that serves: the leader, or any peer of Basic Paxos.
async fn first_serving(node_dirs: &[NodeDir]) -> NodeReport {
    let poll = async {
        loop {
            for node_dir in node_dirs {
                if let Some(report) = serving(node_dir).await {
                    return report;
                }
            }
            sleep(POLL).await;
        }
    };
    let mut poll = Box::pin(poll);
    match timeout(START_WARNING, &mut poll).await {
        Ok(report) => report,
        Err(_) => {
            let log = node_dirs.first().map(|node_dir| node_dir.log().display().to_string());
            let log = log.unwrap_or_default();
            eprintln!(
                "synod: no node serves clients after {START_WARNING:?}: see the logs, such as {log}"
            );
            poll.await
        }
    }
}

async fn serving(node_dir: &NodeDir) -> Option<NodeReport> {
    let address = node_dir.clients.to_string();
    let page = http::get(&address, "/status", REQUEST_TIMEOUT).await.ok()?;
    let report: NodeReport = serde_json::from_str(&page.body).ok()?;
    // Another process may serve on this port.
    let is_serving = report.node == u64::from(node_dir.node) && report.is_proposer();
    if !is_serving {
        return None;
    }
    let health = http::get(&address, "/health", REQUEST_TIMEOUT).await.ok()?;
    (health.code == 200).then_some(report)
}
