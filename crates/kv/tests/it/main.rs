//! The store's rules: examples one by one, and any history against a naive model.

mod bounds;
mod durability;
mod model;
mod rules;
mod strategy;
