//! The checker against a brute-force reference, at scale, and as a program.

#[cfg(feature = "cli")]
mod cli;
mod corpus;
mod hints;
mod named;
mod reference;
mod small;
