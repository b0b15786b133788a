//! Shared helpers of the tests: processes, ports, clients, waiting.
// Tests that kill nodes or fail their disks need a store on disk.
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
    SwapOutcome, connect, delete, get, page, put, read_all, read_all_local, status, swap,
};
pub(crate) use history::{Recorder, Request, Response};
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

/// Runs tests with clusters one after the other: two clusters at once would compete for the cores.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    static CLUSTER: Mutex<()> = Mutex::new(());
    CLUSTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a command of the program under test, without settings from the environment.
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

/// Runs a command that must succeed, and returns its standard output.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = run(command);
    let error = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {error}", output.status);
    text(&output.stdout)
}

/// Runs a command that must fail, and returns its one-line error.
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

/// Returns the first of `count` consecutive ports that are free for TCP and UDP. They are below the
/// system's ephemeral ports, so that no outgoing connection is assigned one of them before the test binds
/// it.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % 97) as u16 * 100;
    for _ in 0..200 {
        let first = 20_000 + (own + NEXT.fetch_add(count, Ordering::Relaxed)) % 11_000;
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} consecutive ports are free");
}

fn is_free(port: u16) -> bool {
    let at = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
}

/// Polls until the result is `Some`. Panics if that takes longer than `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(result) = poll() {
            return result;
        }
        assert!(Instant::now() < until, "timed out after {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child process that is killed when dropped, so that it does not outlive the test.
pub(crate) struct Guarded(pub(crate) Child);

impl Guarded {
    /// Sends a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    /// Returns the exit status; `None` while the process runs.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().expect("the status of a child")
    }

    /// Waits until the process exits.
    pub(crate) fn wait(&mut self, limit: Duration) -> std::process::ExitStatus {
        wait_for("the process exits", limit, || self.ended())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Fails if it has exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process, with the shell's built-in `kill`.
pub(crate) fn signal(process: u32, name: &str) {
    let command = format!("kill -{name} {process}");
    let done = Command::new("sh").args(["-c", &command]).status().expect("there is a shell");
    assert!(done.success(), "{command}");
}

/// Returns whether a process runs; a zombie does not.
pub(crate) fn is_running(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('Z'))
}

/// Returns whether a tool is installed; without it a test is skipped, except in CI.
pub(crate) fn has_tool(tool: &str, flag: &str) -> bool {
    let found = Command::new(tool).arg(flag).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok() {
        return true;
    }
    not_tested(tool, "it is not installed");
    false
}

/// Reports that a test is skipped on this machine; in CI that is a failure.
pub(crate) fn not_tested(what: &str, reason: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "{what}: {reason}; CI must not skip this test");
    // Not `eprintln!`: the test harness hides its output when a test passes.
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {what}: {reason}");
}

/// Returns the end of a log, for the message of a failed test.
pub(crate) fn tail(log: &Path) -> String {
    last_lines(log, 15)
}

fn last_lines(log: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Prints the ends of these logs if the test has failed: their folder is removed.
pub(crate) fn show_if_failed(logs: impl IntoIterator<Item = PathBuf>) {
    if !std::thread::panicking() {
        return;
    }
    for log in logs.into_iter().filter(|log| log.exists()) {
        eprintln!("--- the end of {}:\n{}", log.display(), last_lines(&log, 60));
    }
}
