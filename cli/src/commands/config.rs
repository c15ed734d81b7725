//! `config`: make the files for roles apart, check files before they are used, and show what holds.
//!
//! `init` never overwrites anything: a second CA would lock out every client that has the first one.

mod shown;

use std::path::{Path, PathBuf};

use buslane_chassis::secret;
use buslane_chassis::tls::{Authority, Role};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin_client::AdminArgs;
use crate::effective::{Effective, Origin};
use crate::failure::{Exit, Failure};
use crate::folder;
use crate::output::Output;
use crate::process::explain_tls;

const GATEWAY: &str = include_str!("config/gateway.toml");
const SESSION_MANAGER: &str = include_str!("config/session-manager.toml");
const BACKEND: &str = include_str!("config/backend.toml");

const EXAMPLES: &str = "\
Examples:
  buslane config init --dir ./system                          three roles on this machine
  buslane config init --dir ./system --host chat.example.org  for clients from elsewhere
  buslane config check ./system/gateway.toml
  buslane config print ./system/gateway.toml                  every setting, with where it comes from
  buslane config diff                                         the running `up` against its file
  buslane config diff ./old.toml ./new.toml

diff ends with exit code 1 where there is a difference.";

/// Arguments of `config`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Write a CA, a certificate for each role and three files that are ready to run
    Init {
        /// Where to; what is there already is not touched
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Names or addresses under which clients reach the machine; the first is told to them
        #[arg(long, value_name = "NAME", num_args = 1..)]
        host: Vec<String>,
    },
    /// Say whether a file is right, and if not, where and what to write
    Check {
        /// A role's file, or the config.toml of an `up`
        file: PathBuf,
    },
    /// Print every setting with its value and where it comes from: default, file and line, or flag
    Print {
        /// A file [default: what holds in the running process]
        file: Option<PathBuf>,
        /// Leave the defaults out
        #[arg(long)]
        no_defaults: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Compare a file with another one, or with what holds in the running process
    Diff {
        /// A file [default: the one that the running process has read]
        file: Option<PathBuf>,
        /// Another file [default: what holds in the running process]
        other: Option<PathBuf>,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Runs `config`.
pub fn run(args: ConfigArgs, output: Output) -> Result<(), Failure> {
    super::block_on(answer(args, output))
}

/// Does what is asked for.
pub async fn answer(args: ConfigArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        ConfigCommand::Init { dir, host } => init(&dir, &host, output),
        ConfigCommand::Check { file } => check(&file, output),
        ConfigCommand::Print { file, no_defaults, admin } => {
            let mut effective = match file {
                Some(file) => Effective::read(&file)?,
                None => shown::running(&admin).await?,
            };
            if no_defaults {
                effective.settings.retain(|setting| setting.origin != Origin::Default);
            }
            shown::print(&effective, output)
        }
        ConfigCommand::Diff { file: Some(file), other: Some(other), .. } => {
            shown::diff(&Effective::read(&file)?, &Effective::read(&other)?, output)
        }
        ConfigCommand::Diff { file, admin, .. } => {
            let running = shown::running(&admin).await?;
            let file = file.unwrap_or_else(|| running.file.clone());
            shown::diff(&running, &Effective::read(&file)?, output)
        }
    }
}

fn init(dir: &Path, hosts: &[String], output: Output) -> Result<(), Failure> {
    secret::folder(dir).map_err(|e| folder::unreadable(dir, &e))?;
    let files = [
        ("gateway.toml", fill(GATEWAY, hosts)),
        ("session-manager.toml", fill(SESSION_MANAGER, hosts)),
        ("backend.toml", fill(BACKEND, hosts)),
    ];
    if let Some((name, _)) = files.iter().find(|(name, _)| dir.join(name).exists()) {
        return Err(Failure::new(
            Exit::Data,
            "exists",
            format!(
                "{} exists already and is not overwritten: choose another --dir",
                dir.join(name).display()
            ),
        ));
    }
    let authority = Authority::load_or_generate(dir).map_err(|e| explain_tls(&e))?;
    for (role, name) in
        [(Role::Gateway, "gateway"), (Role::SessionManager, "session-manager"), (Role::Backend, "backend")]
    {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        names.extend(hosts.iter().cloned());
        authority.identity(dir, name, role.server_name(), &names).map_err(|e| explain_tls(&e))?;
    }
    for (name, text) in &files {
        let path = dir.join(name);
        secret::create(&path, text.as_bytes()).map_err(|e| folder::unreadable(&path, &e))?;
    }
    let value = json!({
        "dir": dir, "ca": dir.join("ca.pem"),
        "files": files.iter().map(|(name, _)| dir.join(name)).collect::<Vec<_>>(),
    });
    output.result(&value, || next_steps(dir, hosts))
}

fn next_steps(dir: &Path, hosts: &[String]) -> String {
    let d = dir.display();
    let gate = hosts.first().map_or("127.0.0.1", String::as_str);
    format!(
        "Ready to run, each in a terminal of its own:\n  buslane backend --config {d}/backend.toml\n  \
         buslane session-manager --config {d}/session-manager.toml\n  buslane gateway --config {d}/gateway.toml\n\n\
         Then:\n  buslane ctl enrol-code alice --admin 127.0.0.1:7480 --token {d}/admin.token\n  \
         buslane account enrol --as alice --code CODE --gate {gate}:7400 --ca {d}/ca.pem\n\n\
         On other machines, give each role its files and ca.pem; ca.key stays here."
    )
}

/// A template with its addresses.
fn fill(template: &str, hosts: &[String]) -> String {
    let (clients, advertise) = match hosts.first() {
        None => ("127.0.0.1", String::new()),
        Some(host) => ("0.0.0.0", format!("advertise = \"{host}\"\n")),
    };
    template.replace("{clients}", clients).replace("{advertise}\n", &advertise)
}

fn check(file: &Path, output: Output) -> Result<(), Failure> {
    let kind = Effective::read(file)?.kind;
    output.result(&json!({"file": file, "kind": kind, "valid": true}), || {
        format!("{}: valid, for `buslane {kind}`", file.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    fn quiet() -> Output {
        Output { json: true, colour: false }
    }

    #[test]
    fn what_init_writes_is_valid_and_is_never_overwritten() {
        for hosts in [vec![], vec!["chat.example.org".to_owned(), "192.0.2.7".to_owned()]] {
            let dir = tempfile::tempdir().unwrap();
            init(dir.path(), &hosts, quiet()).unwrap();
            for name in ["gateway.toml", "session-manager.toml", "backend.toml"] {
                check(&dir.path().join(name), quiet()).unwrap();
            }
            let ca = std::fs::read(dir.path().join("ca.pem")).unwrap();
            assert_eq!(init(dir.path(), &hosts, quiet()).unwrap_err().code, "exists");
            assert_eq!(std::fs::read(dir.path().join("ca.pem")).unwrap(), ca);
        }
    }

    #[test]
    fn a_file_for_one_role_is_not_taken_for_another() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), &[], quiet()).unwrap();
        let failure = settings::load::<settings::Gateway>(&dir.path().join("backend.toml")).unwrap_err();
        assert_eq!(failure.exit, Some(Exit::Usage));
    }

    #[test]
    fn check_names_an_unknown_role_and_a_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, "role = \"console\"\n").unwrap();
        assert!(check(&file, quiet()).unwrap_err().message.contains("console"));
        assert!(check(&dir.path().join("none.toml"), quiet()).unwrap_err().message.contains("no such file"));
    }
}
