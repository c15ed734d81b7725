//! A run in a sentence, made from its figures alone: what came, how conversations fared, whether everybody got in, and what
//! was lost.

use super::words::{self, count, list, ms, percent, seconds, times};
use crate::storm::result::{Run, Second, Summary, Verdict};
use crate::storm::scenario::{Scenario, Side};
use crate::storm::tally::Stream;

/// From here on load is told as a multiple of what the server can do.
const TOLD_AS_MULTIPLE: f64 = 1.2;

/// A sentence names so many kinds of load at most.
const LOADS_MAX: usize = 2;

const LOGINS: [Stream; 2] = [Stream::LookLogin, Stream::WakeLogin];

/// The whole verdict.
pub fn verdict(run: &Run) -> String {
    let mut sentences = vec![opening(run)];
    sentences.extend(came_in(run));
    sentences.extend(history(&run.summary));
    sentences.join(" ")
}

fn opening(run: &Run) -> String {
    let load = load(run);
    let pause = if load.ends_with('–') { "" } else { "," };
    words::capitalised(&format!("{load}{pause} {}.", conversations(&run.summary)))
}

/// `passed`, or what else.
pub fn outcome(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "passed",
        Verdict::Fail => "failed",
        Verdict::Invalid => "not valid",
    }
}

/// Why it is not a pass; empty for one.
pub fn reasons(summary: &Summary) -> Vec<String> {
    let failed = summary.checks.iter().filter(|check| !check.pass).map(|check| match check.value {
        Some(value) => format!("{} is {}, must be {}", check.name, words::digits(value, 6), check.limit),
        None => format!("{} could not be measured, must be {}", check.name, check.limit),
    });
    summary.invalid_because.iter().cloned().chain(failed).collect()
}

/// The most of something in one second.
pub fn busiest(run: &Run, of: impl Fn(&Second) -> u64) -> u64 {
    run.seconds.iter().map(of).max().unwrap_or_default()
}

/// What was due of a stream in a second.
pub fn offered(second: &Second, stream: Stream) -> u64 {
    second.streams.get(&stream).map_or(0, |of| of.due.offered)
}

/// From the storm's beginning until everybody who wanted in was in; `None`: not all, or nobody wanted in.
pub fn all_in_s(run: &Run) -> Option<f64> {
    let sum = |of: fn(&Second) -> u64| run.seconds.iter().map(of).sum::<u64>();
    let (came, went) = (sum(logins_offered), sum(logins_served));
    if came == 0 || went < came || run.summary.logins.left_outside > 0 {
        return None;
    }
    let last = run.seconds.iter().rfind(|second| logins_served(second) > 0)?;
    Some(last.at_s + 1.0).filter(|at_s| *at_s > 0.0)
}

fn logins_offered(second: &Second) -> u64 {
    LOGINS.iter().map(|stream| offered(second, *stream)).sum()
}

fn logins_served(second: &Second) -> u64 {
    LOGINS.iter().filter_map(|stream| second.streams.get(stream)).map(|of| of.served).sum()
}

/// What came over the server.
fn load(run: &Run) -> String {
    let loads: Vec<String> =
        [flood(run), logins(run), crowd(run), silent(run)].into_iter().flatten().take(LOADS_MAX).collect();
    if !loads.is_empty() {
        return format!("while {}", list(&loads));
    }
    match run.marks.first() {
        Some((_, what)) => format!("while {what}"),
        None if is_everyday(&run.plan) => format!("in {} s of everyday load", run.plan.phases.storm_s),
        None => format!("in the {} s of this storm", run.plan.phases.storm_s),
    }
}

/// Nothing but conversations.
fn is_everyday(plan: &Scenario) -> bool {
    let nobody = plan.logins.is_empty() && plan.crowd.is_empty() && plan.events.is_empty();
    nobody && plan.flood.is_none() && plan.silent.is_none()
}

fn flood(run: &Run) -> Option<String> {
    run.plan.flood.as_ref()?;
    let most = run.seconds.iter().filter_map(|second| second.flood_packets).max().filter(|most| *most > 0)?;
    Some(format!("up to {} first packets a second came from strangers", count(most as f64)))
}

fn logins(run: &Run) -> Option<String> {
    let per_s = run.summary.logins.offered_per_s.filter(|per_s| *per_s > 0.0)?;
    let phones = run.plan.logins.iter().any(|logins| logins.side == Side::Background);
    let who = if phones { "phones" } else { "people" };
    Some(format!(
        "{} {who} a second wanted in{}",
        count(per_s),
        multiple(per_s, run.summary.capacity.logins_per_s)
    ))
}

fn crowd(run: &Run) -> Option<String> {
    let per_s = busiest(run, |second| offered(second, Stream::Crowd)) as f64;
    let many = multiple(per_s, run.summary.capacity.most_messages_per_s());
    (per_s > 0.0).then(|| format!("a crowd sent {} messages a second{many}", count(per_s)))
}

fn silent(run: &Run) -> Option<String> {
    let silent = run.plan.silent.as_ref()?;
    let clients = count(f64::from(silent.clients) * run.scale);
    Some(format!("{clients} clients began a handshake and never spoke again"))
}

fn multiple(per_s: f64, capacity: f64) -> String {
    let ratio = per_s / capacity;
    let told = capacity > 0.0 && ratio >= TOLD_AS_MULTIPLE;
    if told { format!(" – {} what this server can do –", times(ratio)) } else { String::new() }
}

/// How conversations fared.
fn conversations(summary: &Summary) -> String {
    let Some(success) = summary.fg_success else {
        return "it was not measured how conversations fared".to_owned();
    };
    let only = if success < 0.9 { "only " } else { "" };
    let arrived = format!("{only}{} of the messages of people in conversations arrived", percent(success));
    match (summary.fg_p99_ratio, summary.fg_p99_ms.quiet, summary.fg_p99_ms.storm) {
        (Some(ratio), Some(quiet), Some(storm)) => {
            format!("{arrived}, at {} their quiet p99 ({} → {})", times(ratio), ms(quiet), ms(storm))
        }
        (_, _, Some(storm)) => format!("{arrived}, 99 % of them within {}", ms(storm)),
        _ => arrived,
    }
}

/// Whether everybody got in.
fn came_in(run: &Run) -> Option<String> {
    run.summary.logins.offered_per_s?;
    let outside = run.summary.logins.left_outside;
    if outside > 0 {
        return Some(format!("{} clients were not in at the end.", count(outside as f64)));
    }
    all_in_s(run).map(|at_s| format!("Everybody was in after {}.", seconds(at_s)))
}

/// What became of messages that had a receipt.
fn history(summary: &Summary) -> Option<String> {
    let found = [
        (summary.lost, "lost"),
        (summary.duplicated, "doubled"),
        (summary.reordered, "out of order"),
        (summary.misdelivered, "delivered to strangers"),
    ];
    let bad: Vec<String> = found
        .iter()
        .filter_map(|(count, what)| Some((count.filter(|count| *count > 0)?, what)))
        .map(|(number, what)| format!("{} {what}", count(number as f64)))
        .collect();
    if !bad.is_empty() {
        return Some(format!("Messages: {}.", list(&bad)));
    }
    let checked = summary.lost.is_some() && summary.duplicated.is_some() && summary.reordered.is_some();
    checked.then(|| "No message with a receipt was lost, doubled or out of order.".to_owned())
}
