//! `ctl`: ask a running server how it is, and what only an operator may do.
//!
//! What changes something takes a reason and an end, can be tried with `--dry-run`, and is audited.

mod audit;
mod author;
mod changes;
mod emergency;
mod lanes;
mod posture;
mod text;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use buslane_shared::id::UserId;

use crate::admin_client::AdminArgs;
use crate::failure::{Exit, Failure};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  buslane ctl status
  buslane ctl enrol-code alice            a one-time code for a device of alice
  buslane ctl posture                     what holds, why, until when, on which nodes
  buslane ctl lanes                       who has the seats
  buslane ctl emergency on --reason \"drill\" --for 30s --dry-run
  buslane ctl emergency on --reason \"new year\" --for 2h --at \"2026-12-31 23:50:00\"
  buslane ctl emergency auto --reason \"over\"    back to what is measured
  buslane ctl audit                       what operators have done; exit code 1 if it was touched
  buslane ctl status --admin 10.0.0.5:7480";

/// Arguments of `ctl`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CtlArgs {
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Whether the server is ready, and if not, what is missing
    Status {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// The posture: what holds, where it comes from, and on which nodes
    Posture {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// The seats of a node, by class and by protocol
    Lanes {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Order the posture, for a reason and for a time
    Emergency(emergency::EmergencyArgs),
    /// What operators have done, and whether the record of it holds
    Audit(audit::AuditArgs),
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
    super::block_on(async {
        match args.command {
            CtlCommand::Status { admin } => status(&admin, output).await,
            CtlCommand::Posture { admin } => posture::run(&admin, output).await,
            CtlCommand::Lanes { admin } => lanes::run(&admin, output).await,
            CtlCommand::Emergency(args) => emergency::run(&args, output).await,
            CtlCommand::Audit(args) => audit::run(&args, output).await,
            CtlCommand::EnrolCode { user, admin } => enrol_code(&user, &admin, output).await,
        }
    })
}

async fn status(admin: &AdminArgs, output: Output) -> Result<(), Failure> {
    let (_, text) = admin.client()?.page("/readyz").await?;
    let said: Value = serde_json::from_str(&text).map_err(|_| {
        Failure::new(Exit::Unreachable, "unreachable", "what answers at this address is no server of ours")
    })?;
    let ready = said.get("ready").and_then(Value::as_bool).unwrap_or(false);
    output.result(&said, || sentences(&said))?;
    if ready {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "not_ready", "the server is not ready: see the checks").retryable())
}

fn sentences(said: &Value) -> String {
    let is_ready = |value: &Value| value.get("ready").and_then(Value::as_bool).unwrap_or(false);
    let mut lines = vec![if is_ready(said) { "ready" } else { "NOT READY" }.to_owned()];
    for (name, check) in said.get("checks").and_then(Value::as_object).into_iter().flatten() {
        let why = check.get("why").and_then(Value::as_str).map_or_else(String::new, |why| format!(": {why}"));
        let sign = if is_ready(check) { "ok" } else { "NO" };
        lines.push(format!("  {sign} {name}{why}"));
    }
    lines.join("\n")
}

async fn enrol_code(user: &UserId, admin: &AdminArgs, output: Output) -> Result<(), Failure> {
    let result = admin.client()?.run("/v1/enrol-codes", &json!({"user": user.as_str()}), |_| ()).await?;
    let code = result.get("code").and_then(Value::as_str).unwrap_or_default();
    output.result(&result, || {
        format!("{code}\nOn the new device: buslane account enrol --as {user} --code {code}")
    })
}
