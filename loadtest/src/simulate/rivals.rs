//! The rivals: other people's ideas of overload control, each with its published constants and its source.
//!
//! All of them have the same workers, and all learn of a login after its handshake, because none of them looks at first
//! packets. A rival must never be given a constant that makes it look worse than its authors would have it.

pub mod apf;
pub mod cinnamon;
pub mod codel;
pub mod dagor;
pub mod fifo;
pub mod flip;
pub mod gradient;
pub mod limited;
pub mod partitioned;
mod pool;
pub mod tower;
pub mod vegas;

#[cfg(test)]
mod tests;
