//! Tests that cross crates.

mod fixtures;
mod package;
mod tidy;
