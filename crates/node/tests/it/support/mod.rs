//! What the tests share: processes, ports, clients, waiting.
// Tests that kill nodes, or fail their disks, need nodes that keep something.
#![cfg_attr(not(feature = "rocksdb"), allow(dead_code, unused_imports))]

mod client;
mod history;
mod nodes;
mod proxy;
mod registers;
mod strace;
mod writers;

#[allow(unused_imports, reason = "only the load benchmark reads without decoding")]
pub(crate) use client::channel;
pub(crate) use client::{
    Swapped, agreed, connect, delete, everything, get, page, put, status, swap,
};
pub(crate) use history::{Asked, Recorder, Told};
pub(crate) use nodes::{Nodes, Shape};
pub(crate) use proxy::Links;
pub(crate) use registers::Registers;
pub(crate) use strace::{Tracer, need_strace, traced};
pub(crate) use writers::{Write, Writers};

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Every protocol that a node can run.
pub(crate) const PROTOCOLS: &[&str] = &synod_node::protocol::ProtocolKind::NAMES;

/// A cluster takes all cores: two at once would only measure one another.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program under test, without settings from the environment of whoever runs the tests.
pub(crate) fn synod() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synod"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SYNOD_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("the program starts")
}

/// What a command printed that must succeed.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = run(command);
    let error = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {error}", output.status);
    text(&output.stdout)
}

/// The one line that a command leaves on standard error when it fails.
pub(crate) fn failure(command: &mut Command) -> String {
    let output = run(command);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {error}");
    let lines: Vec<_> = error.lines().filter(|line| line.starts_with("synod: ")).collect();
    assert_eq!(lines.len(), 1, "{command:?}: {error}");
    assert_eq!(error.lines().last(), lines.first().copied(), "{command:?}: {error}");
    lines[0].to_owned()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first of `count` neighbouring ports, all free for TCP and UDP. Below the ports that the
/// system hands out by itself, so that no client of ours is given one in between.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % 97) as u16 * 100;
    for _ in 0..200 {
        let first = 20_000 + (own + NEXT.fetch_add(count, Ordering::Relaxed)) % 11_000;
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} neighbouring ports are free");
}

fn is_free(port: u16) -> bool {
    let at = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
}

/// Looks until there is something to see; fails if that takes longer than `patience`.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "after {patience:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child that does not outlive the test, whatever becomes of it.
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    /// Sends a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    /// Whether the process has ended.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().expect("a child can be asked")
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self, patience: Duration) -> std::process::ExitStatus {
        wait_for("the process ends", patience, || self.ended())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process; the shell's own `kill` is on every machine.
pub(crate) fn signal(process: u32, name: &str) {
    let command = format!("kill -{name} {process}");
    let done = Command::new("sh").args(["-c", &command]).status().expect("there is a shell");
    assert!(done.success(), "{command}");
}

/// Whether a process runs; one that has died and waits for its parent to notice does not.
pub(crate) fn is_running(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('Z'))
}

/// Whether a test can use a tool; without it the test passes over its part, save in CI.
pub(crate) fn has_tool(tool: &str, flag: &str) -> bool {
    let found = Command::new(tool).arg(flag).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok() {
        return true;
    }
    not_tested(tool, "it is not installed");
    false
}

/// Says that a test cannot do its part on this machine; in CI that is a failure.
pub(crate) fn not_tested(what: &str, why: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "{what}: {why}, and CI must not pass over this test");
    // Not through `eprintln!`: what a test prints is kept from sight when it passes.
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {what}: {why}");
}

/// The end of a log, for a failed test's message.
pub(crate) fn tail(log: &Path) -> String {
    last_lines(log, 15)
}

fn last_lines(log: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Prints the ends of these logs if the test has failed: their folder goes with it.
pub(crate) fn show_if_failed(logs: impl IntoIterator<Item = PathBuf>) {
    if !std::thread::panicking() {
        return;
    }
    for log in logs.into_iter().filter(|log| log.exists()) {
        eprintln!("--- the end of {}:\n{}", log.display(), last_lines(&log, 60));
    }
}
