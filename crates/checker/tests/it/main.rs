//! The checker against a brute-force reference, at scale, and as a program.

mod corpus;
mod reference;
mod small;
