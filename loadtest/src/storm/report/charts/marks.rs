//! What was done to the server, as lines down a chart with labels that do not touch each other.

use crate::storm::report::axis::rows;
use crate::storm::report::escape::text;
use crate::storm::report::plot::{LETTER, Plot, Size};
use crate::storm::report::words;
use crate::storm::result::Run;

/// Height of a row of labels.
const ROW: f64 = 18.0;

/// Labels in more rows would leave no room for the chart; what does not fit has its number alone.
const ROWS_MAX: usize = 3;

/// Width of a number in its circle.
const NUMBER: f64 = 18.0;

struct Mark {
    number: usize,
    at_s: f64,
    label: String,
    row: Option<usize>,
}

/// Height of the labels over a chart.
pub fn height(run: &Run, size: Size) -> f64 {
    match (run.marks.is_empty(), size) {
        (true, _) => 0.0,
        (false, Size::Wide) => ROW * ROWS_MAX.min(run.marks.len()) as f64,
        (false, Size::Narrow) => ROW * 2.0,
    }
}

/// Lines and labels; the labels end at the top of the plots.
pub fn drawn(run: &Run, size: Size, plots: &[&Plot]) -> String {
    let Some(first) = plots.first() else { return String::new() };
    let inside = run.marks.iter().filter(|(at_s, _)| first.holds(*at_s));
    let lines = inside.flat_map(|(at_s, _)| plots.iter().map(|plot| plot.event(*at_s)));
    let labels = placed(run, size, first).into_iter().filter_map(|mark| label(&mark, first));
    lines.chain(labels).collect()
}

fn placed(run: &Run, size: Size, plot: &Plot) -> Vec<Mark> {
    let mut marks: Vec<Mark> = (1..)
        .zip(&run.marks)
        .filter(|(_, (at_s, _))| plot.holds(*at_s))
        .map(|(number, (at_s, what))| Mark {
            number,
            at_s: *at_s,
            label: if size == Size::Wide { what.clone() } else { String::new() },
            row: None,
        })
        .collect();
    marks.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    // A label that would leave the picture is dropped; its number stays.
    for mark in &mut marks {
        if plot.x(mark.at_s) + width(mark) > size.width() {
            mark.label.clear();
        }
    }
    let rows_max = if size == Size::Wide { ROWS_MAX.min(marks.len()) } else { 2 };
    let places: Vec<(f64, f64)> =
        marks.iter().map(|mark| (plot.x(mark.at_s) - NUMBER / 2.0, width(mark))).collect();
    for (mark, row) in marks.iter_mut().zip(rows(&places, rows_max)) {
        mark.row = row;
    }
    marks
}

fn width(mark: &Mark) -> f64 {
    NUMBER + 6.0 + mark.label.chars().count() as f64 * LETTER
}

fn label(mark: &Mark, plot: &Plot) -> Option<String> {
    let (x, y) = (plot.x(mark.at_s), ROW * mark.row? as f64 + 9.0);
    Some(format!(
        "<circle class=\"mark\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\"/><text class=\"mark-number\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text class=\"mark-label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        y + 4.0,
        mark.number,
        x + 12.0,
        y + 4.0,
        text(&mark.label)
    ))
}

/// All of them as a list, for the numbers in the chart.
pub fn listed(run: &Run) -> String {
    if run.marks.is_empty() {
        return String::new();
    }
    let item = |(at_s, what): &(f64, String)| {
        format!("<li>{}: {}</li>", words::seconds((at_s * 10.0).round() / 10.0), text(what))
    };
    format!("<ol class=\"marks\">{}</ol>", run.marks.iter().map(item).collect::<String>())
}
