//! Whatever arrives, a core neither panics nor takes back a vow.
