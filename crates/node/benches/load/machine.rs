//! The machine under the nodes: its network, and what its processes use.

use std::process::Command;

/// Does one run in a network namespace whose loopback carries so many megabits a second. Returns
/// whether the goal was met.
pub(crate) fn behind(mbit: u32, run: &str, protocol: &str) -> bool {
    // A bucket of 256 KiB takes the largest packet that the nodes hand over at once.
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

/// Resident memory of a process, in bytes; 0 if it has ended.
pub(crate) fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
