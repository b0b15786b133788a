//! Test suite for every protocol: [`protocol_suite!`](crate::protocol_suite!) makes its tests.

pub mod partial;
mod steps;
mod suite;
mod wiped;

pub use steps::default_config;
pub use suite::*;
pub use wiped::survivor_of_a_wiped_quorum_serves_no_mixture;

/// Makes the tests of the suite for a protocol, with its [default settings](default_config), which
/// elect a leader within a second. [Partial partitions](partial) are named, because some protocols
/// do not recover from all of them. The hashes of the pinned seeds are in
/// `tests/fixtures/hashes.txt` of the caller's package. An optional function gives settings of four
/// nodes the quorums 3 and 2.
///
/// ```text
/// synod_sim::protocol_suite!(MultiPaxos,
///     partial_partitions: [quorum_loss, constrained_election, chain, half_connected_leader],
///     flexible_quorums: |config| config.with_quorums(3, 2).unwrap(),
/// );
/// ```
#[macro_export]
macro_rules! protocol_suite {
    (
        $protocol:ty,
        partial_partitions: [$($partition:ident),* $(,)?]
        $(, flexible_quorums: $flexible:expr)? $(,)?
    ) => {
        $crate::protocol_suite!(@suite $protocol,
            elects_a_leader,
            commits_writes_from_every_node,
            commits_without_a_minority,
            commits_nothing_without_a_majority,
            keeps_acknowledged_writes_when_all_restart,
            recovers_after_a_partition,
            single_node_commits,
            leader_with_a_stalled_disk_is_replaced,
            survives_a_search,
            same_seed_gives_the_same_hash,
            replays_its_own_schedule,
            survives_one_of_each_fault,
            survivor_of_a_wiped_quorum_serves_no_mixture,
            throughput_recovers_after_a_disturbance
        );

        mod partial_partition {
            use super::*;
            $(
                #[test]
                fn $partition() {
                    $crate::conformance::partial::$partition::<$protocol>();
                }
            )*
        }

        #[test]
        fn pinned_seeds_are_equal_in_every_build() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
            $crate::conformance::pinned_seeds_are_equal_in_every_build::<$protocol>(path);
        }

        $(
            #[test]
            fn flexible_quorums_survive_a_search() {
                $crate::conformance::flexible_quorums_survive_a_search::<$protocol>($flexible);
            }
        )?
    };
    (@suite $protocol:ty, $($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::$name::<$protocol>();
            }
        )*
    };
}
