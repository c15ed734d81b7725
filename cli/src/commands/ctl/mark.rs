//! `ctl mark`: marks a deploy or anything else on every chart and in every open incident.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::author;
use crate::admin_client::AdminArgs;
use crate::failure::Failure;
use crate::output::Output;

const EXAMPLES: &str = "\
Example:
  buslane ctl mark deploy \"chat app 4.2 to 10 % of the phones\"";

/// Arguments of `ctl mark`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MarkArgs {
    /// What kind of thing it is
    #[arg(value_enum)]
    mark: Mark,
    /// What, in words
    text: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mark {
    /// A new version of something
    Deploy,
    /// Other settings somewhere
    Config,
    /// An exercise
    Drill,
    /// Anything else
    Note,
}

/// Runs it.
pub async fn run(args: &MarkArgs, output: Output) -> Result<(), Failure> {
    let mark = match args.mark {
        Mark::Deploy => "deploy",
        Mark::Config => "config",
        Mark::Drill => "drill",
        Mark::Note => "note",
    };
    let result = args
        .admin
        .client()?
        .post("/v1/marks", &author::sign(json!({"mark": mark, "text": args.text})))
        .await?;
    output.result(&result, || "marked".to_owned())
}
