//! Tests that cross crates.

mod fixtures;
mod matrix;
mod package;
mod planted;
mod tidy;
