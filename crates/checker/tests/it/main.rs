//! The checker against a brute-force reference, at scale, and as a program.

mod reference;
mod small;
