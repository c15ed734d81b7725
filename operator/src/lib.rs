//! The operator's seat: what happens to foreground and background, why the node did what it did, and how to change it.
//!
//! One [`Seat`] runs in every server process, beside its roles, and is reached at the process's admin address. `sampler` asks the
//! node once a second and `history` keeps what it says; `trend` knows what is usual; `peers` asks the other processes;
//! `probe` is a client from outside; `status` judges components and finds the one that the others suffer from; `incidents`
//! writes down what happened by itself; `notify` tells people who do not look; `api` answers in JSON, `live` pushes, `console` is the page.
//!
//! Why it exists: at three in the morning somebody must see within a second what is going on, and it must work when the store,
//! the gateway or half of the nodes do not. So nothing here needs the backend, every answer says how old it is, and what is not
//! known is called unknown. It must never slow down the node that it looks at, never hold more than its bounds, and never show a secret.

pub mod api;
pub mod config;
pub mod console;
pub mod drills;
pub mod happening;
pub mod history;
pub mod incidents;
pub mod live;
pub mod meters;
pub mod nodes;
pub mod notify;
pub mod openapi;
pub mod peers;
pub mod probe;
pub mod sampler;
pub mod seat;
pub mod status;
pub mod trend;
pub mod turned_away;
pub mod users;
pub mod view;

pub use config::Config;
pub use seat::{OpenError, Parts, Seat};

#[cfg(test)]
mod testing;
