//! Rules of the project that the compiler does not check. Each has a test that it detects a violation.

mod cycles;
mod language;
mod layers;
mod names;
mod text;
mod tree;
