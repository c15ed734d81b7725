//! Why clients were turned away, and what became of the promise to let them in later.

use std::collections::BTreeMap;

use crate::storm::report::escape::text;
use crate::storm::report::words::{NOT_MEASURED, count, or_not, percent, three_digits};
use crate::storm::result::Run;
use crate::storm::tally::Stream;
use crate::storm::timing::Phase;

/// More reasons than these are told together.
const REASONS_MAX: usize = 12;

/// Refusals by reason, the most frequent first.
pub fn reasons(run: &Run) -> String {
    let mut found = by_reason(run);
    found.sort_by_key(|reason| std::cmp::Reverse(reason.all()));
    if found.is_empty() {
        return "<p class=\"absent\">Nobody was refused, put off or left without an answer.</p>".to_owned();
    }
    let most = found.first().map_or(0, Reason::all);
    let rest = found.split_off(found.len().min(REASONS_MAX));
    let rows: String = found.iter().map(|reason| reason.row(most)).collect();
    let others: u64 = rest.iter().map(Reason::all).sum();
    let more = if others == 0 {
        String::new()
    } else {
        format!("<p class=\"note\">And {} of {} other kinds.</p>", count(others as f64), rest.len())
    };
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>who, and why</th><th class=\"bars\"></th><th class=\"n\">quiet</th><th class=\"n\">storm</th><th class=\"n\">after</th></tr></thead><tbody>{rows}</tbody></table></div>{more}"
    )
}

struct Reason<'a> {
    stream: Stream,
    name: &'a str,
    counts: [u64; 3],
}

impl Reason<'_> {
    fn all(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn row(&self, most: u64) -> String {
        let share = self.all() as f64 / most.max(1) as f64 * 100.0;
        let counts: String = self
            .counts
            .iter()
            .map(|number| format!("<td class=\"n\">{}</td>", count(*number as f64)))
            .collect();
        format!(
            "<tr><td>{}<br><b>{}</b></td><td class=\"bars\"><i class=\"bar\" style=\"width:{share:.1}%\"></i></td>{counts}</tr>",
            text(self.stream.title()),
            text(self.name)
        )
    }
}

fn by_reason(run: &Run) -> Vec<Reason<'_>> {
    let mut found: BTreeMap<(Stream, &str), [u64; 3]> = BTreeMap::new();
    for (stream, figures) in &run.streams {
        for (place, phase) in Phase::ALL.iter().enumerate() {
            for (name, number) in figures.phases.get(phase).into_iter().flat_map(|phase| &phase.reasons) {
                let counts = found.entry((*stream, name.as_str())).or_default();
                if let Some(count) = counts.get_mut(place) {
                    *count += number;
                }
            }
        }
    }
    found.into_iter().map(|((stream, name), counts)| Reason { stream, name, counts }).collect()
}

/// Slots promised against kept.
pub fn slots(run: &Run) -> String {
    let logins = &run.summary.logins;
    if logins.offered_per_s.is_none() {
        return "<p class=\"absent\">Nobody wanted to log in in this scenario.</p>".to_owned();
    }
    if logins.deferred == 0 {
        return "<p class=\"absent\">Nobody was put off.</p>".to_owned();
    }
    let kept = logins.slots_kept;
    let gauge = kept.map_or_else(String::new, |kept| {
        let width = kept.clamp(0.0, 1.0) * 100.0;
        format!("<div class=\"gauge\" role=\"img\" aria-label=\"slots kept: {}\"><i style=\"width:{width:.1}%\"></i></div>", percent(kept))
    });
    let facts = [
        ("clients put off at least once", count(logins.deferred as f64)),
        ("slots promised", count(logins.slots_promised as f64)),
        ("let in when they came in their slot", or_not(kept, percent)),
        (
            "tries of a client that was put off",
            logins.attempts_per_deferred.map_or_else(|| NOT_MEASURED.to_owned(), three_digits),
        ),
        ("not in at the end", count(logins.left_outside as f64)),
    ];
    let rows: String =
        facts.iter().map(|(what, value)| format!("<dt>{what}</dt><dd>{}</dd>", text(value))).collect();
    format!("{gauge}<dl class=\"facts\">{rows}</dl>")
}
