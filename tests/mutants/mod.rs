//! Planted bugs (mutants), which show that the tests detect bugs.
//!
//! A bug is a patch file in the folder `mutants/`, never a flag in shipped code. The runner copies the
//! tree, applies one patch at a time to the copy, and runs the killers that the patch names. Each must
//! build, and then fail with a violation. A patch that does not apply, a mutant that does not compile
//! and a killer that fails on the unchanged tree are failures, too.

mod build_cache;
mod check;
mod patch;
mod runner;
pub mod table;
mod worktree;

pub use check::{Build, Outcome, Program, Verdict, judge};
pub use patch::{Killer, Layer, Patch, PatchError};
pub use runner::{Kill, Row, run_killers, unchanged};
pub use worktree::Worktree;
