//! Tests that cross crates.

mod bugs;
mod fixtures;
mod matrix;
mod package;
mod planted;
mod questions;
mod tidy;
