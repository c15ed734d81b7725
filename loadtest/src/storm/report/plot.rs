//! A rectangle with a time axis and a scale, drawn as SVG: grid, areas, lines, and what lies behind them.

use super::axis::{Scale, time_label, time_ticks};
use super::escape::text;

/// For which screens a picture is drawn: text keeps its size, so each has its own drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A desk.
    Wide,
    /// A phone, or one of several pictures side by side.
    Narrow,
}

impl Size {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Wide, Self::Narrow];

    /// Width of a picture.
    pub fn width(self) -> f64 {
        match self {
            Self::Wide => 1_000.0,
            Self::Narrow => 360.0,
        }
    }

    /// Its class in the style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    /// Labels that a time axis has room for.
    pub fn time_ticks(self) -> usize {
        match self {
            Self::Wide => 12,
            Self::Narrow => 5,
        }
    }
}

/// Room for the labels of a scale.
pub const LEFT: f64 = 52.0;

/// Room behind the last point, for half of the last label.
pub const RIGHT: f64 = 14.0;

/// Room for the labels of a time axis.
pub const TIME_AXIS: f64 = 22.0;

/// Width of a letter in labels, about.
pub const LETTER: f64 = 6.6;

/// A rectangle with a time axis and a scale.
#[derive(Debug, Clone, Copy)]
pub struct Plot {
    /// Its upper edge.
    pub top: f64,
    /// Its height.
    pub height: f64,
    /// Its left edge.
    pub left: f64,
    /// Its width.
    pub width: f64,
    /// The time at its left edge.
    pub from_s: f64,
    /// The time at its right edge.
    pub to_s: f64,
    /// Its scale.
    pub scale: Scale,
}

impl Plot {
    /// As wide as its picture allows.
    pub fn new(size: Size, top: f64, height: f64, span_s: (f64, f64), scale: Scale) -> Self {
        let width = size.width() - LEFT - RIGHT;
        Self { top, height, left: LEFT, width, from_s: span_s.0, to_s: span_s.1, scale }
    }

    /// Where a time is.
    pub fn x(&self, at_s: f64) -> f64 {
        let share = (at_s - self.from_s) / (self.to_s - self.from_s);
        self.left + self.width * share.clamp(0.0, 1.0)
    }

    /// Whether a time is on its axis.
    pub fn holds(&self, at_s: f64) -> bool {
        self.from_s <= at_s && at_s <= self.to_s
    }

