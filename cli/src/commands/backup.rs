//! `backup`: everything stored, in one file, while the server runs or not.
//!
//! The copy is consistent, sealed as it lies in the store, and useless without the key file, which is not in it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::admin_client::AdminArgs;
use crate::copy;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;
use crate::stopped::Stopped;

const EXAMPLES: &str = "\
Examples:
  buslane backup --to /backups/monday.buslane
  buslane backup --to ./monday.buslane --data ./data --json
  buslane restore --from ./monday.buslane --data ./new

The keys are not in it: keep a copy of the key file in another place. The process that has the
store open writes the file, so the path is one on its machine.";

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BackupArgs {
    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `backup`.
pub fn run(args: BackupArgs, output: Output) -> Result<(), Failure> {
    super::block_on(async {
        let to = std::path::absolute(&args.to)
            .map_err(|e| Failure::usage(format!("{}: {e}", args.to.display())))?;
        let progress = Progress::new(&output, "copying");
        let result = match args.admin.answering().await? {
            Some(server) => {
                server.run("/v1/backup", &json!({"to": to}), |line| progress.set_from(line)).await?
            }
            None => {
                let stopped = Stopped::open(&args.admin.data()?).await?;
                let (sender, mut done) = tokio::sync::watch::channel(0);
                let copying = copy::back_up(&stopped.store, &to, move |entries| {
                    sender.send_replace(entries);
                });
                tokio::pin!(copying);
                loop {
                    tokio::select! {
                        result = &mut copying => break result?,
                        Ok(()) = done.changed() => progress.set(*done.borrow_and_update(), None),
                    }
                }
            }
        };
        drop(progress);
        output.result(&result, || sentence(&result))
    })
}

fn sentence(result: &Value) -> String {
    let number = |name: &str| result.get(name).and_then(Value::as_u64).unwrap_or(0);
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let file = result.get("file").map_or_else(String::new, text);
    let keys: Vec<String> =
        result.get("keys").and_then(Value::as_array).into_iter().flatten().map(text).collect();
    format!(
        "{} messages, {} bytes: {file}; to be read with key {}",
        number("messages"),
        number("bytes"),
        keys.join(", ")
    )
}
