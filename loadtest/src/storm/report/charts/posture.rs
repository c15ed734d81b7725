//! The posture of the server as a band over a chart: what it was, from when to when.

use crate::storm::report::escape::text;
use crate::storm::report::plot::{LETTER, Plot};
use crate::storm::result::Run;

/// Height of the band.
pub const HEIGHT: f64 = 22.0;

/// A posture that lasted for a moment is still to be seen.
const WIDTH_MIN: f64 = 2.0;

/// One posture, from when to when.
#[derive(Debug, Clone, PartialEq)]
pub struct Spell<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its beginning.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
}

/// The postures of a run one after the other. Before the first that was heard there is none.
pub fn spells<'a>(run: &'a Run, span_s: (f64, f64)) -> Vec<Spell<'a>> {
    let ends = run.postures.iter().skip(1).map(|(at_s, _)| *at_s).chain([span_s.1]);
    let spell = |((from_s, name), to_s): (&'a (f64, String), f64)| Spell {
        name: name.as_str(),
        from_s: from_s.max(span_s.0),
        to_s: to_s.min(span_s.1),
    };
    run.postures.iter().zip(ends).map(spell).filter(|spell| spell.to_s > spell.from_s).collect()
}

/// The posture at a moment.
pub fn at<'a>(spells: &[Spell<'a>], at_s: f64) -> &'a str {
    spells
        .iter()
        .find(|spell| spell.from_s <= at_s && at_s < spell.to_s)
        .map_or("not heard", |spell| spell.name)
}

/// Class of a posture in the style sheet, and the sign that tells it without colour.
pub fn look(name: &str) -> (&'static str, &'static str) {
    match name {
        "normal" => ("p-normal", "●"),
        "guard" => ("p-guard", "▲"),
        "emergency" => ("p-emergency", "■"),
        "recovery" => ("p-recovery", "◆"),
        _ => ("p-other", "?"),
    }
}

/// The band, as wide as the plot under it.
pub fn band(plot: &Plot, top: f64, spells: &[Spell]) -> String {
    if spells.is_empty() {
        return format!(
            "<rect class=\"posture p-other\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\"/><text class=\"posture-name p-other\" x=\"{:.1}\" y=\"{:.1}\">posture: not measured</text>",
            plot.left,
            plot.width,
            plot.left + 6.0,
            top + 15.0
        );
    }
    spells.iter().map(|spell| drawn(plot, top, spell)).collect()
}

fn drawn(plot: &Plot, top: f64, spell: &Spell) -> String {
    let (class, sign) = look(spell.name);
    let from = plot.x(spell.from_s);
    let width = (plot.x(spell.to_s) - from).max(WIDTH_MIN);
    let full = format!("{sign} {}", spell.name.to_uppercase());
    let room = |label: &str| label.chars().count() as f64 * (LETTER + 1.2) + 8.0 <= width;
    let label = if room(&full) {
        full
    } else if room(sign) {
        sign.to_owned()
    } else {
        String::new()
    };
    format!(
        "<rect class=\"posture {class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"><title>{} from {:.2} s to {:.2} s</title></rect><text class=\"posture-name {class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        text(spell.name),
        spell.from_s,
        spell.to_s,
        from + 5.0,
        top + 15.0,
        text(&label)
    )
}
