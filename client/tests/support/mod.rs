//! What the tests of the client share: a small server that does what a test tells it, misbehaviour included, and a network
//! that does the same. (The real roles are met in `real_gateway.rs` and `real_roles.rs`.)

#![allow(dead_code, unused_imports)]

pub mod relay;
pub mod server;
pub mod up;

use std::path::Path;
use std::time::Duration;

use buslane_client::{CaSource, Client, Event, Events, Message, Options, State, Storage};
use buslane_shared::backoff::Policy;

pub use relay::Relay;
pub use server::Server;

/// Nothing in these tests takes this long unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Options for a test: quick waits, state nowhere.
pub fn options(server: &Server, user: &str) -> Options {
    let mut options =
        Options::new(user.parse().unwrap(), server.address(), CaSource::Pem(server.ca()), Storage::Memory);
    options.reconnect = Policy {
        base: Duration::from_millis(50),
        cap: Duration::from_millis(400),
        quick: Duration::from_millis(20),
        settle: Duration::from_millis(1),
    };
    options
}

/// As [`options`], with state in a folder.
pub fn options_in(server: &Server, user: &str, folder: &Path) -> Options {
    Options { storage: Storage::Directory(folder.to_owned()), ..options(server, user) }
}

/// A client with a session.
pub async fn connected(options: Options) -> Client {
    let client = Client::open(options).await.unwrap();
    client.connected(LIMIT).await.unwrap();
    client
}

/// Waits for a state.
pub async fn until(client: &Client, wanted: impl FnMut(&State) -> bool) -> State {
    let mut state = client.state();
    tokio::time::timeout(LIMIT, state.wait_for(wanted)).await.expect("the state in time").unwrap().clone()
}

/// The next `count` messages, other events left out.
pub async fn messages(events: &mut Events, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let event = tokio::time::timeout(LIMIT, events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("{} of {count} messages came", messages.len()));
        if let Event::Message(message) = event.expect("the client lives") {
            messages.push(message);
        }
    }
    messages
}

/// The next event that is wanted.
pub async fn event<T>(events: &mut Events, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(events.next().await.expect("the client lives")) {
                return found;
            }
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("the event in time")
}

/// Waits for a condition.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, held).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The texts of messages.
pub fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|m| m.text().unwrap()).collect()
}
