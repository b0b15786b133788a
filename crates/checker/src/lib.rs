//! Linearizability checker for recorded histories: a library and a program.
//!
//! A history records the operations of clients on a store: invocation (start), response (end) and outcome. It
//! is linearizable if all operations can be put into one order, each at an instant between its start and its
//! end, in which a sequential store would return every recorded outcome. Such an order is said to explain the
//! outcomes. [`check`] finds one, or reports that there is none, with the operation at which the search fails.
//!
//! ```
//! use synod_checker::{History, Op, Options, Outcome, Verdict, check};
//!
//! let mut history = History::new();
//! let put = history.invoke("alice", Op::put("x", 1_u64));
//! history.complete(put, Outcome::Done)?;
//! let second = history.invoke("alice", Op::put("x", 2_u64)); // still pending at the end
//! let early = history.invoke("bob", Op::get("x"));
//! history.complete(early, Outcome::Read(2_u64.into()))?;
//! assert!(check(&history, &Options::default()).is_linearizable());
//!
//! let late = history.invoke("carol", Op::get("x"));
//! history.complete(late, Outcome::Read(1_u64.into()))?; // stale: bob has read 2 before
//! let Verdict::Illegal(why) = check(&history, &Options::default()) else { panic!("stale") };
//! assert_eq!(why.culprit, late);
//! # let _ = second;
//! # Ok::<(), synod_checker::HistoryError>(())
//! ```
//!
//! # Operations
//! Get, put, delete, append, compare-and-set, and transactions of comparisons, gets, puts and deletes. Each
//! key is checked by itself, except that keys of one transaction are checked together. An operation with an
//! unknown outcome may have taken effect at any time after its start, or never. A failed operation has no effect.
//! [`Options`] define the initial value of keys, and the meaning of a failed compare-and-set and of a get
//! of nil, because the test tools that record histories differ in this.
//!
//! # Cost
//! The problem is NP-complete, and some histories cannot be decided within the limits: [`Verdict::Unknown`]
//! reports this. The search is Wing and Gong's with Lowe's memoization of configurations and a number of
//! pruning rules: see the files in `src/search/`. Histories with thousands of operations of unknown outcome,
//! such as those of tests with faults, are cheap.
//!
//! The following table covers histories of 2,000 operations from 3 to 60 clients, linearizable and not, in
//! which up to half of the outcomes are unknown. Times are those of the program on one core.
//!
//! | histories | operations | time | undecided |
//! |---|---|---|---|
//! | 165 | reads, writes and compare-and-sets of two or five values, or a unique value for each write | 3.6 s | 0 |
//! | 86 | puts and appends on one or ten keys | 0.4 s | 0 |
//! | 2,571 | reads, writes and compare-and-sets of two or five values | 20 s | 0 |
//! | 41 | transactions on three keys with five values | 6 s for each undecided one | 10 |
//!
//! The checker usually cannot decide a history in which 50 clients read, write and compare-and-set 40 values
//! or more of one register, and one outcome in twenty is unknown. `cargo test --release -p synod-checker
//! --test it measure_long_histories -- --ignored --nocapture` measures the time, and can write such histories to
//! files.
//!
//! # The program
//! `synod-checker check FILE...` prints `FILE: linearizable`, `illegal` or `unknown` for each history in lines
//! of JSON, in the form that [`from_json_lines`] parses; `--help` lists its options. The line that invokes a
//! write or an append must have a value, which may be null; that of a compare-and-set must have the expected
//! and the new value. The line that completes a read may lack its value, which means that it read nil.
//!
//! The exit code is 1 if any file is illegal; otherwise 2 if any file is unknown or not a valid history;
//! otherwise 0. With `--explain` or `--html DIR` the program shows why a history is illegal. The library needs
//! no default features.
//!
//! # Not covered
//! - Other models: queues, sets, sequential consistency, serializability.
//! - Revisions and versions of keys. Transactions can compare values only. Give every write a unique value if
//!   writes must be told apart.
//! - Time limits: pass a function to [`check_until`].
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
