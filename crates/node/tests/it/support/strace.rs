//! Faults in the system calls of a node, by strace.

use super::{Guarded, wait_for};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A machine without strace must say so: these tests have no other way to fail a sync.
pub(crate) fn need_strace() {
    let mut strace = Command::new("strace");
    let found = strace.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(
        found.is_ok(),
        "strace is missing, and this test fails syncs with it: install it (Debian, Ubuntu: \
         apt-get install strace), or leave the test out: cargo test -- --skip syncs::"
    );
}

/// A command with faults, such as `fsync:error=EIO:when=3`. Each thread counts for itself. The
/// process stays our own child, and its tracer ends with it.
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

/// Faults in a process that runs already. Dropped, they end.
pub(crate) struct Tracer {
    _process: Guarded,
}

impl Tracer {
    /// Begins to count now, in every thread for itself.
    pub(crate) fn attach(process: u32, faults: &str, trace: &Path) -> Self {
        let said = trace.with_extension("said");
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &process.to_string(), "-o"]).arg(trace);
        command.args(["-e", "trace=fsync,fdatasync", "-e", &format!("inject={faults}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&said).expect("a file"));
        let mut tracer = Guarded(command.spawn().expect("strace starts"));
        wait_for("strace attaches", Duration::from_secs(30), || {
            let text = fs::read_to_string(&said).unwrap_or_default();
            if let Some(code) = tracer.ended() {
                // What is traced may have ended by then, of the very fault.
                assert!(
                    text.contains("attached"),
                    "strace cannot attach ({code}); where the system forbids it, run as root: {text}"
                );
            }
            text.contains("attached").then_some(())
        });
        Self { _process: tracer }
    }
}
