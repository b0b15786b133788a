//! Searches simulator seeds for a violation by Multi-Paxos, as `synod sim` does, without the node.
//!
//! ```text
//! cargo run --release -p synod-multi-paxos --example search -- --seeds 0..2000 --nodes 5
//! ```
//!
//! An unknown argument prints the usage.

use std::process::ExitCode;
use std::time::Instant;
use synod_multi_paxos::types::{Membership, NodeId};
use synod_multi_paxos::{Config, MultiPaxos};
use synod_sim::search::{self, Target};

fn main() -> ExitCode {
    let began = Instant::now();
    let config = |node: NodeId, members: &Membership| {
        Config::new(node, members.clone()).expect("the simulator configures members only")
    };
    let again = "cargo run --release -p synod-multi-paxos --example search --";
    search::main(&Target::new::<MultiPaxos>(again, config), std::env::args().skip(1), || {
        began.elapsed()
    })
}
