//! `completions`: what a shell needs to complete this command line.

use clap::Args;
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::write_all;

const EXAMPLES: &str = "\
Examples:
  buslane completions bash > /etc/bash_completion.d/buslane
  buslane completions zsh > \"${fpath[1]}/_buslane\"
  buslane completions fish > ~/.config/fish/completions/buslane.fish";

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs it.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::whole(), "buslane", &mut script);
    write_all(&script)
}
