//! `ctl sessions`, `ctl why` and `ctl disconnect`: where a user is, why the user was refused, and how a session is ended.

use std::collections::BTreeMap;

use buslane_operator::view::{UserRefusal, UserSession, UserView};
use buslane_shared::id::UserId;
use clap::Args;
use serde_json::{Value, json};

use super::author;
use super::text::{escape, grid, read};
use crate::admin_client::AdminArgs;
use crate::confirm;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::time_text::{rfc3339, span};

/// Whose business it is.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// The user's name
    user: UserId,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `ctl disconnect`.
#[derive(Debug, Args)]
pub struct DisconnectArgs {
    /// The user's name
    user: UserId,
    /// The device, as `ctl sessions` shows it
    device: String,
    /// Why; it is written into the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// `ctl sessions`.
pub async fn sessions(args: &UserArgs, output: Output) -> Result<(), Failure> {
    let (result, view) = ask(args).await?;
    output.result(&result, || sessions_of(&view))
}

/// `ctl why`.
pub async fn why(args: &UserArgs, output: Output) -> Result<(), Failure> {
    let (result, view) = ask(args).await?;
    output.result(&result, || reasons(&view))
}

/// `ctl disconnect`.
pub async fn disconnect(args: &DisconnectArgs, output: Output) -> Result<(), Failure> {
    let (user, device) = (&args.user, &args.device);
    let client = args.admin.client()?;
    if !args.yes {
        confirm::typed(
            &format!("This ends the session of {user} on {}; the device may come back.", printable(device)),
            user.as_str(),
        )?;
    }
    let path = format!("/v1/users/{}/disconnect", escape(user.as_str()));
    let result = client.post(&path, &author::sign(json!({"device": device, "reason": args.reason}))).await?;
    output.result(&result, || {
        format!("the session of {user} on {} is ended; the device may come back", printable(device))
    })
}

async fn ask(args: &UserArgs) -> Result<(Value, UserView), Failure> {
    let result = args.admin.client()?.get(&format!("/v1/users/{}", escape(args.user.as_str()))).await?;
    let view = read(&result)?;
    Ok((result, view))
}

fn sessions_of(view: &UserView) -> String {
    let user = printable(&view.user);
    let mut lines = Vec::new();
    if view.sessions.is_empty() {
        lines.push(format!("{user} has no session"));
    } else {
        let header = ["device", "node", "port", "app", "connection", "since", "last requests"];
        lines.push(grid(
            &header,
            view.sessions.iter().map(|session| session_row(session, view.now_ms)).collect(),
        ));
    }
    lines.extend(silence(view));
    lines.join("\n")
}

fn session_row(session: &UserSession, now_ms: u64) -> Vec<String> {
    let last: Vec<String> = session
        .last
        .iter()
        .map(|request| format!("{} {} {}", request.protocol, request.class, request.outcome))
        .collect();
    let cells = [
        session.device.as_str(),
        &session.node,
        &session.port,
        &session.app_state,
        if session.connected { "connected" } else { "lost, may be resumed" },
        &format!("{} ago", span(now_ms.saturating_sub(session.since_ms))),
        &last.join("; "),
    ];
    cells.map(|cell| printable(cell).into_owned()).to_vec()
}

/// The sentence first: whoever asks is on the telephone with that user.
fn reasons(view: &UserView) -> String {
    let mut lines = Vec::new();
    match view.refusals.first() {
        Some(last) => lines.push(sentence(last, view.now_ms)),
        None => {
            lines.push(format!("Nobody remembers that {} was refused.", printable(&view.user)));
            lines.extend(nameless(view));
        }
    }
    let connected = view.sessions.iter().filter(|session| session.connected).count();
    lines.push(match (view.sessions.len(), connected) {
        (0, _) => "There is no session now.".to_owned(),
        (all, connected) => format!(
            "Sessions now: {all}, of which {connected} are connected (`buslane ctl sessions {}`).",
            view.user
        ),
    });
    lines.extend(silence(view));
    if !view.refusals.is_empty() {
        let header =
            ["when", "node", "what", "code", "class", "level", "cut at", "posture", "come back", "device"];
        lines.push(String::new());
        lines.push(grid(&header, view.refusals.iter().map(refusal_row).collect()));
    }
    lines.join("\n")
}

/// Whoever was turned away by the first packet has left no name: how many there were is all that can be said.
fn nameless(view: &UserView) -> Option<String> {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in view.nameless.iter().flat_map(|node| &node.reasons) {
        *reasons.entry(reason).or_default() += count;
    }
    let nodes = match view.nameless.len() {
        0 => return None,
        1 => "one node".to_owned(),
        many => format!("{many} nodes"),
    };
    let lately = span(view.nameless.iter().map(|node| node.span_ms).max().unwrap_or_default());
    let all: u64 = reasons.values().sum();
    if all == 0 {
        return Some(format!("No login was turned away in the last {lately} on {nodes}."));
    }
    let by_reason: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{} {count}", printable(reason))).collect();
    Some(format!(
        "Or it was put off before it said who it is: in the last {lately} {all} logins were turned away on {nodes}, with those that \
         left no name ({}).",
        by_reason.join(", ")
    ))
}

fn sentence(refusal: &UserRefusal, now_ms: u64) -> String {
    let ago = span(now_ms.saturating_sub(refusal.at_ms));
    let back = match (refusal.slot_at_ms, refusal.retry_at_ms) {
        (Some(slot), _) => format!(" It has a slot {}.", when(slot, now_ms)),
        (None, Some(retry)) => format!(" It was asked to come back {}.", when(retry, now_ms)),
        (None, None) => String::new(),
    };
    let said = refusal.sentence.trim_end();
    let end = if said.ends_with('.') { "" } else { "." };
    format!("{ago} ago: {}{end}{back}", printable(said))
}

fn when(at_ms: u64, now_ms: u64) -> String {
    if at_ms > now_ms {
        format!("in {} ({})", span(at_ms - now_ms), rfc3339(at_ms))
    } else {
        format!("that began {} ago ({})", span(now_ms - at_ms), rfc3339(at_ms))
    }
}

fn refusal_row(refusal: &UserRefusal) -> Vec<String> {
    let number = |n: Option<u16>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let cells = [
        rfc3339(refusal.at_ms),
        refusal.node.clone(),
        refusal.what.clone(),
        refusal.code.clone(),
        refusal.class.clone().unwrap_or_else(|| "-".to_owned()),
        number(refusal.level),
        number(refusal.cut),
        refusal.posture.clone(),
        refusal.slot_at_ms.or(refusal.retry_at_ms).map_or_else(|| "-".to_owned(), rfc3339),
        refusal.device.clone().unwrap_or_else(|| "-".to_owned()),
    ];
    cells.map(|cell| printable(&cell).into_owned()).to_vec()
}

/// What was not heard is not known.
fn silence(view: &UserView) -> Option<String> {
    let silent = view.silent.join(", ");
    (!silent.is_empty())
        .then(|| format!("No answer from {}: what they know is missing here.", printable(&silent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(refusals: &Value) -> UserView {
        read(&json!({
            "user": "alice", "now_ms": 1_795_233_016_123u64, "refusals": refusals, "silent": ["sm2"],
            "sessions": [{"node": "sm1", "device": "ab12", "port": "front", "app_state": "foreground", "connected": true,
                          "since_ms": 1_795_233_006_123u64,
                          "last": [{"at_ms": 1, "protocol": "message.send", "class": "C1", "outcome": "admitted"}]}],
        }))
        .unwrap()
    }

    #[test]
    fn the_answer_begins_with_a_sentence() {
        let refused = json!([{
            "at_ms": 1_795_233_004_123u64, "node": "sm1", "device": "ab12", "what": "hello", "code": "overloaded",
            "class": "C5", "level": 700, "cut": 640, "posture": "emergency", "retry_at_ms": null,
            "slot_at_ms": 1_795_233_046_123u64, "sentence": "sm1 was full of logins and this one came by itself",
        }]);
        let said = reasons(&view(&refused));
        let mut lines = said.lines();
        assert_eq!(
            lines.next().unwrap(),
            "12 s ago: sm1 was full of logins and this one came by itself. It has a slot in 30 s (2026-11-21T03:50:46.123Z)."
        );
        assert_eq!(
            lines.next().unwrap(),
            "Sessions now: 1, of which 1 are connected (`buslane ctl sessions alice`)."
        );
        assert_eq!(lines.next().unwrap(), "No answer from sm2: what they know is missing here.");
        assert!(said.contains("emergency"), "{said}");
        let none = reasons(&view(&json!([])));
        assert!(none.starts_with("Nobody remembers that alice was refused.\nSessions now"), "{none}");
    }

    #[test]
    fn who_left_no_name_is_among_those_who_were_turned_away() {
        let asked = |nodes: Value| {
            let mut view = view(&json!([]));
            view.nameless = read(&nodes).unwrap();
            reasons(&view).lines().nth(1).unwrap().to_owned()
        };
        let calm = json!([{"node": "sm1", "span_ms": 600_000, "reasons": {}}]);
        assert_eq!(asked(calm), "No login was turned away in the last 10 min on one node.");
        let storm = json!([
            {"node": "sm1", "span_ms": 600_000, "reasons": {"deferred": 900, "silence": 4}},
            {"node": "sm2", "span_ms": 30_000, "reasons": {"deferred": 100}},
        ]);
        assert_eq!(
            asked(storm),
            "Or it was put off before it said who it is: in the last 10 min 1004 logins were turned away on 2 nodes, with those \
             that left no name (deferred 1000, silence 4)."
        );
    }

    #[test]
    fn sessions_are_shown_with_what_they_asked_for_last() {
        let expected = "\
device  node  port   app         connection  since     last requests
 ab12    sm1   front  foreground  connected   10 s ago  message.send C1 admitted
No answer from sm2: what they know is missing here.";
        assert_eq!(sessions_of(&view(&json!([]))).trim_start(), expected);
    }
}
