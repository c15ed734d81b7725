//! `ctl token`: the tokens with which people and programs show who they are.
//!
//! A new token is shown once, here, and kept nowhere but as a hash.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use buslane_chassis::secret;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::author;
use super::text::{self, escape, grid};
use crate::admin_client::{AdminArgs, AdminClient};
use crate::failure::{Exit, Failure};
use crate::output::{Output, print_line, printable};
use crate::time_text::rfc3339;

const EXAMPLES: &str = "\
Examples:
  buslane ctl token create kim --role operator --for 90days --reason \"new colleague\" --out kim.token
  buslane ctl token list
  buslane ctl token revoke ID --reason \"left the company\"

A viewer may look, an operator may order, an admin may do everything. Whoever has such a file uses it
with --token, or with BUSLANE_ADMIN_TOKEN_FILE.";

/// Arguments of `ctl token`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make one and show it, once
    Create {
        /// Whose it is: the name that the audit shows
        name: String,
        /// What it may do
        #[arg(long, value_enum)]
        role: Role,
        /// For how long: 12h, 90days [default: until it is revoked]
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
        /// Why; it is written into the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Write it into this file (0600) in place of showing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Which there are
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// End one, at once
    Revoke {
        /// Its id, as `list` shows it
        id: String,
        /// Why; it is written into the audit
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// May look at everything
    Viewer,
    /// May also give orders
    Operator,
    /// May also make tokens, copy the data and change keys
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Runs it.
pub async fn run(args: &TokenArgs, output: Output) -> Result<(), Failure> {
    match &args.command {
        TokenCommand::Create { name, role, duration, reason, out, admin } => {
            let wanted = json!({
                "name": name, "role": role.name(), "expires_in_s": duration.map(|d| d.as_secs()),
                "reason": reason,
            });
            create(&admin.client()?, &wanted, out.as_deref(), output).await
        }
        TokenCommand::List { admin } => {
            let result = admin.client()?.get("/v1/tokens").await?;
            output.result(&result, || listing(&result))
        }
        TokenCommand::Revoke { id, reason, admin } => {
            let path = format!("/v1/tokens/{}?reason={}", escape(id), escape(reason));
            let result = admin.client()?.delete(&path).await?;
            output.result(&result, || revoked(id, &result))
        }
    }
}

async fn create(
    client: &AdminClient,
    wanted: &Value,
    out: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    if let Some(path) = out.filter(|path| path.exists()) {
        return Err(not_written(path, "it exists already"));
    }
    let mut result = client.post("/v1/tokens", &author::sign(wanted.clone())).await?;
    let Some(path) = out else {
        if !output.json && std::io::stdout().is_terminal() {
            output.talk("this is shown once; keep it where nobody else reads it:");
        }
        return output.result(&result, || text::string(&result, "token").to_owned());
    };
    let token = text::string(&result, "token").to_owned();
    if let Err(error) = secret::create(path, format!("{token}\n").as_bytes()) {
        // It would be lost otherwise.
        print_line(&token)?;
        return Err(not_written(path, &error.to_string()));
    }
    if let Value::Object(fields) = &mut result {
        fields.remove("token");
        fields.insert("file".to_owned(), json!(path));
    }
    output.result(&result, || {
        format!(
            "token {} of {} is in {}",
            text::string(&result, "id"),
            text::string(wanted, "name"),
            path.display()
        )
    })
}

fn revoked(id: &str, result: &Value) -> String {
    let mut said = format!("{} is revoked, and every page that was opened with it is closed", printable(id));
    for (field, what) in
        [("not_kept", "it will hold again after a restart"), ("not_recorded", "the audit has nothing of it")]
    {
        if let Some(why) = result.get(field).and_then(Value::as_str) {
            said += &format!("\n{what}: {}", printable(why));
        }
    }
    said
}

fn not_written(path: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::Data,
        "not_written",
        format!("cannot write {}: {why}; choose another --out", path.display()),
    )
}

fn listing(result: &Value) -> String {
    let tokens = result.get("tokens").and_then(Value::as_array);
    let row = |token: &Value| {
        let time =
            |name: &str| token.get(name).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), rfc3339);
        let cell = |name: &str| text::cell(token.get(name));
        vec![cell("id"), cell("name"), cell("role"), time("made_ms"), time("expires_ms"), cell("made_by")]
    };
    let rows: Vec<Vec<String>> = tokens.into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return "no token but that of the data folder".to_owned();
    }
    grid(&["id", "name", "role", "made", "ends", "made by"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_work_out_of_a_revocation_is_said() {
        let whole = revoked("ab", &json!({"not_kept": null, "not_recorded": null}));
        assert_eq!(whole, "ab is revoked, and every page that was opened with it is closed");
        let said = revoked("ab", &json!({"not_kept": "no space", "not_recorded": "the disk"}));
        assert!(
            said.ends_with(
                "\nit will hold again after a restart: no space\nthe audit has nothing of it: the disk"
            ),
            "{said}"
        );
    }
}
