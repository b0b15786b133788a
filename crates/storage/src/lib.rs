//! Where Synod keeps its log and its state: two narrow traits, with memory and RocksDB behind them.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
