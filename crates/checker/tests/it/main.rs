//! Tests of the checker: small histories against a brute-force reference, long histories, hints, and the
//! program.

#[cfg(feature = "cli")]
mod cli;
mod corpus;
mod hints;
mod reference;
mod regressions;
mod small;
