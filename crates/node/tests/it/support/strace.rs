//! Faults in the system calls of a node, injected by strace.

use super::{Guarded, wait_for};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Panics if strace is not installed: these tests have no other way to make a sync fail.
pub(crate) fn need_strace() {
    let mut strace = Command::new("strace");
    let found = strace.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(
        found.is_ok(),
        "strace is not installed, and this test needs it to fail syncs: install it (Debian, Ubuntu: \
         apt-get install strace), or skip the test: cargo test -- --skip syncs::"
    );
}

/// Returns a command that runs under strace with faults, such as `fsync:error=EIO:when=3`, which fails the
/// third call of each thread. The traced program is a child of this process, and strace exits with it.
pub(crate) fn traced(command: &Command, faults: &str, trace: &Path) -> Command {
    let mut tracer = Command::new("strace");
    tracer.args(["-D", "-f", "-qq", "-o"]).arg(trace);
    tracer.args(["-e", "trace=fsync,fdatasync", "-e", &format!("inject={faults}")]);
    tracer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tracer.env(name, value),
            None => tracer.env_remove(name),
        };
    }
    tracer
}

/// Faults in a running process, until dropped.
pub(crate) struct Tracer {
    _process: Guarded,
}

impl Tracer {
    /// Attaches strace. Calls are counted from now on, per thread.
    pub(crate) fn attach(process: u32, faults: &str, trace: &Path) -> Self {
        let messages = trace.with_extension("messages");
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &process.to_string(), "-o"]).arg(trace);
        command.args(["-e", "trace=fsync,fdatasync", "-e", &format!("inject={faults}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&messages).expect("a file"));
        let mut tracer = Guarded(command.spawn().expect("strace starts"));
        wait_for("strace attaches", Duration::from_secs(30), || {
            let text = fs::read_to_string(&messages).unwrap_or_default();
            if let Some(code) = tracer.ended() {
                // The traced process may have exited already, because of the fault.
                assert!(
                    text.contains("attached"),
                    "strace cannot attach ({code}); if the system forbids it, run as root: {text}"
                );
            }
            text.contains("attached").then_some(())
        });
        Self { _process: tracer }
    }
}
