//! Searches seeds of the simulator for a violation by Raft, as `synod sim` does, without the node.
//!
//! ```text
//! cargo run --release -p synod-raft --example search -- --seeds 0..2000 --nodes 5
//! ```
//!
//! An unknown argument prints the list of arguments.

use std::process::ExitCode;
use std::time::Instant;
use synod_raft::types::{Membership, NodeId};
use synod_raft::{Config, Raft};
use synod_sim::search::{self, Target};

fn main() -> ExitCode {
    let began = Instant::now();
    let config = |node: NodeId, members: &Membership| {
        Config::new(node, members.clone()).expect("the simulator runs members only")
    };
    let again = "cargo run --release -p synod-raft --example search --";
    search::main(&Target::new::<Raft>(again, config), std::env::args().skip(1), || began.elapsed())
}
