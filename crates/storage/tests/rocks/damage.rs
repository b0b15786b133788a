//! Damaged files: refused by name, never read as a shorter log.