    /// Where a value is.
    pub fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - self.scale.place(value))
    }

    /// The lower edge.
    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    fn right(&self) -> f64 {
        self.left + self.width
    }

    /// The storm as a shade behind everything.
    pub fn storm(&self, storm_s: f64) -> String {
        let (from, to) = (self.x(0.0), self.x(storm_s));
        format!(
            "<rect class=\"storm\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            self.top,
            (to - from).max(0.0),
            self.height
        )
    }

    /// Lines and labels of the scale.
    pub fn grid(&self, ticks: usize, label: fn(f64) -> String) -> String {
        let line = |value: f64| {
            let y = self.y(value);
            format!(
                "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                self.left,
                self.right(),
                self.left - 6.0,
                y + 4.0,
                label(value)
            )
        };
        self.scale.ticks(ticks).into_iter().map(line).collect()
    }

    /// Labels of the time axis, under the plot.
    pub fn time_axis(&self, size: Size) -> String {
        let span_s = self.to_s - self.from_s;
        let label = |at_s: f64| {
            let x = self.x(at_s);
            format!(
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                self.bottom(),
                self.bottom() + 4.0,
                self.bottom() + 17.0,
                time_label(at_s, span_s)
            )
        };
        let labels: String =
            time_ticks(self.from_s, self.to_s, size.time_ticks()).into_iter().map(label).collect();
        format!(
            "<line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>{labels}",
            self.left,
            self.right(),
            y = self.bottom()
        )
    }

    /// Stairs between two lines; each point holds from its beginning to the next.
    pub fn area(&self, begins_s: &[f64], bottoms: &[f64], tops: &[f64], class: &str) -> String {
        let upper = self.stairs(begins_s, tops);
        let mut lower = self.stairs(begins_s, bottoms);
        lower.reverse();
        let points: Vec<String> =
            upper.into_iter().chain(lower).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        format!("<polygon class=\"{class}\" points=\"{}\"/>", points.join(" "))
    }

    /// Stairs as a line.
    pub fn steps(&self, begins_s: &[f64], values: &[f64], class: &str) -> String {
        let points: Vec<String> =
            self.stairs(begins_s, values).into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        format!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "))
    }

    /// The corners of stairs; those that lie on a straight line are left out.
    fn stairs(&self, begins_s: &[f64], values: &[f64]) -> Vec<(f64, f64)> {
        let mut corners: Vec<(f64, f64)> = Vec::new();
        let ends = begins_s.iter().skip(1).copied().chain([self.to_s]);
        for ((begin_s, end_s), value) in begins_s.iter().zip(ends).zip(values) {
            let y = self.y(*value);
            match corners.last_mut() {
                Some(last) if (last.1 - y).abs() < 0.05 => last.0 = self.x(end_s),
                _ => corners.extend([(self.x(*begin_s), y), (self.x(end_s), y)]),
            }
        }
        corners
    }

    /// A line through what was measured, with a gap where nothing was. A value with nothing beside it is a short bar.
    pub fn line(&self, begins_s: &[f64], step_s: f64, values: &[Option<f64>], class: &str) -> String {
        let mut path = String::new();
        let mut before = None;
        let mut rest = begins_s.iter().zip(values).peekable();
        while let Some((begin_s, value)) = rest.next() {
            let Some(value) = *value else {
                before = None;
                continue;
            };
            let alone = before.is_none() && rest.peek().is_none_or(|(_, next)| next.is_none());
            let (x, y) = (self.x(begin_s + step_s / 2.0), self.y(value));
            path.push_str(&match (alone, before) {
                (true, _) => format!("M{:.1} {y:.1}H{:.1}", self.x(*begin_s), self.x(begin_s + step_s)),
                (false, None) => format!("M{x:.1} {y:.1}"),
                (false, Some(())) => format!("L{x:.1} {y:.1}"),
            });
            before = Some(());
        }
        format!("<path class=\"{class}\" d=\"{path}\"/>")
    }

    /// A line across, for something that everything is held against.
    pub fn level(&self, value: f64, class: &str) -> String {
        let y = self.y(value);
        format!(
            "<line class=\"{class}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            self.left,
            self.right()
        )
    }

    /// A line down, for something that happened.
    pub fn event(&self, at_s: f64) -> String {
        let x = self.x(at_s);
        format!(
            "<line class=\"event\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            self.top,
            self.bottom()
        )
    }

    /// A title inside, above the plot.
    pub fn caption(&self, words: &str) -> String {
        format!(
            "<text class=\"caption\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            self.left,
            self.top - 7.0,
            text(words)
        )
    }
}

/// A drawing. The script finds the plots' edges and times in it.
pub fn picture(size: Size, height: f64, plot: &Plot, label: &str, body: &str) -> String {
    format!(
        "<svg class=\"{}\" viewBox=\"0 0 {} {height:.0}\" role=\"img\" aria-label=\"{}\" tabindex=\"0\" data-left=\"{:.1}\" data-right=\"{:.1}\">{body}<line class=\"cross\" y1=\"0\" y2=\"{:.0}\"/></svg>",
        size.class(),
        size.width(),
        text(label),
        plot.left,
        plot.right(),
        height - TIME_AXIS,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        Plot {
            top: 0.0,
            height: 100.0,
            left: 0.0,
            width: 100.0,
            from_s: 0.0,
            to_s: 4.0,
            scale: Scale::Linear(10.0),
        }
    }

    #[test]
    fn stairs_hold_until_the_next_point() {
        let corners = plot().stairs(&[0.0, 1.0, 2.0, 3.0], &[10.0, 10.0, 0.0, 0.0]);
        assert_eq!(corners, [(0.0, 0.0), (50.0, 0.0), (50.0, 100.0), (100.0, 100.0)]);
        assert_eq!(plot().stairs(&[], &[]), []);
    }

    #[test]
    fn a_line_has_gaps_and_shows_what_stands_alone() {
        let line = plot().line(&[0.0, 1.0, 2.0, 3.0], 1.0, &[Some(5.0), Some(10.0), None, Some(0.0)], "p99");
        assert_eq!(line, "<path class=\"p99\" d=\"M12.5 50.0L37.5 0.0M75.0 100.0H100.0\"/>");
    }
}
