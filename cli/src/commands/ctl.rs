//! `ctl`: ask a running server how it is, and what only an operator may do.
//!
//! What changes something takes a reason and an end, can be tried with `--dry-run`, and is audited.

mod audit;
pub mod author;
pub mod changes;
mod drain;
mod emergency;
mod incidents;
mod lanes;
mod mark;
mod nodes;
mod posture;
pub mod status;
pub mod text;
mod token;
pub mod traffic;
mod users;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use buslane_shared::id::UserId;

use super::config;
use crate::admin_client::AdminArgs;
use crate::failure::Failure;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  buslane ctl status                      what works, what does not, and what to do
  buslane ctl posture                     what holds, why, until when, on which nodes
  buslane ctl lanes                       who has the seats
  buslane ctl traffic                     what was asked for and what became of it
  buslane ctl why alice                   why alice was refused, and when she may come
  buslane ctl emergency on --reason \"drill\" --for 30s --dry-run
  buslane ctl emergency on --reason \"new year\" --for 2h --at \"2026-12-31 23:50:00\"
  buslane ctl emergency auto --reason \"over\"    back to what is measured
  buslane ctl drain session-manager-2 --rate 500 --reason \"new kernel\"
  buslane ctl incidents                   what is not over
  buslane ctl audit                       what operators have done; exit code 1 if it was touched
  buslane ctl enrol-code alice            a one-time code for a device of alice
  buslane ctl status --admin 10.0.0.5:7480 --token operator.token

What changes something takes a reason, is written into the audit before it is done, and asks on a
terminal unless --yes says that it is meant.

Exit codes: 0 done; 1 refused, not ready, or the audit was touched; 2 the command line is wrong or
nobody confirmed; 5 no token; 6 nobody answers.";

/// Arguments of `ctl`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CtlArgs {
    #[command(subcommand)]
    command: CtlCommand,
}

/// The server that is asked.
#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// What works, what does not, and what to do about it
    Status(Asked),
    /// The posture: what holds, where it comes from, and on which nodes
    Posture(Asked),
    /// The seats of a node, by class and by protocol
    Lanes(Asked),
    /// What was asked for and what became of it, by class
    Traffic(traffic::TrafficArgs),
    /// Every process of the system, and how it is
    Nodes(Asked),
    /// Order the posture, for a reason and for a time
    Emergency(emergency::EmergencyArgs),
    /// Ask the sessions of a node to leave, at a rate
    Drain(drain::DrainArgs),
    /// Where a user is: devices, nodes, the last requests
    Sessions(users::UserArgs),
    /// Why a user was refused, and when the user may come back
    Why(users::UserArgs),
    /// End the session of a device; it may come back
    Disconnect(users::DisconnectArgs),
    /// What went wrong, who sees to it, and its story
    Incidents(incidents::IncidentsArgs),
    /// Mark a deploy on every chart and in every open incident
    Mark(mark::MarkArgs),
    /// Send the client from outside through the system now
    Probe(Asked),
    /// What operators have done, and whether the record of it holds
    Audit(audit::AuditArgs),
    /// Tokens: who may look, order, and do everything
    Token(token::TokenArgs),
    /// Check, print and compare configuration files
    Config(config::ConfigArgs),
    /// Make a one-time code with which a user enrols a device
    EnrolCode {
        /// The user's name
        user: UserId,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Runs `ctl`.
pub fn run(args: CtlArgs, output: Output) -> Result<(), Failure> {
    super::block_on(answer(args.command, output))
}

async fn answer(command: CtlCommand, output: Output) -> Result<(), Failure> {
    match command {
        CtlCommand::Status(asked) => status::run(&asked.admin, output).await,
        CtlCommand::Posture(asked) => posture::run(&asked.admin, output).await,
        CtlCommand::Lanes(asked) => lanes::run(&asked.admin, output).await,
        CtlCommand::Traffic(args) => traffic::run(&args, output).await,
        CtlCommand::Nodes(asked) => nodes::run(&asked.admin, output).await,
        CtlCommand::Emergency(args) => emergency::run(&args, output).await,
        CtlCommand::Drain(args) => drain::run(&args, output).await,
        CtlCommand::Sessions(args) => users::sessions(&args, output).await,
        CtlCommand::Why(args) => users::why(&args, output).await,
        CtlCommand::Disconnect(args) => users::disconnect(&args, output).await,
        CtlCommand::Incidents(args) => incidents::run(args, output).await,
        CtlCommand::Mark(args) => mark::run(&args, output).await,
        CtlCommand::Probe(asked) => status::probe(&asked.admin, output).await,
        CtlCommand::Audit(args) => audit::run(&args, output).await,
        CtlCommand::Token(args) => token::run(&args, output).await,
        CtlCommand::Config(args) => config::answer(args, output).await,
        CtlCommand::EnrolCode { user, admin } => enrol_code(&user, &admin, output).await,
    }
}

async fn enrol_code(user: &UserId, admin: &AdminArgs, output: Output) -> Result<(), Failure> {
    let result = admin.client()?.run("/v1/enrol-codes", &json!({"user": user.as_str()}), |_| ()).await?;
    let code = result.get("code").and_then(Value::as_str).unwrap_or_default();
    output.result(&result, || {
        format!("{code}\nOn the new device: buslane account enrol --as {user} --code {code}")
    })
}
