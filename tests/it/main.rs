//! Tests of the workspace as a whole.

mod bugs;
mod fixtures;
mod matrix;
mod package;
mod planted;
mod questions;
mod tidy;
