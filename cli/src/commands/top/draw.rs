//! The picture: what was heard, as cells. Pure: the same picture and the same time give the same cells.
//!
//! Every state is said in words as well as in colour, so that it can be read without colours.

mod classes;
mod over;
mod parts;

use buslane_shared::UnixMs;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};

use super::keys::{Over, Ui};
use super::picture::Picture;
use crate::output::printable;
use crate::time_text::{hour_minute, span};

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// There are.
    Colour,
    /// There are none: `NO_COLOR`, or a text.
    Plain,
}

impl Ink {
    /// A colour where there are any.
    pub fn of(self, colour: Color) -> Style {
        match self {
            Self::Colour => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }
}

// Those of Okabe and Ito, which nearly everybody can tell apart.
/// Served; well.
pub const GREEN: Color = Color::Rgb(0, 158, 115);
/// Deferred; not as it should be.
pub const ORANGE: Color = Color::Rgb(230, 159, 0);
/// Refused; down.
pub const RED: Color = Color::Rgb(213, 94, 0);

/// Smallest picture that shows anything.
const COLUMNS_MIN: u16 = 60;
const ROWS_MIN: u16 = 16;

/// Draws all of it.
pub fn all(to: &mut Buffer, picture: &Picture, ui: &Ui, now_ms: UnixMs, ink: Ink) {
    let area = to.area;
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        let said = format!("make this larger: at least {COLUMNS_MIN} columns and {ROWS_MIN} rows");
        return Paragraph::new(said).render(area, to);
    }
    let alerts = u16::try_from(parts::alert_count(picture)).unwrap_or(u16::MAX).clamp(1, 4);
    let [banner, summary, figures, classes, middle, below, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(classes::rows(ui)),
        Constraint::Min(3),
        Constraint::Length(alerts),
        Constraint::Length(1),
    ])
    .areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(middle);
    self::banner(banner, to, picture, now_ms, ink);
    line(summary, to, self::summary(picture, now_ms), ink.of(RED), picture.stale_ms(now_ms).is_some());
    Paragraph::new(self::figures(picture)).render(figures, to);
    classes::draw(classes, to, picture, ui, ink);
    parts::protocols(left, to, picture, ui);
    parts::nodes(right, to, picture, ui, ink);
    parts::alerts(below, to, picture, now_ms, ink);
    Paragraph::new(self::footer(ui)).style(Style::new().add_modifier(Modifier::DIM)).render(footer, to);
    over::draw(area, to, ui);
}

/// The cells as text, without what stands empty at the ends of lines.
pub fn text(buffer: &Buffer) -> String {
    let columns = usize::from(buffer.area.width).max(1);
    let lines = buffer.content().chunks(columns).map(|row| {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn line(area: Rect, to: &mut Buffer, text: String, loud: Style, is_loud: bool) {
    let style = if is_loud { loud.add_modifier(Modifier::BOLD) } else { Style::new() };
    Paragraph::new(Line::styled(text, style)).render(area, to);
}

/// Posture, since when, why, and the order that holds.
fn banner(area: Rect, to: &mut Buffer, picture: &Picture, now_ms: UnixMs, ink: Ink) {
    let stale = picture.stale_ms(now_ms).is_some();
    let name = picture.posture.as_ref().and_then(|posture| posture.posture.as_deref());
    let colour = match name {
        _ if stale => Color::Gray,
        Some("normal") => GREEN,
        Some("guard" | "recovery") => ORANGE,
        Some("emergency") => RED,
        _ => Color::Gray,
    };
    let style = match ink {
        Ink::Colour => Style::new().bg(colour).fg(Color::Black),
        Ink::Plain => Style::new().add_modifier(Modifier::REVERSED),
    };
    to.set_style(area, style.add_modifier(Modifier::BOLD));
    Paragraph::new(posture(picture, now_ms, stale)).render(area, to);
}

fn posture(picture: &Picture, now_ms: UnixMs, stale: bool) -> String {
    let Some(posture) = &picture.posture else { return " posture UNKNOWN".to_owned() };
    let mut said = match (&posture.posture, stale) {
        (None, _) => " this role has no posture of its own".to_owned(),
        (Some(name), false) => format!(" {}", printable(name).to_uppercase()),
        (Some(name), true) => format!(" was {}", printable(name).to_uppercase()),
    };
    if let Some(here) = &posture.here {
        said = format!(" {}:{said} since {}", printable(&here.node), hour_minute(here.since_ms));
        if let Some(cause) = &here.cause {
            said += &format!("  {} {:.2}, limit {:.2}", printable(&cause.signal), cause.value, cause.limit);
        }
    }
    if let Some(order) = &posture.order {
        let left = span(order.until_ms.saturating_sub(now_ms));
        let (author, reason) = (printable(&order.author), printable(&order.reason));
        said += &format!("  ORDER {} {author}: {reason}, {left} left", order.id);
    }
    said
}

/// What is going on, in a sentence; that it is not known any more comes first.
fn summary(picture: &Picture, now_ms: UnixMs) -> String {
    let status = picture.status.as_ref().map(|status| printable(&status.summary).into_owned());
    match (picture.stale_ms(now_ms), &picture.silent) {
        (Some(ms), Some(why)) => format!("STALE, nothing heard for {}: {}", span(ms), printable(why)),
        (Some(ms), None) => format!("STALE, nothing heard for {}", span(ms)),
        (None, _) => status.unwrap_or_else(|| "what works is not known".to_owned()),
    }
}

fn figures(picture: &Picture) -> String {
    let Some(sample) = picture.samples.back() else {
        return "no samples: this role has no traffic of its own, ask a session manager".to_owned();
    };
    let logins = &sample.logins;
    let usual = logins.trend.map_or_else(String::new, |trend| format!(" (usual {:.0})", trend.usual_per_s));
    format!(
        "logins/s {:.0}{usual}, put off {:.0}  messages/s {:.0}  sessions {}+{}  cpu {:.2}  {} MiB",
        logins.offered_per_s,
        logins.deferred_per_s,
        sample.messages_per_s,
        sample.sessions_front,
        sample.sessions_wake,
        sample.processors,
        sample.resident_bytes / (1024 * 1024),
    )
}

fn footer(ui: &Ui) -> String {
    match &ui.over {
        Over::Filter => format!("filter: {}_   (Enter keeps it, Esc clears it)", ui.filter),
        _ => {
            let filter =
                if ui.filter.is_empty() { String::new() } else { format!("  filter {:?}", ui.filter) };
            format!(
                "? help  s sort: {}  f {}  / filter{filter}  o order  q quit",
                ui.sort.name(),
                ui.shown.name()
            )
        }
    }
}
