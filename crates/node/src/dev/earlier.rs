//! Node processes of an earlier run that have not exited yet.

use super::folder::NodeDir;
use super::report;
use anyhow::{Context, anyhow};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Interval between two attempts to bind the ports.
const POLL: Duration = Duration::from_millis(50);

/// Waits until the ports of all nodes are free, for at most `limit`: the nodes of a killed supervisor
/// exit by themselves, but not at once. The supervisor checks this before it starts the nodes, because a
/// node could report a port in use only in its log.
///
/// # Errors
/// If a port stays in use. The message names the port, and the process if it runs a node of this folder.
pub(super) async fn wait_for_ports(node_dirs: &[NodeDir], limit: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + limit;
    let mut reported = false;
    for node_dir in node_dirs {
        while let Err(taken) = check_ports(node_dir) {
            let Some(process) = Process::of(node_dir) else {
                // An exiting process has no command line any more, but holds its ports until its memory is
                // freed.
                if Instant::now() >= until || !is_any_exiting() {
                    return Err(taken);
                }
                sleep(POLL).await;
                continue;
            };
            if !process.exits_by_itself || Instant::now() >= until {
                return Err(process.port_in_use_error(node_dir, &taken));
            }
            if !reported {
                let processes: Vec<_> = node_dirs.iter().filter_map(Process::of).collect();
                report::waiting(processes.iter().map(|process| process.id));
                reported = true;
            }
            sleep(POLL).await;
        }
    }
    Ok(())
}

/// Returns whether any process of this program is exiting (a zombie).
fn is_any_exiting() -> bool {
    let Ok(folders) = fs::read_dir("/proc") else { return false };
    let Ok(name) = std::env::current_exe() else { return false };
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stats = folders.flatten().filter_map(|it| fs::read_to_string(it.path().join("stat")).ok());
    stats.into_iter().any(|stat| is_exiting(&stat, &name))
}

/// Returns whether a line of `/proc/ID/stat` shows an exiting process of this name. Linux truncates
/// names there to 15 bytes.
fn is_exiting(stat: &str, name: &str) -> bool {
    let Some((head, state)) = stat.rsplit_once(") ") else { return false };
    let Some((_, known)) = head.split_once('(') else { return false };
    known.as_bytes() == &name.as_bytes()[..name.len().min(15)] && state.starts_with(['Z', 'X'])
}

fn check_ports(node_dir: &NodeDir) -> anyhow::Result<()> {
    let NodeDir { node, clients, peers, .. } = node_dir;
    TcpListener::bind(clients).with_context(|| {
        format!("cannot listen on port {} (TCP, for clients of node {node})", clients.port())
    })?;
    UdpSocket::bind(peers).with_context(|| {
        format!("cannot listen on port {} (UDP, for peers of node {node})", peers.port())
    })?;
    Ok(())
}

/// A running process `synod start` with the settings file of a node.
struct Process {
    id: u32,
    /// True if it exits with its supervisor. A process that a user started does not.
    exits_by_itself: bool,
}

impl Process {
    /// Searches Linux's `/proc` for the process of a node. Returns `None` on other systems.
    fn of(node_dir: &NodeDir) -> Option<Self> {
        let settings = node_dir.settings().canonicalize().ok()?;
        let folders = fs::read_dir("/proc").ok()?.flatten();
        let ids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id| *id != std::process::id()).find_map(|id| Self::read(id, &settings))
    }

    fn read(id: u32, settings: &Path) -> Option<Self> {
        let folder = PathBuf::from(format!("/proc/{id}"));
        let line = fs::read(folder.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line);
        let words: Vec<_> = line.split('\0').collect();
        let config = words.iter().position(|word| *word == "--config")?;
        // The path may be relative to the process' working directory.
        let config = folder.join("cwd").join(words.get(config + 1)?).canonicalize().ok()?;
        let exits_by_itself = words.contains(&"--exit-with-parent");
        (words.contains(&"start") && config == settings).then_some(Self { id, exits_by_itself })
    }

    fn port_in_use_error(&self, node_dir: &NodeDir, taken: &anyhow::Error) -> anyhow::Error {
        let (id, node, folder) = (self.id, node_dir.node, node_dir.folder.display());
        anyhow!(
            "{taken}: process {id} runs node {node} of this cluster, in {folder}; stop it with \
             `kill {id}`, then run `synod dev` again"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::is_exiting;

    #[test]
    fn exiting_process_is_identified_by_name_and_state() {
        let cases = [
            ("7 (synod) Z 1 7 7 0", "synod", true),
            ("7 (synod) S 1 7 7 0", "synod", false),
            ("7 (other) Z 1 7 7 0", "synod", false),
            ("7 (a (b) c) X 1 7", "a (b) c", true),
            ("7 (a-long-name-of-) Z 1 7", "a-long-name-of-a-program", true),
            ("7 synod Z", "synod", false),
            ("", "synod", false),
        ];
        for (stat, name, expected) in cases {
            assert_eq!(is_exiting(stat, name), expected, "{stat:?}");
        }
    }
}
