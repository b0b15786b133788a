//! Test suite for every protocol: [`protocol_suite!`](crate::protocol_suite!) declares its tests.

pub mod partial;
mod steps;
mod suite;
mod wiped;

pub use steps::default_config;
pub use suite::*;
pub use wiped::survivor_of_a_wiped_quorum_does_not_mix_histories;

/// Declares the tests of the suite for a protocol, with its [default settings](default_config). The
/// caller lists the [partial partitions](partial) from which the protocol recovers. The hashes of
/// the pinned seeds are in `tests/fixtures/hashes.txt` of the caller's package. The optional
/// function changes settings of a cluster of four nodes to quorums of three for phase 1 and two for
/// phase 2.
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
            survivor_of_a_wiped_quorum_does_not_mix_histories,
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
