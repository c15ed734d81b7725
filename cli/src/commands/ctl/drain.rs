//! `ctl drain`: asks the sessions of a node to leave, at a rate, and shows how far that is.
//!
//! The drain goes on whether somebody looks or not: Ctrl-C ends the looking only.

use std::io::{self, IsTerminal};
use std::time::Duration;

use buslane_operator::view::DrainView;
use clap::Args;
use serde_json::json;

use super::text::read;
use super::{author, nodes};
use crate::admin_client::{AdminArgs, AdminClient};
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};
use crate::progress::Progress;
use crate::time_text::span;

/// How often is looked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a line says so, where nobody sees a bar.
const LINE_EVERY: u32 = 20;

const EXAMPLES: &str = "\
Examples:
  buslane ctl drain --reason \"new kernel\" --dry-run
  buslane ctl drain session-manager-2 --rate 500 --reason \"new kernel\"
  buslane ctl drain session-manager-2 --end --reason \"it is back\"

Nobody loses a message: each session is told to go to another node, or to come back to this one
where there is no other.";

/// Arguments of `ctl drain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DrainArgs {
    /// The node that is meant [default: the one that is asked]
    node: Option<String>,
    /// Why; it is written into the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Sessions that are asked to leave, per second [default: all within the drain time of the node]
    #[arg(long, value_name = "COUNT", value_parser = rate, conflicts_with = "end")]
    rate: Option<f64>,
    /// Take sessions again
    #[arg(long)]
    end: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Do not wait until all have left
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "write a number, for example 500".to_owned())?;
    (rate > 0.0 && rate <= 1e6)
        .then_some(rate)
        .ok_or_else(|| "write a number from above 0 to 1000000".to_owned())
}

/// Runs it.
pub async fn run(args: &DrainArgs, output: Output) -> Result<(), Failure> {
    let client = nodes::client_of(args.admin.client()?, args.node.as_deref()).await?;
    if !(args.end || args.dry_run || args.yes) {
        let now: DrainView = read(&client.get("/v1/drain").await?)?;
        let what = format!("This asks all {} sessions of {} to leave.", now.sessions, printable(&now.node));
        confirm::typed(&what, &now.node)?;
    }
    let body = json!({"on": !args.end, "per_s": args.rate, "reason": args.reason, "dry_run": args.dry_run});
    let result = client.post("/v1/drain", &author::sign(body)).await?;
    let view: DrainView = read(&result)?;
    if args.dry_run {
        return output.result(&result, || format!("nothing was done; {}", would(&view, args.end)));
    }
    if args.end || args.no_wait {
        return output.result(&result, || sentence(&view));
    }
    let last = follow(&client, view, output).await?;
    output.result(&last, || sentence(&last))?;
    if last.draining && last.sessions > 0 {
        let message = "not all sessions have left; the drain goes on, see `buslane ctl drain --help`";
        return Err(Failure::new(Exit::Refused, "still_draining", message).retryable());
    }
    Ok(())
}

/// Shows how far it is, until all have left, the drain is over or somebody has seen enough.
async fn follow(client: &AdminClient, first: DrainView, output: Output) -> Result<DrainView, Failure> {
    let bar = Progress::new(&output, "draining");
    let mut view = first;
    let mut looks = 0u32;
    while view.draining && view.sessions > 0 {
        bar.set(view.from_sessions.saturating_sub(view.sessions), Some(view.from_sessions));
        if looks.is_multiple_of(LINE_EVERY) && !io::stderr().is_terminal() {
            output.talk(&sentence(&view));
        }
        looks = looks.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        view = match client.get("/v1/drain").await {
            Ok(result) => read(&result)?,
            // A node that was drained is stopped by and by: that is what it was drained for.
            Err(gone) if gone.exit == Some(Exit::Unreachable) => {
                output.talk(&format!("{} does not answer any more", printable(&view.node)));
                break;
            }
            Err(other) => return Err(other),
        };
    }
    Ok(view)
}

fn sentence(view: &DrainView) -> String {
    let node = printable(&view.node);
    if !view.draining {
        return format!("{node} takes sessions; it has {}", view.sessions);
    }
    if view.sessions == 0 {
        return format!("{node} is drained: no session is left");
    }
    let eta = view.eta_ms.map_or_else(String::new, |ms| format!(", about {} more", span(ms)));
    format!("{node} drains: {} of {} sessions are left{eta}", view.sessions, view.from_sessions)
}

fn would(view: &DrainView, end: bool) -> String {
    let node = printable(&view.node);
    if end {
        return format!("{node} would take sessions again");
    }
    let rate = view.rate_per_s.map_or_else(String::new, |rate| format!(", {rate} a second"));
    let eta = view.eta_ms.map_or_else(String::new, |ms| format!(", which takes about {}", span(ms)));
    format!("{node} would ask its {} sessions to leave{rate}{eta}", view.sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is_is_said_with_what_is_left() {
        let view = |draining, sessions, eta_ms| DrainView {
            node: "sm1".into(),
            draining,
            from_sessions: 400,
            sessions,
            rate_per_s: Some(10.0),
            eta_ms,
        };
        assert_eq!(
            sentence(&view(true, 120, Some(12_000))),
            "sm1 drains: 120 of 400 sessions are left, about 12 s more"
        );
        assert_eq!(sentence(&view(true, 0, None)), "sm1 is drained: no session is left");
        assert_eq!(sentence(&view(false, 7, None)), "sm1 takes sessions; it has 7");
        assert_eq!(
            would(&view(false, 400, Some(40_000)), false),
            "sm1 would ask its 400 sessions to leave, 10 a second, which takes about 40 s"
        );
    }

    #[test]
    fn a_rate_is_a_number_above_nothing() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "NaN", "inf", "many"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
