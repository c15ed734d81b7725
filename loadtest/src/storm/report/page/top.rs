//! The top of the page: the verdict in a sentence, why it is no pass, and four numbers.

use crate::storm::report::compare;
use crate::storm::report::escape::text;
use crate::storm::report::sentence;
use crate::storm::report::table::Tone;
use crate::storm::report::terminal::badge;
use crate::storm::report::words::{count, glued, ms, percent, times};
use crate::storm::result::{Run, Summary, Verdict};
use crate::storm::tally::Stream;
use crate::storm::timing::Phase;

/// Of the run that the page is about.
pub fn verdict(run: &Run, runs: &[Run]) -> String {
    let title = format!("{} · {} · policy {}", run.plan.title, run.summary.scenario, run.summary.policy);
    let versus = if runs.len() > 1 {
        format!(
            "<p>{} <a href=\"#side-by-side\">Side by side ↓</a></p>",
            text(&glued(&compare::sentence(runs)))
        )
    } else {
        String::new()
    };
    format!("<header><h1>{}</h1>{}{versus}</header>", text(&title), summary(run))
}

/// Verdict, sentence, reasons and numbers of a run.
pub fn summary(run: &Run) -> String {
    let (sign, word, tone) = badge(run.summary.verdict);
    format!(
        "<p class=\"badge {}\"><span aria-hidden=\"true\">{sign}</span> {word}</p><p class=\"verdict\">{}</p>{}{}",
        class(tone),
        text(&glued(&sentence::verdict(run))),
        reasons(&run.summary),
        cards(run)
    )
}

/// The class of a tone in the style sheet.
pub fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Doubtful | Tone::Quiet | Tone::Strong => "doubt",
    }
}

fn reasons(summary: &Summary) -> String {
    let reasons = sentence::reasons(summary);
    if reasons.is_empty() {
        return String::new();
    }
    let class = if summary.verdict == Verdict::Invalid { "reasons doubt" } else { "reasons" };
    let items: String = reasons.iter().map(|reason| format!("<li>{}</li>", text(reason))).collect();
    format!("<ul class=\"{class}\">{items}</ul>")
}

/// A number and what it says; no number: not measured.
struct Card {
    number: Option<String>,
    words: String,
}

fn cards(run: &Run) -> String {
    let cards = [success(run), latency(&run.summary), let_in(&run.summary), lost(&run.summary)];
    let drawn = cards.iter().map(|card| match &card.number {
        Some(number) => format!("<div><b>{}</b><span>{}</span></div>", text(number), text(&card.words)),
        None => format!("<div><b class=\"missing\">not measured</b><span>{}</span></div>", text(&card.words)),
    });
    format!("<div class=\"cards\">{}</div>", drawn.collect::<String>())
}

fn success(run: &Run) -> Card {
    let due = run.streams.get(&Stream::Talk).and_then(|talk| talk.phases.get(&Phase::Storm));
    let of = due.map_or_else(String::new, |phase| format!(" {}", count(phase.counts.offered as f64)));
    let words = format!("of the{of} messages of conversations in the storm arrived in time");
    Card { number: run.summary.fg_success.map(percent), words }
}

fn latency(summary: &Summary) -> Card {
    let words = match (summary.fg_p99_ms.quiet, summary.fg_p99_ms.storm) {
        (Some(quiet), Some(storm)) => {
            format!("their p99 in the storm to the quiet one: {} → {}", ms(quiet), ms(storm))
        }
        _ => "their p99 in the storm to the quiet one".to_owned(),
    };
    Card { number: summary.fg_p99_ratio.map(times), words }
}

/// Logins; in a scenario without them messages, or what became of live sessions.
fn let_in(summary: &Summary) -> Card {
    let logins = &summary.logins;
    if logins.offered_per_s.is_none() {
        return served(summary);
    }
    let words = match logins.done_per_s {
        Some(done) => format!("of the logins that were possible were done: {} a second", count(done)),
        None => "of the logins that were possible were done".to_owned(),
    };
    Card { number: logins.done_of_possible.map(percent), words }
}

fn served(summary: &Summary) -> Card {
    match summary.figures.get("goodput_of_capacity") {
        Some(share) => Card {
            number: Some(percent(*share)),
            words: if summary.capacity.messages_full_per_s.is_some() {
                "of the messages that this server can do at most were served".to_owned()
            } else {
                "of the messages that this server can do, one by one, were served".to_owned()
            },
        },
        None => Card {
            number: Some(count(summary.live_sessions_closed as f64)),
            words: "live sessions were closed by the server".to_owned(),
        },
    }
}

fn lost(summary: &Summary) -> Card {
    let found = [summary.lost, summary.duplicated, summary.reordered, summary.misdelivered];
    let all: Option<u64> = found.into_iter().sum();
    let words = "messages lost, doubled, out of order or delivered to strangers";
    Card { number: all.map(|all| count(all as f64)), words: words.to_owned() }
}
