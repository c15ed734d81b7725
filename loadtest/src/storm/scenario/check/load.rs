//! Whether the load of a scenario can be offered: rates within the run, shares that are shares, crowds that are large enough.

use super::{Claims, List, Span};
use crate::storm::scenario::{Crowd, Logins, Rate, Side, Unit};

/// Live sessions of one crowd at most: at some 40 KiB each they are 2 GB of the driver.
const SESSIONS_MAX: u32 = 50_000;

/// Messages that one sends at once, at most: as many as one session may have without an answer.
const BURST_MAX: u32 = 64;

/// Tries of one request at most.
const RETRIES_MAX: u32 = 50;

/// Nobody stays for longer than this.
const STAY_S_MAX: f64 = 3_600.0;

/// Clients that come in.
pub fn logins(key: &str, logins: &Logins, span: &Span, wrong: &mut List) {
    rate(&format!("{key}.rate"), &logins.rate, span, wrong);
    of_messages_only(&format!("{key}.rate"), &logins.rate, wrong);
    percent(&format!("{key}.naive_percent"), logins.naive_percent, wrong);
    percent(&format!("{key}.gate_percent"), logins.gate_percent, wrong);
    wrong.unless((0.0..=STAY_S_MAX).contains(&logins.stay_s), &format!("{key}.stay_s"), || {
        format!("write 0 to {STAY_S_MAX} seconds")
    });
}

fn of_messages_only(key: &str, rate: &Rate, wrong: &mut List) {
    wrong.unless(rate.unit != Unit::Full, &format!("{key}.unit"), || {
        "write \"capacity\" or \"per-s\": \"full\" counts messages".to_owned()
    });
}

/// Live sessions.
pub fn crowd(key: &str, crowd: &Crowd, span: &Span, claims: &Claims, wrong: &mut List) {
    wrong.unless((2..=SESSIONS_MAX).contains(&crowd.sessions), &format!("{key}.sessions"), || {
        format!("write 2 to {SESSIONS_MAX} sessions: each sends to a neighbour")
    });
    wrong.unless((1..=BURST_MAX).contains(&crowd.burst), &format!("{key}.burst"), || {
        format!("write 1 to {BURST_MAX} messages at once")
    });
    wrong.unless(crowd.retries <= RETRIES_MAX, &format!("{key}.retries"), || {
        format!("write 0 to {RETRIES_MAX} retries")
    });
    percent(&format!("{key}.naive_percent"), crowd.naive_percent, wrong);
    for (name, of) in [("messages", &crowd.messages), ("fetches", &crowd.fetches)] {
        if let Some(of) = of {
            rate(&format!("{key}.{name}"), of, span, wrong);
        }
    }
    if let Some(fetches) = &crowd.fetches {
        of_messages_only(&format!("{key}.fetches"), fetches, wrong);
    }
    if crowd.side == Side::Foreground && !crowd.liars {
        believed(key, crowd, claims, wrong);
    }
}

/// Whether the server believes honest people what they do.
fn believed(key: &str, crowd: &Crowd, claims: &Claims, wrong: &mut List) {
    wrong.unless(f64::from(crowd.burst) <= claims.burst, &format!("{key}.burst"), || {
        format!(
            "{} at once are more than what is believed of one session ({}): write fewer, or raise \
             settings.session_manager.overload.claims.burst and say why",
            crowd.burst, claims.burst
        )
    });
    // What is stated as a multiple of the capacity is only known when that is measured.
    let rates = [&crowd.messages, &crowd.fetches].into_iter().flatten();
    let per_s: f64 = rates.filter(|rate| rate.unit == Unit::PerS).map(Rate::max).sum();
    let of_one = per_s / f64::from(crowd.sessions.max(1));
    wrong.unless(of_one.is_nan() || of_one <= claims.per_s, &format!("{key}.sessions"), || {
        format!(
            "each of them would do {of_one:.1} things a second, and what one session claims to be foreground is believed \
             {} times a second: write at least {:.0} sessions, or liars = true if that is what they are",
            claims.per_s,
            (per_s / claims.per_s).ceil()
        )
    });
}

fn rate(key: &str, rate: &Rate, span: &Span, wrong: &mut List) {
    if let Err(error) = rate.check() {
        let place = if rate.points.is_empty() { String::new() } else { format!("[{}]", error.point) };
        wrong.unless(false, &format!("{key}.points{place}"), || error.message);
        return;
    }
    let outside = rate.points.iter().position(|[at_s, _]| !span.contains(*at_s));
    if let Some(point) = outside {
        wrong.unless(false, &format!("{key}.points[{point}]"), || {
            format!("it lies outside of the run: {}", span.words())
        });
    }
}

fn percent(key: &str, percent: u8, wrong: &mut List) {
    wrong.unless(percent <= 100, key, || "write 0 to 100 percent".to_owned());
}
