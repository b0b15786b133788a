//! The stories in `tests/scripts`: what basic Paxos does, step by step, read and checked by hand.
//! `UPDATE_GOLDENFILES=1` writes the transcripts anew.

use std::path::Path;
use synod_basic_paxos::types::{Membership, NodeId};
use synod_basic_paxos::{BasicPaxos, Config, SingleDecree};

fn config(node: NodeId, members: &Membership) -> Config {
    Config::new(node, members.clone()).unwrap()
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name)
}

macro_rules! scripts {
    ($($protocol:ty: $($name:ident),* ;)*) => {
        $($(
            #[test]
            fn $name() {
                synod_sim::script::run::<$protocol>(path(stringify!($name)), config).unwrap();
            }
        )*)*

        /// A script that no test plays proves nothing.
        #[test]
        fn every_script_is_played() {
            let folder = path("");
            let files = std::fs::read_dir(folder).unwrap();
            let mut found: Vec<_> =
                files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            found.sort_unstable();
            let mut played = vec![$($(stringify!($name)),*),*];
            played.sort_unstable();
            assert_eq!(found, played);
        }
    };
}

scripts!(
    SingleDecree: overtaken, livelock, livelock_two_to_nine, found_undecided, missed_the_decision;
    BasicPaxos: five_nodes_two_sides;
);
