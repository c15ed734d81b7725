//! The end of the page: what happened in the world, how this was measured, on what, and how to repeat it.

use super::figures::fact;
use crate::storm::report::escape::text;
use crate::storm::report::words;
use crate::storm::report::words::{count, or_not, seconds, three_digits};
use crate::storm::result::{ByPhase, Capacity, Costs, Run};

const METHOD: &str = "Load is open loop: what is due is counted when it is due, whether the server or the driver is ready or not, and every \
latency counts from then, so waiting is never left out. The server is a process of its own, reached over real QUIC. Conversations run on a \
thread of their own, which measures how late it is itself; everything that makes the storm runs on threads that the scheduler serves last. \
The run is not valid when the driver was late by too much of what it reports in any phase. At the end the log is read back and held against everything \
that was sent, acknowledged and delivered.";

/// The section.
pub fn section(run: &Run) -> String {
    format!(
        "<section><h2>About this run</h2><div class=\"pair\"><div class=\"box\"><h3>What it is modelled on</h3><p>{}</p><p class=\"note\">Source: {}</p><h3>What was expected</h3><p>{}</p></div><div class=\"box\"><h3>How it was measured</h3><p>{METHOD}</p>{}</div></div><div class=\"box\"><h3>Where, and with what</h3><dl class=\"facts\">{}</dl><h3>To repeat it</h3><pre><code>{}</code></pre></div></section>",
        text(&run.plan.history),
        text(&run.plan.source),
        text(&run.plan.hypothesis),
        notes(run),
        facts(run),
        text(&run.origin.command)
    )
}

fn notes(run: &Run) -> String {
    if run.notes.is_empty() {
        return String::new();
    }
    let items: String = run.notes.iter().map(|note| format!("<li>{}</li>", text(note))).collect();
    format!("<ul class=\"note\">{items}</ul>")
}

fn facts(run: &Run) -> String {
    let summary = &run.summary;
    let origin = &run.origin;
    let phases = run.plan.phases;
    let pinned = if origin.pinned { "had processors of their own" } else { "shared processors" };
    let rows = [
        ("machine", origin.machine.clone()),
        ("server and driver", pinned.to_owned()),
        ("version", origin.version.clone()),
        ("began", origin.began.clone()),
        ("seed, scale", format!("{}, {}", summary.seed, words::digits(run.scale, 4))),
        (
            "phases",
            format!("{} s quiet, {} s storm, {} s after", phases.quiet_s, phases.storm_s, phases.after_s),
        ),
        ("capacity measured before", could(&summary.capacity)),
        (
            "capacity measured after",
            summary.capacity_after.as_ref().map_or(words::NOT_MEASURED.to_owned(), could),
        ),
        ("cost at the server", costs(&summary.server_cpu_us)),
        ("posture", posture(run)),
        (
            "memory of the server",
            format!(
                "{} before, {} at most, {} after",
                or_not(summary.rss_mib.before, words::mib),
                or_not(summary.rss_mib.peak, words::mib),
                or_not(summary.rss_mib.after, words::mib)
            ),
        ),
        ("live sessions that it closed", words::closed(summary)),
        ("server's processors taken by the host", stolen(&summary.stolen)),
        ("driver late by itself, p99", lateness(&summary.driver_lateness_ms)),
    ];
    rows.iter().map(|(what, value)| fact(what, value)).collect()
}

fn could(capacity: &Capacity) -> String {
    let full = capacity
        .messages_full_per_s
        .map_or_else(String::new, |full| format!(" ({} where it is full)", count(full)));
    format!(
        "{} logins or {} messages{full} a second on {} {}",
        count(capacity.logins_per_s),
        count(capacity.messages_per_s),
        three_digits(capacity.processors),
        if capacity.processors == 1.0 { "processor" } else { "processors" }
    )
}

fn lateness(late: &ByPhase) -> String {
    let ms = |value: Option<f64>| or_not(value, words::ms);
    format!("quiet {}, storm {}, after {}", ms(late.quiet), ms(late.storm), ms(late.after))
}

fn stolen(share: &ByPhase) -> String {
    let percent = |share: Option<f64>| or_not(share, |share| format!("{:.0} %", 100.0 * share));
    format!("quiet {}, storm {}, after {}", percent(share.quiet), percent(share.storm), percent(share.after))
}

fn costs(costs: &Costs) -> String {
    let micro = |value: Option<f64>| or_not(value, |us| format!("{} µs", three_digits(us)));
    format!(
        "a login {}, a session without a request {}, a message {}, turning one away {} (an estimate)",
        micro(costs.login),
        micro(costs.session),
        micro(costs.message),
        micro(costs.refusal)
    )
}

fn posture(run: &Run) -> String {
    if run.postures.is_empty() {
        return String::new();
    }
    let enter = run.summary.enter_ms.map_or_else(
        || "EMERGENCY was not entered".to_owned(),
        |at| format!("EMERGENCY {} after the storm began", words::ms(at)),
    );
    let exit =
        run.summary.exit_s.map_or_else(String::new, |at| format!(", NORMAL {} after it ended", seconds(at)));
    enter + &exit
}
