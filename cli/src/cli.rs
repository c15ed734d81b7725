//! The command line: every command, its help, and who runs it.
//!
//! It exists so that the whole surface can be read on one screen. It decides nothing: each command lives in a file of its
//! own under `commands/`.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    account, backup, chat, completions, config, ctl, demo, docs, drill, keys, load, man, restore, role, room,
    send, simulate, tail, top, up,
};
use crate::failure::Failure;
use crate::output::Output;

const EXAMPLES: &str = "\
Try it:
  buslane up                              a server on this machine
  buslane chat --as alice --with bob      in a second terminal
  buslane chat --as bob --with alice      in a third

Exit codes:
  0  done
  1  refused by the server, or not everything was done
  2  the command line or a configuration file is wrong
  3  an address cannot be listened on
  4  a data folder or backup is in use, unreadable, damaged or of a newer format
  5  the key file is missing, wrong or unreadable
  6  the server cannot be reached, or is not the one that is trusted
  7  the client's own state folder is in use, damaged or of another system
  8  a measurement says nothing: it was not made, not valid, or ended early

Files: $BUSLANE_HOME, else $XDG_DATA_HOME/buslane, else ~/.local/share/buslane.
Errors go to stderr, with --json as {\"error\":{\"code\",\"message\",\"retryable\"}}. NO_COLOR is obeyed.";

/// A messaging gateway that keeps conversations moving when every phone wakes up at once.
#[derive(Debug, Parser)]
#[command(name = "buslane", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// Print JSON lines
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all roles in one process
    Up(Box<up::UpArgs>),
    /// Run the gateway alone: enrolment and tickets
    Gateway(role::RoleArgs),
    /// Run the session manager alone: it holds the clients' connections
    SessionManager(role::RoleArgs),
    /// Run the backend alone: rooms, messages and the store
    Backend(role::RoleArgs),
    /// Make or check configuration files
    Config(config::ConfigArgs),
    /// Talk to somebody in this terminal
    Chat(chat::ChatArgs),
    /// Send one message, or many
    Send(send::SendArgs),
    /// Print the log of a room
    Tail(tail::TailArgs),
    /// Rooms: create, invite, join, leave, members
    Room(room::RoomArgs),
    /// Your account: devices, codes, blocks
    Account(account::AccountArgs),
    /// Operate a running server
    Ctl(Box<ctl::CtlArgs>),
    /// Watch a running server in this terminal
    Top(top::TopArgs),
    /// The keys that seal the store
    Keys(keys::KeysArgs),
    /// Copy everything stored into one file, while the server runs or not
    Backup(backup::BackupArgs),
    /// Make a data folder from a backup
    Restore(restore::RestoreArgs),
    /// Measure what this machine does
    Load(load::LoadArgs),
    /// A minute of a storm on this machine, and how people fare in it
    Demo(demo::DemoArgs),
    /// Make a storm on purpose and see whether what is expected holds
    Drill(drill::DrillArgs),
    /// Run a model of a node under storms, against other policies
    Simulate(simulate::SimulateArgs),
    /// Print what a shell needs to complete this command line
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
    /// Print pages of the documentation that are made from the code
    #[command(hide = true)]
    Docs(docs::DocsArgs),
}

impl Cli {
    /// What the command line asks for. A subcommand without examples of its own shows those of its command.
    pub fn of_this_process() -> Result<Self, clap::Error> {
        let mut matches = Self::whole().try_get_matches()?;
        Self::from_arg_matches_mut(&mut matches)
    }

    /// The whole command line, with its examples.
    pub fn whole() -> clap::Command {
        Self::command().mut_subcommands(with_examples)
    }

    /// How this run prints.
    pub fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Runs the command.
    pub fn run(self) -> Result<(), Failure> {
        let output = self.output();
        match self.command {
            Command::Up(args) => up::run(*args, output),
            Command::Gateway(args) => role::gateway(&args, output),
            Command::SessionManager(args) => role::session_manager(&args, output),
            Command::Backend(args) => role::backend(&args, output),
            Command::Config(args) => config::run(args, output),
            Command::Chat(args) => chat::run(args, output),
            Command::Send(args) => send::run(args, output),
            Command::Tail(args) => tail::run(args, output),
            Command::Room(args) => room::run(args, output),
            Command::Account(args) => account::run(args, output),
            Command::Ctl(args) => ctl::run(*args, output),
            Command::Top(args) => top::run(&args, output),
            Command::Keys(args) => keys::run(args, output),
            Command::Backup(args) => backup::run(args, output),
            Command::Restore(args) => restore::run(args, output),
            Command::Load(args) => load::run(args, output),
            Command::Demo(args) => demo::run(&args, output),
            Command::Drill(args) => drill::run(args, output),
            Command::Simulate(args) => simulate::run(args, output),
            Command::Completions(args) => completions::run(&args),
            Command::Man(args) => man::run(&args, output),
            Command::Docs(args) => docs::run(&args, output),
        }
    }
}

/// Hands the examples of a command on to its subcommands.
fn with_examples(command: clap::Command) -> clap::Command {
    let examples = command.get_after_help().cloned();
    command.mut_subcommands(|sub| {
        with_examples(match (&examples, sub.get_after_help()) {
            (Some(examples), None) => sub.after_help(examples.clone()),
            _ => sub,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::whole().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                if sub.has_subcommands() {
                    check(sub, &path);
                }
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{path} shows no example");
            }
        }
        check(&Cli::whole(), "buslane");
    }
}
