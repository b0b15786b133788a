//! One suite that every protocol passes: [`conformance!`](crate::conformance!) makes its tests.

pub mod partial;
mod steps;
mod suite;
mod wiped;

pub use suite::*;
pub use wiped::survivor_of_a_wiped_quorum_serves_no_mixture;

/// Makes the tests of the suite for a protocol. `$config` is a function from a node and the
/// members to that node's settings, with short time-outs (elections within a second).
///
/// ```text
/// synod_sim::conformance!(under load Raft, config);
/// ```
///
/// With `under load` the protocol is held to the load check, too.
#[macro_export]
macro_rules! conformance {
    ($protocol:ty, $config:expr) => {
        $crate::conformance!(@test $protocol, $config,
            elects_a_leader,
            commits_what_any_node_is_given,
            commits_without_a_minority,
            commits_nothing_without_a_majority,
            keeps_acknowledged_writes_when_all_restart,
            heals_after_a_partition,
            single_node_commits,
            leader_with_a_stalled_disk_is_replaced,
            survives_a_search,
            same_seed_gives_the_same_hash,
            replays_its_own_schedule,
            survives_one_of_each_fault,
        );
    };
    // Also held to the load check.
    (under load $protocol:ty, $config:expr) => {
        $crate::conformance!($protocol, $config);
        $crate::conformance!(@test $protocol, $config, throughput_recovers_after_a_disturbance,);
    };
    (@test $protocol:ty, $config:expr, $($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::$name::<$protocol>($config);
            }
        )*
    };
}
