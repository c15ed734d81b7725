//! What a run found, for people and for machines: a page that needs nothing else, a verdict for the terminal, files.
//!
//! Everything here is a function of the results. It must never show a figure that was not measured as a number, round what is
//! not all up to all, or let a text from a file become anything but text.

mod axis;
mod baseline;
mod charts;
mod compare;
mod escape;
pub mod figure;
mod folder;
mod junit;
mod page;
mod plot;
mod sentence;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod timeline;
mod words;

pub use baseline::{Baseline, Change};
pub use compare::comparison;
pub use folder::{INDEX, prepare, read, write};
pub use junit::junit;
pub use page::page;
pub use sentence::{outcome, verdict as verdict_sentence};
pub use table::Ink;
pub use terminal::terminal;
