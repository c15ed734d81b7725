//! `account`: who you are, on which devices, and whom you do not want to hear from.

use buslane_client::Device;
use buslane_shared::id::{DeviceId, UserId};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::connect::{ClientArgs, Connection, announce_first_use, with_client};
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::time_text;

const EXAMPLES: &str = "\
Examples:
  buslane account show --as alice                 enrols alice on this machine, if the name is free
  buslane account code --as alice                 a code for one more device of alice
  buslane account enrol --code CODE --as alice    on that device
  buslane account devices --as alice
  buslane account revoke DEVICE --as alice
  buslane account block mallory --as alice";

/// Arguments of `account`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AccountArgs {
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Who you are here
    Show(Plain),
    /// Your devices
    Devices(Plain),
    /// Take a device's right away, at once
    Revoke {
        /// The device, as `account devices` names it
        device: DeviceId,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a one-time code with which one more device of yours enrols
    Code(Plain),
    /// Enrol this device with a code
    Enrol {
        /// The code
        #[arg(long)]
        code: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take no messages from a user
    Block(Other),
    /// Take messages from a user again
    Unblock(Other),
    /// Whom you have blocked
    Blocked(Plain),
}

#[derive(Debug, Args)]
struct Plain {
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Other {
    /// The other user
    user: UserId,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs `account`.
pub fn run(args: AccountArgs, output: Output) -> Result<(), Failure> {
    super::block_on(async {
        match args.command {
            AccountCommand::Show(Plain { client }) => {
                announce_first_use(&client, &output)?;
                with_client(&client, async |c| show(c, &client, output).await).await
            }
            AccountCommand::Devices(Plain { client }) => {
                with_client(&client, async |c| devices(c, output).await).await
            }
            AccountCommand::Revoke { device, client } => {
                with_client(&client, async |c| {
                    c.client.revoke_device(device).await.map_err(|e| c.explain(&e))?;
                    output.result(&json!({"device": device.to_string(), "done": "revoked"}), || {
                        "revoked".to_owned()
                    })
                })
                .await
            }
            AccountCommand::Code(Plain { client }) => {
                with_client(&client, async |c| code(c, &client, output).await).await
            }
            AccountCommand::Enrol { code, client } => enrol(code, &client, output).await,
            AccountCommand::Block(Other { user, client }) => {
                set_block(&client, &user, Block::On, output).await
            }
            AccountCommand::Unblock(Other { user, client }) => {
                set_block(&client, &user, Block::Off, output).await
            }
            AccountCommand::Blocked(Plain { client }) => {
                with_client(&client, async |c| blocked(c, output).await).await
            }
        }
    })
}

async fn all_devices(connection: &Connection) -> Result<Vec<Device>, Failure> {
    connection.client.devices().await.map_err(|e| connection.explain(&e))
}

async fn show(connection: &Connection, args: &ClientArgs, output: Output) -> Result<(), Failure> {
    let devices = all_devices(connection).await?;
    let current = devices.iter().find(|d| d.current).map(|d| d.id.to_string());
    let state = args.state()?;
    let value = json!({
        "user": args.user.as_str(), "device": current, "devices": devices.len(), "state": state,
    });
    output.result(&value, || {
        format!(
            "{}\ndevice {} of {}, kept in {}",
            args.user,
            current.as_deref().unwrap_or("unknown"),
            devices.len(),
            state.display()
        )
    })
}

async fn devices(connection: &Connection, output: Output) -> Result<(), Failure> {
    let devices = all_devices(connection).await?;
    if output.json {
        let all: Vec<Value> = devices.iter().map(device_json).collect();
        return output.result(&all, String::new);
    }
    for d in &devices {
        output.result(&(), || {
            let this = if d.current { "  this one" } else { "" };
            let connected = if d.connected { "connected" } else { "" };
            let since = time_text::rfc3339(d.enrolled_at_ms);
            format!("{}  {:<32} since {since}  {connected}{this}", d.id, printable(&d.name))
                .trim_end()
                .to_owned()
        })?;
    }
    Ok(())
}

fn device_json(d: &Device) -> Value {
    json!({
        "device": d.id.to_string(), "name": d.name, "enrolled_at": time_text::rfc3339(d.enrolled_at_ms),
        "current": d.current, "connected": d.connected,
    })
}

async fn code(connection: &Connection, args: &ClientArgs, output: Output) -> Result<(), Failure> {
    let made = connection.client.make_code().await.map_err(|e| connection.explain(&e))?;
    let minutes = made.valid_ms / 60_000;
    output.result(&json!({"code": made.code, "valid_ms": made.valid_ms}), || {
        format!(
            "{}\nOn the new device, within {minutes} minutes: buslane account enrol --as {} --code {}",
            made.code, args.user, made.code
        )
    })
}

async fn enrol(code: String, client: &ClientArgs, output: Output) -> Result<(), Failure> {
    let connection = client.connect_with_code(code).await?;
    let shown = show(&connection, client, output).await;
    connection.close().await;
    shown
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    On,
    Off,
}

async fn set_block(args: &ClientArgs, user: &UserId, block: Block, output: Output) -> Result<(), Failure> {
    with_client(args, async |c| {
        let (asked, done) = match block {
            Block::On => (c.client.block(user).await, "blocked"),
            Block::Off => (c.client.unblock(user).await, "unblocked"),
        };
        asked.map_err(|e| c.explain(&e))?;
        output.result(&json!({"user": user.as_str(), "done": done}), || format!("{user} is {done}"))
    })
    .await
}

async fn blocked(connection: &Connection, output: Output) -> Result<(), Failure> {
    let users = connection.client.blocked().await.map_err(|e| connection.explain(&e))?;
    if output.json {
        let names: Vec<&str> = users.iter().map(UserId::as_str).collect();
        return output.result(&names, String::new);
    }
    for user in &users {
        output.result(&(), || user.to_string())?;
    }
    Ok(())
}
