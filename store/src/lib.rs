//! Durable, ordered, sealed: the boundaries of storage, the engines behind them, and the sealing of records.

pub mod boundary;
pub use boundary::*;
