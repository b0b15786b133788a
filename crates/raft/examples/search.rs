//! Searches seeds of the simulator for a violation by Raft: what `synod sim` does, without the
//! node.
//!
//! ```text
//! cargo run --release -p synod-raft --example search -- --seeds 0..2000 --nodes 5
//! ```
//!
//! Any other argument than those it knows makes it list them.

use std::process::ExitCode;
use std::time::Instant;
use synod_raft::types::{Membership, NodeId};
use synod_raft::{Config, Raft};
use synod_sim::search::{self, Target};

fn main() -> ExitCode {
    let began = Instant::now();
    let config = |node: NodeId, members: &Membership| {
        Config::new(node, members.clone()).expect("the simulator asks for members only")
    };
    let again = "cargo run --release -p synod-raft --example search --";
    search::main(&Target::new::<Raft>(again, config), std::env::args().skip(1), || began.elapsed())
}
