//! Tests of replicas through the public API, and of the examples.

mod errors;
#[cfg(feature = "rocksdb")]
mod folders;
mod machines;
mod replicas;
mod support;

#[path = "../../examples/in_memory_counter.rs"]
mod in_memory_counter;
#[path = "../../examples/own_state_machine.rs"]
mod own_state_machine;
#[cfg(all(feature = "quic", feature = "rocksdb"))]
#[path = "../../examples/replicated_counter.rs"]
mod replicated_counter;

#[test]
fn in_memory_counter_runs() {
    in_memory_counter::main().unwrap();
}

#[test]
fn own_state_machine_runs() {
    own_state_machine::main().unwrap();
}

#[cfg(all(feature = "quic", feature = "rocksdb"))]
#[test]
fn replicated_counter_runs() {
    replicated_counter::main().unwrap();
}
