//! The stories in `tests/scripts`: what Multi-Paxos does, step by step, read and checked by hand.
//! `UPDATE_GOLDENFILES=1` writes the transcripts anew.

use std::path::Path;
use synod_multi_paxos::types::{Membership, NodeId};
use synod_multi_paxos::{Config, MultiPaxos};

fn config(node: NodeId, members: &Membership) -> Config {
    Config::new(node, members.clone()).unwrap()
}

fn play(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name);
    synod_sim::script::run::<MultiPaxos>(path, config).unwrap();
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                play(stringify!($name));
            }
        )*

        /// A script that no test plays proves nothing.
        #[test]
        fn every_script_is_played() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
            let files = std::fs::read_dir(folder).unwrap();
            let mut found: Vec<_> =
                files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            found.sort_unstable();
            let mut played = vec![$(stringify!($name)),*];
            played.sort_unstable();
            assert_eq!(found, played);
        }
    };
}

scripts!(
    first_and_following_requests,
    five_nodes_two_sides,
    new_leader_fills_the_hole,
    overtaken_leader,
);
