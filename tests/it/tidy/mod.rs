//! Rules of the project that the compiler does not check, each with a test that the rule can fail.

mod circles;
mod language;
mod layers;
mod names;
mod text;
mod tree;
