//! The stories in `tests/scripts`: what Raft does, step by step, read and checked by hand.
//! `UPDATE_GOLDENFILES=1` writes the transcripts anew.

use std::path::Path;
use synod_raft::types::{Membership, NodeId};
use synod_raft::{Config, Raft};

fn config(node: NodeId, members: &Membership) -> Config {
    Config::new(node, members.clone()).unwrap()
}

fn play(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name);
    synod_sim::script::run::<Raft>(path, config).unwrap();
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
    conflicting_tail,
    first_election,
    heartbeats,
    huge_term,
    later_term,
    leader_dies,
    old_term_does_not_commit,
    partition_of_five,
    remembers_its_vote,
    replication,
    split_vote,
);
