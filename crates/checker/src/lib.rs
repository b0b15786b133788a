//! Linearizability of recorded histories: a checker as a library and a program.
//!
//! A history records the operations of clients on a store: their begin, their end and their outcome. It
//! is linearizable if all operations can be put into one order, each at an instant between its begin
//! and its end, in which a sequential store would have returned every outcome. [`check`] finds such an
//! order, or that there is none and which operation does not fit.
//!
//! ```
//! use synod_checker::{History, Op, Options, Outcome, Verdict, check};
//!
//! let mut history = History::new();
//! let put = history.invoke("alice", Op::put("x", 1_u64));
//! history.complete(put, Outcome::Done)?;
//! let second = history.invoke("alice", Op::put("x", 2_u64)); // pending from here on
//! let early = history.invoke("bob", Op::get("x"));
//! history.complete(early, Outcome::Read(2_u64.into()))?;
//! assert!(check(&history, &Options::default()).is_linearizable());
//!
//! let late = history.invoke("carol", Op::get("x"));
//! history.complete(late, Outcome::Read(1_u64.into()))?; // bob has seen 2 before
//! let Verdict::Illegal(why) = check(&history, &Options::default()) else { panic!("stale") };
//! assert_eq!(why.culprit, late);
//! # let _ = second;
//! # Ok::<(), synod_checker::HistoryError>(())
//! ```
//!
//! # Operations
//! Get, put, delete, append, compare-and-set, and transactions of comparisons, gets, puts and
//! deletes. Each key is checked by itself, except that keys of one transaction are checked together. An
//! operation with an unknown outcome may have taken effect at any time after its begin, or never; one
//! that failed has not. [`Options`] define the initial value of keys, and the meaning of a failed
//! compare-and-set and of a get of nil: recorders differ in this.
//!
//! # Cost
//! The problem is NP-complete, and some histories stay out of reach: [`Verdict::Unknown`] reports this.
//! The search is Wing and Gong's with Lowe's memory of configurations, and a number of pruning rules:
//! see the files in `src/search/`. Histories with thousands of unanswered operations are the usual case
//! after a test with faults, and cost little.
//!
//! Histories of 2,000 operations, 3 to 60 clients and up to half of the operations unanswered,
//! linearizable and not, cost the program this many seconds of one core: 165 of registers with two or
//! five values, compare-and-sets, or a value for each write, 3.6; 86 of one or ten keys with puts
//! and appends, 0.4. None of 2,571 registers with two or five values stayed unknown (20 seconds in
//! all); of 41 histories with transactions on three keys that share five values 10 did, after 6
//! seconds each. 50 clients on one register with 40 values or more, every twentieth operation of
//! reads, writes and compare-and-sets unanswered, are mostly out of reach as well. `cargo test
//! --release -p synod-checker --test it scale -- --ignored --nocapture` measures, and writes such
//! histories to files.
//!
//! # The program
//! `synod-checker check FILE...` prints `FILE: linearizable`, `illegal` or `unknown` for histories
//! as lines of JSON, in the form that [`from_json_lines`] parses; `--help` lists its options. The begin of
//! a write, an append or a compare-and-set must have a value, if only null: a line without one is
//! rejected. The end of a read may lack its value, which means that it read nil. The exit code is 1 if a
//! file is illegal, else 2 if one is unknown or no history, else 0. With `--explain` or `--html DIR` it
//! shows why a history is illegal. The library alone, without the program, needs no default features.
//!
//! # Not covered
//! - Other models: queues, sets, sequential consistency, serializability.
//! - Revisions and versions of keys. Compare values, or give every write a value of its own.
//! - A clock: pass a function to [`check_until`] to limit the time.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod action;
mod appends;
mod check;
mod compile;
mod domain;
mod explain;
mod history;
mod json;
mod options;
mod partition;
mod problem;
mod registers;
mod search;
mod timeline;
mod value;

pub use check::{Verdict, check, check_until, is_linearizable};
pub use explain::Explanation;
pub use history::{Compare, History, HistoryError, Op, OpId, Outcome, Txn, TxnOp};
pub use json::{ParseError, from_json_lines, to_json_lines};
pub use options::{FailedCas, NilRead, Options, SearchLimit};
pub use value::Value;
