//! `docs`: pages of the documentation that are made from the code. For those who work on it, so the help does not list it.

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::output::Output;
use crate::registry;

const EXAMPLES: &str = "\
Examples:
  buslane docs metrics > docs/metrics.md";

/// Arguments of `docs`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DocsArgs {
    #[command(subcommand)]
    command: DocsCommand,
}

#[derive(Debug, Subcommand)]
enum DocsCommand {
    /// Every metric, as a page in Markdown
    Metrics,
}

/// Runs `docs`.
pub fn run(args: &DocsArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        DocsCommand::Metrics => {
            let page = registry::markdown();
            output.result(&page, || page.trim_end().to_owned())
        }
    }
}
