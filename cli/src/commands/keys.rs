//! `keys`: the keys that wrap the keys of the rooms.
//!
//! Rotation asks the process that has the store open; where none runs, it opens the store itself. Messages are never
//! sealed anew: only the rooms' keys are wrapped with the new key.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::admin_client::AdminArgs;
use crate::failure::Failure;
use crate::operate::{Earlier, rotate_keys};
use crate::output::Output;
use crate::progress::Progress;
use crate::stopped::Stopped;

const EXAMPLES: &str = "\
Examples:
  buslane keys rotate                     of the local `up`, running or not
  buslane keys rotate --retire            and forget the earlier keys: earlier backups become unreadable
  buslane keys rotate --admin 127.0.0.1:7480 --token ./system/admin.token

Copy the key file again afterwards: the new key is needed for everything from now on.";

/// Arguments of `keys`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a new key and wrap everything with it
    Rotate {
        /// Forget the earlier keys; backups that were made before can then no longer be read
        #[arg(long)]
        retire: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Runs `keys`.
pub fn run(args: KeysArgs, output: Output) -> Result<(), Failure> {
    let KeysCommand::Rotate { retire, admin } = args.command;
    super::block_on(async {
        let progress = Progress::new(&output, "rewrapping");
        let result = match admin.answering().await? {
            Some(server) => {
                let body = json!({"retire": retire});
                server.run("/v1/keys/rotate", &body, |line| progress.set_from(line)).await?
            }
            None => {
                let stopped = Stopped::open(&admin.data()?).await?;
                let earlier = if retire { Earlier::Forget } else { Earlier::Keep };
                rotate_keys(&stopped.store, earlier, |now| progress.set(now.seen, None)).await?
            }
        };
        drop(progress);
        output.result(&result, || sentence(&result))
    })
}

fn sentence(result: &Value) -> String {
    let key = result.get("key").and_then(Value::as_str).unwrap_or("?");
    let rewrapped = result.get("rewrapped").and_then(Value::as_u64).unwrap_or(0);
    let retired = result.get("retired").and_then(Value::as_array).map_or(0, Vec::len);
    let earlier = if retired > 0 {
        format!("{retired} earlier ones are gone")
    } else {
        "the earlier ones stay for earlier backups".to_owned()
    };
    format!(
        "key {key} wraps everything from now on ({rewrapped} rewrapped); {earlier}; copy the key file again"
    )
}
