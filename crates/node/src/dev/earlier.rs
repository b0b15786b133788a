//! The nodes of an earlier run that have not ended yet.

use super::folder::NodeDir;
use super::report;
use anyhow::{Context, anyhow};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the ports are tried.
const POLL: Duration = Duration::from_millis(50);

/// Waits until the ports of all nodes are free. A supervisor that was killed leaves nodes that
/// end by themselves, but not at once; they get `patience`.
///
/// # Errors
/// In one line, which port is taken, and by which process if it runs a node of this folder. The
/// node itself could only say so in its log.
pub(super) async fn wait_for_ports(
    node_dirs: &[NodeDir],
    patience: Duration,
) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    let mut told = false;
    for node_dir in node_dirs {
        while let Err(taken) = check_ports(node_dir) {
            let Some(process) = Process::of(node_dir) else {
                // A process that dies holds its ports until its memory is freed, without a name.
                if Instant::now() >= until || !is_any_dying() {
                    return Err(taken);
                }
                sleep(POLL).await;
                continue;
            };
            if !process.ends_by_itself || Instant::now() >= until {
                return Err(process.in_the_way(node_dir, &taken));
            }
            if !told {
                let processes: Vec<_> = node_dirs.iter().filter_map(Process::of).collect();
                report::waiting(processes.iter().map(|process| process.id));
                told = true;
            }
            sleep(POLL).await;
        }
    }
    Ok(())
}

/// Returns whether any process of this program is dying.
fn is_any_dying() -> bool {
    let Ok(folders) = fs::read_dir("/proc") else { return false };
    let Ok(name) = std::env::current_exe() else { return false };
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stats = folders.flatten().filter_map(|it| fs::read_to_string(it.path().join("stat")).ok());
    stats.into_iter().any(|stat| is_dying(&stat, &name))
}

/// Returns whether a line of `/proc/ID/stat` tells of a process of this name that is dying. Names
/// are cut there to 15 bytes.
fn is_dying(stat: &str, name: &str) -> bool {
    let Some((head, state)) = stat.rsplit_once(") ") else { return false };
    let Some((_, known)) = head.split_once('(') else { return false };
    known.as_bytes() == &name.as_bytes()[..name.len().min(15)] && state.starts_with(['Z', 'X'])
}

fn check_ports(node_dir: &NodeDir) -> anyhow::Result<()> {
    let NodeDir { node, clients, peers, .. } = node_dir;
    TcpListener::bind(clients).with_context(|| {
        format!("port {} (TCP, for clients of node {node}) cannot be used", clients.port())
    })?;
    UdpSocket::bind(peers).with_context(|| {
        format!("port {} (UDP, for peers of node {node}) cannot be used", peers.port())
    })?;
    Ok(())
}

/// A running `synod start` on the settings of a node.
struct Process {
    id: u32,
    /// Whether it ends with its supervisor. One that a user started does not.
    ends_by_itself: bool,
}

impl Process {
    /// Looks for it among all processes. Finds none where the system does not list them as Linux
    /// does.
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
        // Relative to the folder that the process was started in.
        let config = folder.join("cwd").join(words.get(config + 1)?).canonicalize().ok()?;
        let ends_by_itself = words.contains(&"--exit-with-parent");
        (words.contains(&"start") && config == settings).then_some(Self { id, ends_by_itself })
    }

    fn in_the_way(&self, node_dir: &NodeDir, taken: &anyhow::Error) -> anyhow::Error {
        let (id, node, folder) = (self.id, node_dir.node, node_dir.folder.display());
        anyhow!(
            "{taken}: process {id} runs node {node} of this cluster, in {folder}; end it with \
             `kill {id}`, then run `synod dev` again"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::is_dying;

    #[test]
    fn a_dying_process_is_known_by_its_name_and_state() {
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
            assert_eq!(is_dying(stat, name), expected, "{stat:?}");
        }
    }
}
