//! The host of the nodes: its network, and the memory of its processes.

use std::process::Command;

/// Executes one run in a separate network namespace, whose loopback is limited to `mbit` megabits per
/// second. Returns whether the run met its goal.
pub(crate) fn run_in_namespace(mbit: u32, run: &str, protocol: &str) -> bool {
    // A bucket of 256 KiB holds the largest packet that a node passes to the kernel at once.
    let script = format!(
        "ip link set lo up && tc qdisc add dev lo root tbf rate {mbit}mbit burst 256k latency \
         50ms && exec \"$0\" \"$@\""
    );
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", &script]).arg(program);
    command.args([run, "--protocol", protocol, "--inside"]);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("{run} {protocol}: NOT RUN: `unshare` cannot be started: {error}");
            false
        }
    }
}

/// Returns the resident memory of a process in bytes; 0 if it has exited.
pub(crate) fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
