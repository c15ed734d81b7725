//! The `buslane` binary: every role, and every command for people.
//!
//! `main` only parses, runs and reports: the commands are in `commands/`, what they share lies beside this file.

mod admin_client;
mod cli;
mod commands;
mod confirm;
mod connect;
mod copy;
mod effective;
mod failure;
mod folder;
mod home;
mod ledger;
mod message_line;
mod operate;
mod output;
mod process;
mod progress;
mod registry;
mod reload;
mod role;
mod run_file;
mod sealed_store;
mod seat;
mod service;
mod settings;
mod stopped;
mod time_text;

use std::process::ExitCode;

use buslane_loadtest::parent;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::failure::{Exit, Failure};

// Memory must come back after a storm: see .cargo/config.toml for how the allocator is tuned.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let json = std::env::args_os().take_while(|a| a != "--").any(|a| a == "--json");
    if let Err(orphaned) = parent::end_with_parent() {
        return report(&Failure::new(Exit::Refused, "orphaned", orphaned.to_string()), json);
    }
    let cli = match Cli::of_this_process() {
        Ok(cli) => cli,
        Err(e) if json && e.exit_code() != 0 => return report(&Failure::usage(usage_sentence(&e)), true),
        Err(e) => e.exit(),
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, json),
    }
}

fn report(failure: &Failure, json: bool) -> ExitCode {
    if failure.exit.is_some() {
        let text = if json { failure.to_json() } else { format!("buslane: {failure}") };
        // The exit code says it too, where nobody reads stderr.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
    }
    ExitCode::from(failure.exit_code())
}

/// The first paragraph of what the parser says, without its decoration.
fn usage_sentence(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing: see `buslane --help`".to_owned();
    }
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    first.trim_start_matches("error: ").replace('\n', " ")
}
