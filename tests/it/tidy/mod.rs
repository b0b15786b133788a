//! House rules that the compiler does not know, each with a test that sees it fail.

mod circles;
mod layers;
mod names;
mod text;
mod tree;
