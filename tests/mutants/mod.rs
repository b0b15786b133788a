//! Planted bugs: a safety test is not trusted until it has caught one.
//!
//! A bug is a patch file in the folder `mutants/`, never a flag in shipped code. The runner copies
//! the tree, applies one patch at a time to the copy, and runs the killer that the patch names: it
//! must build, and then fail because something was violated. A patch that no longer applies, a
//! mutant that does not compile and a killer that fails on the unchanged tree are failures too.

mod killer;
mod patch;
mod scratch;

pub use killer::{Outcome, Verdict, judge};
pub use patch::{Patch, PatchError};
pub use scratch::Scratch;
