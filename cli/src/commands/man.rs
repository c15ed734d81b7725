//! `man`: a manual page for each command, made from what `--help` says.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::Args;
use serde_json::json;

use crate::cli::Cli;
use crate::failure::{Exit, Failure};
use crate::output::Output;

const EXAMPLES: &str = "\
Example:
  buslane man --out /usr/local/share/man/man1";

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// The folder for the pages; it is made where there is none
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs it.
pub fn run(args: &ManArgs, output: Output) -> Result<(), Failure> {
    write(&args.out).map_err(|e| {
        let path = args.out.display();
        Failure::new(
            Exit::Data,
            "not_written",
            format!("cannot write into {path}: {e}; choose another --out"),
        )
    })?;
    output.result(&json!({"out": args.out}), || format!("the pages are in {}", args.out.display()))
}

/// A page for each command, under its whole name: `buslane-ctl-emergency.1`.
fn write(out: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
    clap_mangen::generate_to(Cli::whole(), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_says_what_it_does() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let page = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        assert!(page("buslane.1").contains("Exit codes"));
        assert!(page("buslane-ctl-emergency.1").contains("EMERGENCY"));
        assert!(page("buslane-ctl-incidents-silence.1").contains("Tell nobody"));
    }
}
