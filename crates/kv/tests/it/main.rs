//! Tests of the key-value store: rules of etcd, a reference model, limits, determinism and stored state.

mod bounds;
mod durability;
mod model;
mod rules;
mod strategy;
