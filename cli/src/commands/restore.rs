//! `restore`: a data folder from a backup.
//!
//! The backup is verified as a whole before anything is written, and nothing that exists is ever overwritten.

use std::path::PathBuf;

use clap::Args;

use crate::copy;
use crate::failure::Failure;
use crate::home;
use crate::output::Output;
use crate::progress::Progress;

const EXAMPLES: &str = "\
Example:
  buslane restore --from ./monday.buslane --data ./new
  mkdir -p ./new.keys && cp /safe/kek.json ./new.keys/
  buslane up --data ./new

The folder must be new or empty. The key file that belonged to the server must be put beside it.
Clients must trust the new server: copy tls/ of the old folder too, or hand out the new CA.";

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The data folder to make
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Runs `restore`.
pub fn run(args: RestoreArgs, output: Output) -> Result<(), Failure> {
    super::block_on(async {
        let progress = Progress::new(&output, "restoring");
        let (sender, mut done) = tokio::sync::watch::channel(0);
        let restoring = copy::restore(&args.from, &args.data, move |entries| {
            sender.send_replace(entries);
        });
        tokio::pin!(restoring);
        let result = loop {
            tokio::select! {
                result = &mut restoring => break result?,
                Ok(()) = done.changed() => progress.set(*done.borrow_and_update(), None),
            }
        };
        drop(progress);
        output.result(&result, || {
            format!(
                "restored into {}; before `buslane up --data`, put its key file into {}",
                args.data.display(),
                home::keys_beside(&args.data).display()
            )
        })
    })
}
