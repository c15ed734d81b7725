//! A bot that answers every message with the same words.
//!
//! Start a server (`cargo run --release -- up`), then in a second terminal
//! `cargo run -p buslane-client --example echo`, and in a third one
//! `cargo run --release -- chat --as alice --with echo`.
//!
//! Arguments, all optional: the gateway's address, the file with the authority's certificate, the bot's name, and the folder
//! for its state. Stop it, write to it, start it again: it answers what it missed, once.

use std::path::PathBuf;

use buslane_client::{CaSource, Client, Event, Message, Options, State, Storage};

/// Where a local `buslane up` keeps its files, as the command line looks for them.
fn home() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    folder("BUSLANE_HOME")
        .or_else(|| Some(folder("XDG_DATA_HOME")?.join("buslane")))
        .or_else(|| Some(folder("HOME")?.join(".local/share/buslane")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let home = home().ok_or("set HOME, or name the server's certificate and a folder for the state")?;
    let gate = arguments.next().unwrap_or_else(|| "127.0.0.1:7400".to_owned());
    let ca = arguments.next().map_or_else(|| home.join("up/tls/ca.pem"), PathBuf::from);
    let name = arguments.next().unwrap_or_else(|| "echo".to_owned());
    let state = arguments.next().map_or_else(|| home.join("clients").join(&name), PathBuf::from);

    let options = Options::new(name.parse()?, gate, CaSource::File(ca), Storage::Directory(state));
    let client = Client::open(options).await?;
    let mut events = client.events();
    let mut states = client.state();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Message(message)) => answer(&client, &message).await?,
                Some(_) => {}
                None => break,
            },
            Ok(()) = states.changed() => eprintln!("{:?}", *states.borrow_and_update()),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    client.close().await;
    if let State::Closed { reason } = &*client.state().borrow() {
        eprintln!("closed: {}", reason.error());
    }
    Ok(())
}

async fn answer(client: &Client, message: &Message) -> Result<(), buslane_client::Error> {
    client.mark_read(message.room, message.seq);
    if message.sender != *client.user()
        && let Some(text) = message.text()
    {
        // Kept in the outbox from here on; the receipt is not waited for, so that the next message can be answered meanwhile.
        client.send(message.room, text.to_owned()).await?;
    }
    Ok(())
}
